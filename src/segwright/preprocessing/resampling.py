"""Resample images and logits to another shape, equal to nnU-Net v2's `resample_data_or_seg_to_shape`.

That is scikit-image's `resize(order, mode="edge", anti_aliasing=False)`, which ends by clipping to the range of the
input; strongly anisotropic images are resampled slice by slice and by nearest neighbour across the slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import PlanError, message
from segwright.preprocessing.operators import NEAREST, NEAREST_OF_TORCH, resample_axes, resample_axis

if TYPE_CHECKING:
    from segwright.planning.configuration import Resampling

ANISOTROPY_THRESHOLD = 3.0
SPLINE = "resample_data_or_seg_to_shape"
TORCH = "resample_torch_fornnunet"
NONE = "no_resampling_hack"


def separate_axis(
    current_spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    *,
    force: bool | None = None,
    threshold: float = ANISOTROPY_THRESHOLD,
) -> int | None:
    """Axis along which slices are resampled each on its own, or None where all axes are resampled together.

    Without `force` it is the coarsest axis of the current spacing if that is more than `threshold` times as coarse as
    the finest, else of the new one (nnU-Net v2). Two equally coarse axes are never separated.
    """
    if force is False:
        return None
    spacing = np.asarray(current_spacing_mm, dtype=np.float64)
    if force is None and not spacing.max() / spacing.min() > threshold:
        spacing = np.asarray(new_spacing_mm, dtype=np.float64)
        if not spacing.max() / spacing.min() > threshold:
            return None
    coarsest = np.flatnonzero(spacing.max() / spacing == 1)
    return int(coarsest[0]) if len(coarsest) == 1 else None


def separate_axis_of(
    resampling: Resampling, current_spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]
) -> int | None:
    """Decide `separate_axis` with the settings of a plan."""
    threshold = float(resampling.kwargs.get("separate_z_anisotropy_threshold", ANISOTROPY_THRESHOLD))
    return separate_axis(current_spacing_mm, new_spacing_mm, force=resampling.force_separate_z, threshold=threshold)


def resample_image(
    array: NDArray[np.float32],
    new_shape: Sequence[int],
    *,
    current_spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    resampling: Resampling,
) -> NDArray[np.float32]:
    """Resample `array` (c, z, y, x) to (c, *new_shape) in float32, by the function that the plan names.

    Equal to the reference to 1e-5 of the range of the intensities. Returns `array` itself if nothing changes.

    Raises:
        PlanError: the resampling function is unknown.
    """
    shape = tuple(int(size) for size in new_shape)
    order, order_z = orders_of(resampling)
    if array.shape[1:] == shape or resampling.function == NONE:
        return array
    axis = separate_axis_of(resampling, current_spacing_mm, new_spacing_mm)
    out = np.empty((array.shape[0], *shape), dtype=np.float32)
    for channel, target in zip(array, out, strict=True):
        source = np.ascontiguousarray(channel, dtype=np.float32)
        if axis is None:
            target[...] = _interpolate(source, shape, order, (0, 1, 2), source.min(), source.max())
        else:
            target[...] = _resample_slices(source, shape, axis, order, order_z)
    return out


def resample_logits(
    logits: NDArray[np.float32],
    new_shape: Sequence[int],
    *,
    current_spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    resampling: Resampling,
) -> NDArray[np.float32]:
    """Resample logits or probabilities (k, z, y, x) to (k, *new_shape), as `resample_image` does an image."""
    return resample_image(
        logits,
        new_shape,
        current_spacing_mm=current_spacing_mm,
        new_spacing_mm=new_spacing_mm,
        resampling=resampling,
    )


def orders_of(resampling: Resampling) -> tuple[int, int]:
    """Orders in plane and across separate slices (see `operators`); nnU-Net's torch variant is linear and nearest.

    Raises:
        PlanError: the function or an argument of it is unknown.
    """
    if resampling.function not in (SPLINE, TORCH, NONE):
        raise PlanError(
            message(
                "plans, resampling function",
                expected=f"one of {SPLINE}, {TORCH} and {NONE}",
                got=repr(resampling.function),
                remedy="Name one of these in the configuration.",
            )
        )
    if resampling.function != TORCH:
        return resampling.order, resampling.order_z
    for key, only in (("mode", "linear"), ("aniso_axis_mode", "nearest-exact")):
        if resampling.kwargs.get(key, only) != only:
            raise PlanError(
                message(
                    f"plans, argument {key!r} of {TORCH}",
                    expected=repr(only),
                    got=repr(resampling.kwargs[key]),
                    remedy="Remove the argument.",
                )
            )
    return 1, NEAREST_OF_TORCH


def _resample_slices(
    channel: NDArray[Any], shape: tuple[int, ...], axis: int, order: int, order_z: int
) -> NDArray[Any]:
    in_plane = tuple(other for other in range(3) if other != axis)
    if order_z <= NEAREST and shape[axis] < channel.shape[axis]:  # drop slices before working on them
        channel = resample_axis(channel, axis, shape[axis], order_z)
    if any(channel.shape[other] != shape[other] for other in in_plane):
        low, high = channel.min(axis=in_plane, keepdims=True), channel.max(axis=in_plane, keepdims=True)
        channel = _interpolate(channel, shape, order, in_plane, low, high)
    if order_z <= NEAREST:
        return resample_axis(channel, axis, shape[axis], order_z)
    # across slices the reference leaves the overshoot of splines
    return _interpolate(channel, shape, order_z, (axis,), channel.min(), channel.max(), clip=order_z == 1)


def _interpolate(
    channel: NDArray[Any],
    shape: tuple[int, ...],
    order: int,
    axes: tuple[int, ...],
    low: Any,
    high: Any,
    *,
    clip: bool = True,
) -> NDArray[Any]:
    """Resample along `axes`, with the middle of the range of the voxels, `low` to `high`, as zero."""
    if order == NEAREST:
        return resample_axes(channel, shape, order, axes)
    offset = _offset(low.min(), high.max())
    out = resample_axes(channel - offset if offset else channel, shape, order, axes)
    if offset:
        out += offset
    return np.clip(out, low, high, out=out) if clip else out


def _offset(low: Any, high: Any) -> Any:
    """Middle of the range if it lies so far from zero that float32 would lose digits to it, else 0."""
    middle = low + (high - low) / 2
    return middle if abs(middle) > (high - low) else low.dtype.type(0)
