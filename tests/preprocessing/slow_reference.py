"""nnU-Net v2's resampling in the slow way that defines it: scikit-image and scipy, label by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from skimage.transform import resize

Resize = Callable[[NDArray[Any], Sequence[int], int], NDArray[Any]]


def resize_image(image: NDArray[Any], shape: Sequence[int], order: int) -> NDArray[Any]:
    return np.asarray(
        resize(image.astype(np.float64), tuple(shape), order, mode="edge", clip=True, anti_aliasing=False)
    )


def resize_labels(labels: NDArray[Any], shape: Sequence[int], order: int) -> NDArray[Any]:
    nearest = resize_image(labels, shape, 0)
    if order == 0:
        return nearest
    values = np.unique(labels)
    scores = np.stack([resize_image(labels == value, shape, order) for value in values])
    result = values[scores.argmax(axis=0)].astype(np.float64)
    largest = scores.max(axis=0)
    for value, score in zip(values, scores, strict=True):
        result[(score == largest) & (nearest == value)] = value
    return result


def across_slices(volume: NDArray[Any], shape: Sequence[int], order_z: int) -> NDArray[Any]:
    grid = np.mgrid[tuple(slice(size) for size in shape)]
    coordinates = np.stack(
        [old / new * (axis + 0.5) - 0.5 for axis, old, new in zip(grid, volume.shape, shape, strict=True)]
    )
    return np.asarray(map_coordinates(volume, coordinates, order=order_z, mode="nearest"))


def resample(
    volume: NDArray[Any],
    shape: Sequence[int],
    *,
    order: int,
    axis: int | None = None,
    order_z: int = 0,
    labels: bool = False,
) -> NDArray[Any]:
    """Resample (z, y, x); slice by slice along `axis` where one is given."""
    resize_one: Resize = resize_labels if labels else resize_image
    if axis is None:
        return resize_one(volume, shape, order)
    in_plane = [size for other, size in enumerate(shape) if other != axis]
    slices = [resize_one(part, in_plane, order) for part in np.moveaxis(volume, axis, 0)]
    stacked = np.stack(slices, axis=axis)
    if stacked.shape[axis] == shape[axis]:
        return stacked
    if not labels or order_z == 0:
        return across_slices(stacked, shape, order_z)
    result = np.zeros(shape)
    for value in np.unique(stacked):
        result[np.round(across_slices((stacked == value).astype(float), shape, order_z)) > 0.5] = value
    return result
