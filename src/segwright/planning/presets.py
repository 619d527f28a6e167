"""nnU-Net's planners as values, by the names of its classes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from segwright.errors import PlanError, message


@dataclass(frozen=True)
class PlannerPreset:
    """The numbers in which nnU-Net's planners differ.

    `reference_elements_*` is the size of all feature maps (elements, one sample) of the network that fills
    `reference_memory_gb` with a batch of 12 slices (2D) or 2 patches (3D). `max_dataset_covered` is the part of the
    data set's voxels that one batch may hold. With `counts_minimum_batch` a 2D patch may grow until the memory holds
    the smallest batch, 2; without, until it holds the 12 of the reference. `shares_default_data` lets `2d` and
    `3d_fullres` use what is preprocessed for the default planner.
    """

    name: str
    plans_name: str
    kind: Literal["plain", "residual"]
    reference_elements_3d: float
    reference_elements_2d: float
    reference_memory_gb: float
    max_dataset_covered: float
    counts_minimum_batch: bool
    shares_default_data: bool
    resampling: Literal["spline", "torch", "torch_separate_z", "none"] = "spline"


# (2, 2, 2, ...) and (1, 3, 4, 6, 6, ...): nnU-Net v2, planner classes
_ENCODER_BLOCKS = {"plain": (2,) * 14, "residual": (1, 3, 4, *(6,) * 10)}
_DECODER_CONVS = {"plain": 2, "residual": 1}

_DEFAULT = PlannerPreset(
    name="ExperimentPlanner",
    plans_name="nnUNetPlans",
    kind="plain",
    reference_elements_3d=560_000_000,
    reference_elements_2d=85_000_000,
    reference_memory_gb=8,
    max_dataset_covered=0.05,
    counts_minimum_batch=True,
    shares_default_data=False,
)
DEFAULT_PLANNER = _DEFAULT.name
_RESIDUAL = PlannerPreset(
    name="ResEncUNetPlanner",
    plans_name="nnUNetResEncUNetPlans",
    kind="residual",
    reference_elements_3d=680_000_000,
    reference_elements_2d=135_000_000,
    reference_memory_gb=8,
    max_dataset_covered=0.05,
    counts_minimum_batch=False,
    shares_default_data=True,
)
_RESIDUAL_L = replace(
    _RESIDUAL,
    name="nnUNetPlannerResEncL",
    plans_name="nnUNetResEncUNetLPlans",
    reference_elements_3d=2_100_000_000,
    reference_elements_2d=380_000_000,
    reference_memory_gb=24,
    max_dataset_covered=1,
)


def _own_data(base: PlannerPreset, **changes: Any) -> PlannerPreset:
    return replace(base, shares_default_data=False, **changes)


PLANNERS: Mapping[str, PlannerPreset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _DEFAULT,
            _RESIDUAL,
            replace(_RESIDUAL, name="nnUNetPlannerResEncM", plans_name="nnUNetResEncUNetMPlans", max_dataset_covered=1),
            _RESIDUAL_L,
            replace(
                _RESIDUAL_L,
                name="nnUNetPlannerResEncXL",
                plans_name="nnUNetResEncUNetXLPlans",
                reference_elements_3d=3_600_000_000,
                reference_elements_2d=560_000_000,
                reference_memory_gb=40,
            ),
            _own_data(_DEFAULT, name="nnUNetPlanner_torchres", plans_name="nnUNetPlans_torchres", resampling="torch"),
            _own_data(
                _RESIDUAL_L,
                name="nnUNetPlannerResEncL_torchres",
                plans_name="nnUNetResEncUNetLPlans_torchres",
                resampling="torch",
            ),
            _own_data(
                _RESIDUAL_L,
                name="nnUNetPlannerResEncL_torchres_sepz",
                plans_name="nnUNetResEncUNetLPlans_torchres_sepz",
                resampling="torch_separate_z",
            ),
            _own_data(
                _RESIDUAL_L,
                name="nnUNetPlannerResEncL_noResampling",
                plans_name="nnUNetResEncUNetLPlans_noResampling",
                resampling="none",
            ),
        )
    }
)


def planner_named(name: str) -> PlannerPreset:
    """Return a planner by the name of nnU-Net's class.

    Raises:
        PlanError: for an unknown name, with the nearest that is known.
    """
    if name in PLANNERS:
        return PLANNERS[name]
    near = difflib.get_close_matches(name, PLANNERS, n=1)
    raise PlanError(
        message(
            "planner",
            expected=f"one of {', '.join(PLANNERS)}",
            got=repr(name),
            remedy=f"Did you mean {near[0]}?" if near else "Choose one of them.",
        )
    )


def encoder_blocks(preset: PlannerPreset, num_stages: int) -> tuple[int, ...]:
    """Convolutions (plain) or residual blocks in each stage of the encoder.

    Raises:
        PlanError: for more stages than nnU-Net has blocks for, which takes an image of tens of thousands of voxels.
    """
    blocks = _ENCODER_BLOCKS[preset.kind]
    if num_stages > len(blocks):
        raise PlanError(
            message(
                "planner",
                expected=f"a network of at most {len(blocks)} resolutions",
                got=f"images and a spacing that ask for {num_stages}",
                remedy="Choose a coarser spacing.",
            )
        )
    return blocks[:num_stages]


def decoder_convs(preset: PlannerPreset, num_stages: int) -> tuple[int, ...]:
    """Convolutions in each stage of the decoder, which has one stage less than the encoder."""
    return (_DECODER_CONVS[preset.kind],) * (num_stages - 1)


def resampling_entries(preset: PlannerPreset) -> dict[str, Any]:
    """The six keys of a configuration that say how to resample, in nnU-Net's order."""
    function, data, seg, probabilities = _resampling(preset)
    return {
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_data_kwargs": data,
        "resampling_fn_seg_kwargs": seg,
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": probabilities,
    }


def _resampling(preset: PlannerPreset) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    if preset.resampling == "none":
        return "no_resampling_hack", {}, {}, {}
    if preset.resampling == "spline":
        tail: dict[str, Any] = {"order_z": 0, "force_separate_z": None}
        return (
            "resample_data_or_seg_to_shape",
            {"is_seg": False, "order": 3, **tail},
            {"is_seg": True, "order": 1, **tail},
            {"is_seg": False, "order": 1, **tail},
        )
    tail = {"force_separate_z": False, "memefficient_seg_resampling": False}
    if preset.resampling == "torch_separate_z":
        tail = {"force_separate_z": None, "memefficient_seg_resampling": False, "separate_z_anisotropy_threshold": 3}
    image, labels = {"is_seg": False, **tail}, {"is_seg": True, **tail}
    return "resample_torch_fornnunet", image, labels, dict(image)
