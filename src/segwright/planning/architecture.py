"""The network of a configuration: entry `architecture` of a plans file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from segwright.planning.fields import Fields, in_words, is_whole_within

Kind = Literal["plain", "residual", "other"]
_KINDS: dict[str, Kind] = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
BLOCKS_KEY = {"plain": "n_conv_per_stage", "residual": "n_blocks_per_stage"}
# What no network has; whether a smaller one fits into the memory is asked elsewhere.
MOST_STAGES = 32
MOST_FEATURES = 65_536
MOST_BLOCKS = 100
LARGEST_KERNEL = 99
LARGEST_STRIDE = 64
_READ_KEYS = frozenset(
    {
        "n_stages",
        "features_per_stage",
        "conv_op",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage_decoder",
        "conv_bias",
        "norm_op",
        "norm_op_kwargs",
        "dropout_op",
        "dropout_op_kwargs",
        "nonlin",
        "nonlin_kwargs",
    }
)


@dataclass(frozen=True)
class Architecture:
    """A network as a plan describes it. Names of classes are dotted, as in the file; axes are (z, y, x) or (y, x).

    `kind` is `other` for a network that is not one of nnU-Net's two; then only `network_class_name`, `spatial_dims`
    and `other_kwargs` (all of its arguments) say anything. Elsewhere `other_kwargs` holds arguments that nnU-Net's
    planners never write, such as `stem_channels`.
    """

    network_class_name: str
    kind: Kind
    num_stages: int
    features_per_stage: tuple[int, ...]
    spatial_dims: int
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks_per_stage: tuple[int, ...]
    convs_per_decoder_stage: tuple[int, ...]
    conv_bias: bool
    norm_op: str | None
    norm_op_kwargs: Mapping[str, Any]
    dropout_op: str | None
    dropout_op_kwargs: Mapping[str, Any] | None
    nonlin: str | None
    nonlin_kwargs: Mapping[str, Any]
    other_kwargs: Mapping[str, Any]

    @property
    def is_computable(self) -> bool:
        """Whether memory and time of the network can be computed: nnU-Net's own, with a stage below the first."""
        return self.kind != "other" and self.num_stages > 1

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Product of the strides along each axis: what a patch must be divisible by."""
        total = [1] * self.spatial_dims
        for stride in self.strides:
            total = [a * b for a, b in zip(total, stride, strict=True)]
        return tuple(total)


def parse_architecture(fields: Fields, *, spatial_dims: int) -> Architecture:
    """Read and check an entry `architecture`.

    Raises:
        PlanError: naming the key that is missing, of the wrong type, or of a length that disagrees.
    """
    name = fields.text("network_class_name")
    kind = _KINDS.get(name.rsplit(".", 1)[-1], "other")
    kwargs = fields.inner("arch_kwargs")
    if kind == "other":
        return _foreign(name, kwargs, spatial_dims)
    stages = kwargs.whole_number("n_stages", minimum=1, maximum=MOST_STAGES, remedy="Count the entries of 'strides'.")
    _check_conv_op(kwargs, spatial_dims)
    return Architecture(
        network_class_name=name,
        kind=kind,
        num_stages=stages,
        features_per_stage=_per_stage(kwargs, "features_per_stage", stages, MOST_FEATURES),
        spatial_dims=spatial_dims,
        kernel_sizes=_kernel_sizes(kwargs, stages, spatial_dims),
        strides=_strides(kwargs, stages, spatial_dims),
        blocks_per_stage=_per_stage(kwargs, BLOCKS_KEY[kind], stages, MOST_BLOCKS),
        convs_per_decoder_stage=_per_stage(
            kwargs,
            "n_conv_per_stage_decoder",
            stages - 1,
            MOST_BLOCKS,
            "the decoder's stages (one fewer than 'n_stages')",
        ),
        conv_bias=kwargs.flag("conv_bias") if "conv_bias" in kwargs.values else False,
        norm_op=kwargs.optional_text("norm_op"),
        norm_op_kwargs=kwargs.optional_mapping("norm_op_kwargs") or {},
        dropout_op=kwargs.optional_text("dropout_op"),
        dropout_op_kwargs=kwargs.optional_mapping("dropout_op_kwargs"),
        nonlin=kwargs.optional_text("nonlin"),
        nonlin_kwargs=kwargs.optional_mapping("nonlin_kwargs") or {},
        other_kwargs={k: v for k, v in kwargs.values.items() if k not in _READ_KEYS and k != BLOCKS_KEY[kind]},
    )


def _foreign(name: str, kwargs: Fields, spatial_dims: int) -> Architecture:
    return Architecture(
        network_class_name=name,
        kind="other",
        num_stages=0,
        features_per_stage=(),
        spatial_dims=spatial_dims,
        kernel_sizes=(),
        strides=(),
        blocks_per_stage=(),
        convs_per_decoder_stage=(),
        conv_bias=False,
        norm_op=None,
        norm_op_kwargs={},
        dropout_op=None,
        dropout_op_kwargs=None,
        nonlin=None,
        nonlin_kwargs={},
        other_kwargs=dict(kwargs.values),
    )


def _check_conv_op(kwargs: Fields, spatial_dims: int) -> None:
    conv_op = kwargs.text("conv_op")
    wanted = f"Conv{spatial_dims}d"
    if conv_op.rsplit(".", 1)[-1] != wanted:
        raise kwargs.error(
            "conv_op",
            expected=f"a {wanted}, because the patch has {spatial_dims} axes",
            got=repr(conv_op),
            remedy=f'Write "torch.nn.modules.conv.{wanted}", or a patch with as many axes.',
        )


def _per_stage(kwargs: Fields, key: str, stages: int, maximum: int, of_what: str = "the stages") -> tuple[int, ...]:
    value = kwargs.required(key)
    if is_whole_within(value, 1, maximum):
        return (value,) * stages
    if stages == 0 and isinstance(value, Sequence) and not value:
        return ()
    numbers = kwargs.whole_numbers(key, maximum=maximum)
    kwargs.check_length(key, len(numbers), stages, of_what if stages else f"{of_what}, which are none")
    return numbers


def _kernel_sizes(kwargs: Fields, stages: int, dims: int) -> tuple[tuple[int, ...], ...]:
    kernels = _per_axis(kwargs, "kernel_sizes", stages, dims, LARGEST_KERNEL)
    even = next((edge for kernel in kernels for edge in kernel if edge % 2 == 0), None)
    if even is not None:
        raise kwargs.error(
            "kernel_sizes",
            expected="odd numbers, because an even kernel has no middle and changes the size of the map",
            got=even,
            remedy=f"Take {even - 1} or {even + 1}; nnU-Net's are 3, or 1 along a coarse axis.",
        )
    return kernels


def _strides(kwargs: Fields, stages: int, dims: int) -> tuple[tuple[int, ...], ...]:
    strides = _per_axis(kwargs, "strides", stages, dims, LARGEST_STRIDE)
    if any(step != 1 for step in strides[0]):
        raise kwargs.error(
            "strides",
            expected=f"{[1] * dims} for the first stage, or the label map would be smaller than the image",
            got=list(strides[0]),
            remedy="Put a stage with this stride of 1 before it.",
        )
    return strides


def _per_axis(kwargs: Fields, key: str, stages: int, dims: int, maximum: int) -> tuple[tuple[int, ...], ...]:
    value = kwargs.required(key)
    if is_whole_within(value, 1, maximum):
        return ((value,) * dims,) * stages
    expected = f"for each of the {stages} stages a list of {dims} whole numbers {in_words(1, maximum)}"
    entries = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    read = tuple(_axes(entry, dims, maximum) for entry in entries)
    if len(read) != stages or any(entry is None for entry in read):
        raise kwargs.error(key, expected=expected, got=repr(value), remedy="Correct the entries.")
    return tuple(entry for entry in read if entry is not None)


def _axes(entry: object, dims: int, maximum: int) -> tuple[int, ...] | None:
    if is_whole_within(entry, 1, maximum):
        return (entry,) * dims
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != dims:
        return None
    return tuple(entry) if all(is_whole_within(number, 1, maximum) for number in entry) else None


def architecture_entry(
    network_class_name: str,
    *,
    dims: int,
    features_per_stage: list[int],
    kernel_sizes: list[list[int]],
    strides: list[list[int]],
    blocks: Mapping[str, list[int]],
    convs_per_decoder_stage: list[int],
) -> dict[str, Any]:
    """Write the entry `architecture` of a configuration, keys in nnU-Net's order.

    `blocks` is the one key that differs between its two networks, with its value: `n_conv_per_stage` or
    `n_blocks_per_stage`.
    """
    return {
        "network_class_name": network_class_name,
        "arch_kwargs": {
            "n_stages": len(features_per_stage),
            "features_per_stage": features_per_stage,
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": kernel_sizes,
            "strides": strides,
            **blocks,
            "n_conv_per_stage_decoder": convs_per_decoder_stage,
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
