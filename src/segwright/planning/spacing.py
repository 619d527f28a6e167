"""Which spacing to resample to, and which axis comes first (nnU-Net v2, full-resolution target spacing)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from segwright.errors import PlanError, message

if TYPE_CHECKING:
    from segwright.fingerprint import Fingerprint

ANISOTROPY_THRESHOLD = 3
_JUST_ABOVE_MM = 1e-5  # nnU-Net keeps the coarse axis the coarsest by this much


@dataclass(frozen=True)
class TargetSpacing:
    """The full-resolution spacing and what decided it. Axes are in the order of the images, before any transpose.

    `spacing_is_anisotropic`: the coarsest axis is more than 3 times as coarse as the next. `shape_is_anisotropic`: it
    also has less than a third of the voxels of each other axis.
    """

    spacing_mm: tuple[float, ...]
    rule: Literal["median", "10th percentile", "override"]
    median_spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    coarsest_axis: int
    spacing_is_anisotropic: bool
    shape_is_anisotropic: bool
    was_held_above_other_axes: bool = False


def choose_target_spacing(fingerprint: Fingerprint, override_mm: Sequence[float] | None = None) -> TargetSpacing:
    """Choose the spacing of `3d_fullres` and `2d`: the median of each axis, or for the slices of strongly anisotropic
    data the 10th percentile, or `override_mm` in the order of the images.

    Raises:
        PlanError: for an override that is not three numbers above 0.
    """
    spacings = np.asarray(fingerprint.spacings_mm, dtype=np.float64)
    # percentile and median differ in the last bit for an even number of cases; nnU-Net plans with the percentile
    target = np.percentile(spacings, 50, 0)
    size = np.percentile(np.asarray(fingerprint.shapes_after_crop, dtype=np.float64), 50, 0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    widest_other = max(target[axis] for axis in others)
    coarse = bool(target[worst] > ANISOTROPY_THRESHOLD * widest_other)
    few = bool(size[worst] * ANISOTROPY_THRESHOLD < min(size[axis] for axis in others))
    chosen = target.copy()
    rule: Literal["median", "10th percentile", "override"] = "median"
    held = False
    if override_mm is not None:
        chosen, rule = np.array(_checked_override(override_mm)), "override"
    elif coarse and few:
        fine = np.percentile(spacings[:, worst], 10)
        held = bool(fine < widest_other)
        chosen[worst] = widest_other + _JUST_ABOVE_MM if held else fine
        rule = "10th percentile"
    return TargetSpacing(
        spacing_mm=tuple(float(value) for value in chosen),
        rule=rule,
        median_spacing_mm=tuple(float(value) for value in target),
        median_shape=tuple(float(value) for value in size),
        coarsest_axis=worst,
        spacing_is_anisotropic=coarse,
        shape_is_anisotropic=few,
        was_held_above_other_axes=held,
    )


def choose_transpose(spacing_mm: Sequence[float], *, suppress: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the order of axes that puts the coarsest first, and its inverse."""
    axes = list(range(len(spacing_mm)))
    first = 0 if suppress else int(np.argmax(spacing_mm))
    forward = [first, *(axis for axis in axes if axis != first)]
    return tuple(forward), tuple(forward.index(axis) for axis in axes)


def median_shape_at(fingerprint: Fingerprint, spacing_mm: Sequence[float]) -> tuple[float, ...]:
    """Median over the cases of the shape after resampling, in voxels; ends in .5 where two cases share the middle.

    Raises:
        PlanError: where the spacing leaves an axis without a voxel.
    """
    spacings = np.asarray(fingerprint.spacings_mm, dtype=np.float64)
    shapes = np.asarray(fingerprint.shapes_after_crop, dtype=np.float64)
    median = np.median(np.rint(spacings / np.asarray(spacing_mm) * shapes), axis=0)
    if not np.all(median > 0):
        raise PlanError(
            message(
                "target spacing",
                expected="a spacing at which most images have a voxel along each axis",
                got=f"{list(spacing_mm)} mm, which leaves a median shape of {median.tolist()}",
                remedy="Choose a finer target spacing.",
            )
        )
    return tuple(float(value) for value in median)


def _checked_override(override_mm: Sequence[float]) -> list[float]:
    values = [float(value) for value in override_mm]
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise PlanError(
            message(
                "target spacing to use instead",
                expected="three numbers above 0, in mm, in the order of the images' axes (z, y, x)",
                got=str(list(override_mm)),
                remedy="Give one for each axis.",
            )
        )
    return values
