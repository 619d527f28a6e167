"""Resample label maps, and turn logits into a label map of another shape without ever holding them at that shape.

Labels are resampled as nnU-Net v2.8 (batchgenerators 0.25.5) does: each label's indicator is interpolated and the
largest wins, ties going to the label of the nearest voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segwright.preprocessing.operators import (
    NEAREST_OF_TORCH,
    AxisTable,
    axis_table,
    nearest_table,
    resample_axes,
    resample_axis,
)
from segwright.preprocessing.resampling import NONE, TORCH, orders_of, resample_image, separate_axis_of

if TYPE_CHECKING:
    from segwright.planning.configuration import Resampling

_MAX_BITS = 31
_TORCH_SCALE = 1000


def resample_labels(
    label_map: NDArray[Any],
    new_shape: Sequence[int],
    *,
    current_spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    resampling: Resampling,
) -> NDArray[np.int16]:
    """Resample a label map (1, z, y, x) to (1, *new_shape), by the function that the plan names.

    Exactly nnU-Net's result; with its default, linear interpolation, the time does not depend on how many labels
    there are.

    Raises:
        PlanError: the resampling function is unknown.
    """
    shape = tuple(int(size) for size in new_shape)
    order, order_z = orders_of(resampling)
    labels = np.ascontiguousarray(label_map, dtype=np.int16)
    if labels.shape[1:] == shape or resampling.function == NONE:
        return labels
    axis = separate_axis_of(resampling, current_spacing_mm, new_spacing_mm)
    if resampling.function == TORCH:
        one_by_one = bool(resampling.kwargs.get("memefficient_seg_resampling", False))
        resample = partial(_resample_above_half, axis=axis) if one_by_one else _resample_half_precision
        return np.stack([_with_axis_nearest_of_torch(volume, shape, axis, resample) for volume in labels])
    return np.stack([_resample_spline(volume, shape, axis, order, order_z) for volume in labels])


def resample_logits_to_labels(
    logits: NDArray[np.float32],
    new_shape: Sequence[int],
    *,
    current_spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    resampling: Resampling,
    regions_class_order: Sequence[int] | None = None,
) -> NDArray[np.int16]:
    """Label map (z, y, x) of shape `new_shape` of logits (k, z, y, x).

    Equal to resampling every channel with `resample_logits` and taking the largest; with `regions_class_order` to
    drawing each region where its logit is above 0, later ones over earlier ones. Logits are interpolated only where
    the decision changes between neighbouring voxels. Splines of an order above 1 are resampled channel by channel.
    """
    shape = tuple(int(size) for size in new_shape)
    order, order_z = orders_of(resampling)
    regions = regions_class_order is not None
    drawn_as = np.asarray(range(len(logits)) if regions_class_order is None else regions_class_order, dtype=np.int16)
    source = np.ascontiguousarray(logits, dtype=np.float32)
    if source.shape[1:] == shape or resampling.function == NONE:
        return _draw(source, drawn_as, regions)
    axis = separate_axis_of(resampling, current_spacing_mm, new_spacing_mm)
    orders = [order if axis is None or other != axis else order_z for other in range(3)]
    if max(orders) > 1 or (regions and len(source) > _MAX_BITS):
        resample = partial(
            resample_image,
            new_shape=shape,
            current_spacing_mm=current_spacing_mm,
            new_spacing_mm=new_spacing_mm,
            resampling=resampling,
        )
        return _labels_channel_by_channel(source, shape, resample, drawn_as, regions)
    return _labels_by_agreement(source, shape, _tables(source.shape[1:], shape, orders), drawn_as, regions)


def _labels_by_agreement(
    logits: NDArray[np.float32],
    shape: tuple[int, ...],
    tables: list[AxisTable],
    drawn_as: NDArray[np.int16],
    regions: bool,
) -> NDArray[np.int16]:
    from segwright.kernels import decide, interpolate_logits_to_labels

    winners = np.empty(logits.shape[1:], dtype=np.int32)
    decide(logits.reshape(len(logits), -1), regions, winners.reshape(-1))
    out = np.empty(shape, dtype=np.int16)
    z, y, x = tables
    interpolate_logits_to_labels(
        logits, winners, z.taps, z.weights, y.taps, y.weights, x.taps, x.weights, drawn_as, regions, out
    )
    return out


def _labels_channel_by_channel(
    logits: NDArray[np.float32],
    shape: tuple[int, ...],
    resample: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    drawn_as: NDArray[np.int16],
    regions: bool,
) -> NDArray[np.int16]:
    """Keep the running winner and one resampled channel, in place of all channels at full resolution."""
    out = np.zeros(shape, dtype=np.int16)
    largest = np.full(shape, -np.inf, dtype=np.float32)
    for channel, label in zip(logits, drawn_as, strict=True):
        resampled = resample(channel[np.newaxis])[0]
        better = resampled > (0 if regions else largest)
        out[better] = label
        if not regions:
            np.maximum(largest, resampled, out=largest)
    return out


def _draw(logits: NDArray[np.float32], drawn_as: NDArray[np.int16], regions: bool) -> NDArray[np.int16]:
    if not regions:
        return np.asarray(drawn_as[logits.argmax(axis=0)])
    out = np.zeros(logits.shape[1:], dtype=np.int16)
    for channel, label in zip(logits, drawn_as, strict=True):
        out[channel > 0] = label
    return out


def _tables(shape: Sequence[int], new_shape: Sequence[int], orders: Sequence[int]) -> list[AxisTable]:
    return [
        axis_table(size, new_size) if order == 1 else nearest_table(size, new_size, order)
        for size, new_size, order in zip(shape, new_shape, orders, strict=True)
    ]


def _resample_spline(
    labels: NDArray[np.int16], shape: tuple[int, ...], axis: int | None, order: int, order_z: int
) -> NDArray[np.int16]:
    if axis is not None and order_z > 0 and shape[axis] != labels.shape[axis]:
        in_plane = list(shape)
        in_plane[axis] = labels.shape[axis]
        return _overwrite_above_half(_resample_spline(labels, tuple(in_plane), axis, order, 0), shape, order_z)
    orders = [order if other != axis else 0 for other in range(3)]
    if max(orders) == 0:
        return resample_axes(labels, shape, 0)
    if order == 1:
        from segwright.kernels import interpolate_labels

        z, y, x = _tables(labels.shape, shape, orders)
        out = np.empty(shape, dtype=np.int16)
        interpolate_labels(labels, z.taps, z.weights, y.taps, y.weights, x.taps, x.weights, out)
        return out
    if axis is None:
        return _largest_spline(labels, shape, order)
    in_plane_shape = shape[:axis] + shape[axis + 1 :]
    slices = [_largest_spline(part, in_plane_shape, order) for part in np.moveaxis(labels, axis, 0)]
    return resample_axis(np.stack(slices, axis=axis), axis, shape[axis], 0)


def _largest_spline(labels: NDArray[np.int16], shape: tuple[int, ...], order: int) -> NDArray[np.int16]:
    """Interpolate every label of a volume or slice everywhere, since splines above order 1 overshoot.

    By scipy itself, in the way of scikit-image's `resize`: the sums of our matrices round ties to other sides.
    """
    from scipy import ndimage

    factors = [new_size / size for size, new_size in zip(labels.shape, shape, strict=True)]
    nearest = resample_axes(labels, shape, 0, range(labels.ndim))
    out = np.zeros(shape, dtype=np.int16)
    largest = np.full(shape, -1.0)
    for label in np.unique(labels):
        indicator = (labels == label).astype(np.float64)
        score = np.clip(ndimage.zoom(indicator, factors, order=order, mode="nearest", grid_mode=True), 0, 1)
        better = (score > largest) | ((score == largest) & (nearest == label))
        out[better] = label
        np.maximum(largest, score, out=largest)
    return out


def _overwrite_above_half(labels: NDArray[np.int16], shape: tuple[int, ...], order_z: int) -> NDArray[np.int16]:
    """nnU-Net's rule across separate slices for an order above 0: labels in ascending order where above a half.

    Splines along all axes, though the slices keep their shape: it rounds ties to other sides than along one would.
    """
    from scipy import ndimage

    positions = [
        size / new_size * (np.arange(new_size) + 0.5) - 0.5 for size, new_size in zip(labels.shape, shape, strict=True)
    ]
    coordinates = np.stack(np.meshgrid(*positions, indexing="ij"))
    out = np.zeros(shape, dtype=np.int16)
    for label in np.unique(labels):
        indicator = (labels == label).astype(np.float64)
        out[ndimage.map_coordinates(indicator, coordinates, order=order_z, mode="nearest") > 0.5] = label
    return out


def _with_axis_nearest_of_torch(
    labels: NDArray[np.int16],
    shape: tuple[int, ...],
    axis: int | None,
    resample: Callable[[NDArray[np.int16], tuple[int, ...]], NDArray[np.int16]],
) -> NDArray[np.int16]:
    if axis is None:
        return resample(labels, shape)
    in_plane = list(shape)
    in_plane[axis] = labels.shape[axis]
    return resample_axis(resample(labels, tuple(in_plane)), axis, shape[axis], NEAREST_OF_TORCH)


def _resample_half_precision(labels: NDArray[np.int16], shape: tuple[int, ...]) -> NDArray[np.int16]:
    """nnU-Net's torch variant: indicators times 1000 kept in half precision, the first of the largest wins."""
    out = np.zeros(shape, dtype=np.int16)
    largest = np.full(shape, -1, dtype=np.float16)
    for label in np.unique(labels):
        indicator = (labels == label).astype(np.float32) * np.float32(_TORCH_SCALE)
        score = resample_axes(indicator, shape, 1).astype(np.float16)
        better = score > largest
        out[better] = label
        largest[better] = score[better]
    return out


def _resample_above_half(labels: NDArray[np.int16], shape: tuple[int, ...], axis: int | None) -> NDArray[np.int16]:
    """nnU-Net's torch variant with little memory: labels in ascending order where their indicator is above a half.

    By torch itself, slices across `axis` as its channels: the sums of our matrices round ties to other sides.
    """
    import torch

    channels_first = labels[np.newaxis] if axis is None else np.moveaxis(labels, axis, 0)
    sizes = shape if axis is None else shape[:axis] + shape[axis + 1 :]
    mode = "trilinear" if axis is None else "bilinear"
    out = np.zeros((len(channels_first), *sizes), dtype=np.int16)
    for label in np.unique(labels):
        indicator = torch.from_numpy((channels_first == label).astype(np.float32))
        out[torch.nn.functional.interpolate(indicator[None], sizes, mode=mode)[0].numpy() > 0.5] = label
    return out[0] if axis is None else np.moveaxis(out, 0, axis)
