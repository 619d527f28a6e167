"""One configuration of a plan (`2d`, `3d_fullres`, ...): what to preprocess to, what to cut, what to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segwright.errors import PlanError
from segwright.names import parse_name
from segwright.planning.architecture import Architecture, parse_architecture
from segwright.planning.fields import Fields
from segwright.planning.wording import ordinal

NORMALIZATION_SCHEMES = (
    "CTNormalization",
    "NoNormalization",
    "ZScoreNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
# the defaults of each function for what a plan leaves out: order, order_z, force_separate_z (nnU-Net v2)
_RESAMPLING_DEFAULTS: dict[str, tuple[int, int, bool | None]] = {
    "resample_data_or_seg_to_shape": (3, 0, False),
    "resample_torch_fornnunet": (1, 0, None),
    "no_resampling_hack": (0, 0, False),
}
RESAMPLING_FUNCTIONS = tuple(_RESAMPLING_DEFAULTS)
LONGEST_PATCH_AXIS = 16_384
_RESAMPLING_KEYS = ("order", "order_z", "force_separate_z")


@dataclass(frozen=True)
class Resampling:
    """How an array is resampled: nnU-Net's function by name, spline orders in plane and along a separate z axis.

    `force_separate_z` None lets the spacing decide. `kwargs` holds the other arguments of the file, `is_seg` among
    them.
    """

    function: str
    order: int
    order_z: int
    force_separate_z: bool | None
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """A configuration, inheritance resolved and every value checked. Axes are (z, y, x) after the plan's transpose,
    or (y, x) for 2D.

    `raw` is the resolved entry of the file with everything in it, such as training settings added by hand.
    """

    name: str
    data_identifier: str
    preprocessor_name: str
    batch_size: int
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    median_image_size_in_voxels: tuple[float, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_data: Resampling
    resampling_seg: Resampling
    resampling_probabilities: Resampling
    architecture: Architecture
    batch_dice: bool
    previous_stage: str | None
    next_stages: tuple[str, ...]
    raw: Mapping[str, Any]

    @property
    def is_2d(self) -> bool:
        """Whether patches are slices: (y, x)."""
        return len(self.patch_size) == 2


def parse_configuration(name: str, values: Mapping[str, Any], *, where: str) -> Configuration:
    """Read and check a configuration whose inheritance is resolved and whose form is that of nnU-Net 2.5 or later.

    Raises:
        PlanError: naming the key, what it must hold and what would work.
    """
    fields = Fields(values, where)
    patch_size = _patch_size(fields)
    spacing = fields.positive_numbers("spacing")
    fields.check_length("spacing", len(spacing), len(patch_size), "the patch's axes")
    median_size = fields.positive_numbers("median_image_size_in_voxels")
    fields.check_length("median_image_size_in_voxels", len(median_size), len(patch_size), "the patch's axes")
    schemes = fields.texts("normalization_schemes", known=NORMALIZATION_SCHEMES)
    masked = fields.flags("use_mask_for_norm")
    fields.check_length("use_mask_for_norm", len(masked), len(schemes), "the normalization_schemes")
    architecture = parse_architecture(fields.inner("architecture"), spatial_dims=len(patch_size))
    _check_divisible(fields, patch_size, architecture)
    return Configuration(
        name=name,
        data_identifier=fields.name("data_identifier"),
        preprocessor_name=fields.text("preprocessor_name"),
        batch_size=fields.whole_number(
            "batch_size", minimum=1, remedy="nnU-Net never plans less than 2; 1 works and needs the least memory."
        ),
        patch_size=patch_size,
        spacing_mm=spacing,
        median_image_size_in_voxels=median_size,
        normalization_schemes=schemes,
        use_mask_for_norm=masked,
        resampling_data=_resampling(fields, "resampling_fn_data"),
        resampling_seg=_resampling(fields, "resampling_fn_seg"),
        resampling_probabilities=_resampling(fields, "resampling_fn_probabilities"),
        architecture=architecture,
        batch_dice=fields.flag("batch_dice"),
        previous_stage=None if values.get("previous_stage") is None else fields.name("previous_stage"),
        next_stages=_next_stages(fields),
        raw=values,
    )


def _patch_size(fields: Fields) -> tuple[int, ...]:
    patch_size = fields.whole_numbers("patch_size", maximum=LONGEST_PATCH_AXIS)
    if len(patch_size) not in (2, 3):
        raise fields.error(
            "patch_size",
            expected="2 whole numbers (y, x) or 3 (z, y, x)",
            got=str(list(patch_size)),
            remedy="Give one for each axis.",
        )
    return patch_size


def _check_divisible(fields: Fields, patch_size: tuple[int, ...], architecture: Architecture) -> None:
    total = architecture.total_stride
    wrong = [axis for axis, (size, stride) in enumerate(zip(patch_size, total, strict=True)) if size % stride]
    if not wrong:
        _check_deepest_map(fields, patch_size, architecture)
        return
    nearest = [_nearest_multiples(size, stride) for size, stride in zip(patch_size, total, strict=True)]
    choices = "; ".join(
        f"{ordinal(axis)} axis: {' or '.join(map(str, nearest[axis]))} instead of {patch_size[axis]}" for axis in wrong
    )
    raise fields.error(
        "patch_size",
        expected=f"sizes divisible by {list(total)}, the product of the network's strides",
        got=str(list(patch_size)),
        remedy=f"The nearest that work are, {choices}.",
    )


def _check_deepest_map(fields: Fields, patch_size: tuple[int, ...], architecture: Architecture) -> None:
    normalised_per_image = "InstanceNorm" in (architecture.norm_op or "")
    if architecture.kind != "other" and normalised_per_image and patch_size == architecture.total_stride:
        doubled = [2 * patch_size[0], *patch_size[1:]]
        raise fields.error(
            "patch_size",
            expected="a patch that leaves more than one voxel in the deepest feature map, or it cannot be normalised",
            got=f"{list(patch_size)}, which the strides reduce to a single voxel",
            remedy=f"Make an axis longer, such as {doubled}.",
        )


def _nearest_multiples(size: int, stride: int) -> tuple[int, ...]:
    below = size // stride * stride
    return tuple(multiple for multiple in (below, below + stride) if multiple > 0)


def _resampling(fields: Fields, key: str) -> Resampling:
    function = fields.text(key, known=RESAMPLING_FUNCTIONS)
    order, order_z, separate = _RESAMPLING_DEFAULTS[function]
    kwargs = fields.inner(f"{key}_kwargs")
    separate = kwargs.values.get("force_separate_z", separate)
    if separate is not None and not isinstance(separate, bool):
        raise kwargs.error("force_separate_z", expected="true, false or null", got=repr(separate), remedy="Correct it.")
    return Resampling(
        function=function,
        order=_spline_order(kwargs, "order", order),
        order_z=_spline_order(kwargs, "order_z", order_z),
        force_separate_z=separate,
        kwargs={k: v for k, v in kwargs.values.items() if k not in _RESAMPLING_KEYS},
    )


def _spline_order(kwargs: Fields, key: str, default: int) -> int:
    if key not in kwargs.values:
        return default
    order = kwargs.whole_number(key, minimum=0, remedy="nnU-Net's are 3 for images, 1 for labels, 0 along z.")
    if order > 5:
        raise kwargs.error(
            key, expected="a spline order of 0 to 5", got=order, remedy="3 is smooth, 1 linear, 0 nearest."
        )
    return order


def _next_stages(fields: Fields) -> tuple[str, ...]:
    value = fields.values.get("next_stage")
    if value is None:
        return ()
    stages = (fields.text("next_stage"),) if isinstance(value, str) else fields.texts("next_stage")
    where = f"{fields.where}, key 'next_stage'"
    return tuple(parse_name(stage, where=where, error=PlanError) for stage in stages)
