"""Resampling along one axis as a small matrix.

Spline interpolation on a grid is linear and separable, so resampling a volume is three matrix products. The matrix of
an axis is what `scipy.ndimage.zoom(grid_mode=True, mode="nearest")`, which scikit-image's `resize` calls, makes of unit
vectors. A spline's influence fades by a factor of 0.27 a voxel, so the matrix is cut to a band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_ROWS_PER_BAND = 64
_NEGLIGIBLE = 1e-8  # below float32's resolution for values of the data's own size

# Orders that are no splines: the nearest voxel as scipy rounds, and as torch does ("nearest-exact"), who part at ties.
NEAREST, NEAREST_OF_TORCH = 0, -1

Precision = Literal["float32", "float64"]


@dataclass(frozen=True, eq=False)
class Band:
    """Rows of a resampling matrix with the columns that matter to them."""

    rows: slice
    columns: slice
    matrix: NDArray[Any]


@dataclass(frozen=True, eq=False)
class AxisTable:
    """Linear and nearest interpolation along an axis: see `segwright.kernels`."""

    taps: NDArray[np.int64]
    weights: NDArray[np.float64]


@lru_cache(maxsize=256)
def bands(size: int, new_size: int, order: int, precision: Precision = "float32") -> tuple[Band, ...]:
    """Matrix (new_size, size) of spline interpolation of `order` 1 to 5, in bands of rows."""
    matrix = _matrix(size, new_size, order)
    result = []
    for first in range(0, new_size, _ROWS_PER_BAND):
        rows = slice(first, min(first + _ROWS_PER_BAND, new_size))
        used = np.flatnonzero((np.abs(matrix[rows]) > _NEGLIGIBLE).any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        result.append(Band(rows, columns, np.ascontiguousarray(matrix[rows, columns], dtype=precision)))
    return tuple(result)


def _matrix(size: int, new_size: int, order: int) -> NDArray[np.float64]:
    if order == 1:
        table = axis_table(size, new_size)
        matrix = np.zeros((new_size, size))
        for taps, weights in zip(table.taps, table.weights, strict=False):
            np.add.at(matrix, (np.arange(new_size), taps), weights)
        return matrix
    from scipy import ndimage

    unit_vectors = np.eye(size)
    return np.asarray(
        ndimage.zoom(unit_vectors, (new_size / size, 1), order=order, mode="nearest", grid_mode=True), dtype=np.float64
    )


@lru_cache(maxsize=256)
def axis_table(size: int, new_size: int) -> AxisTable:
    """Taps and weights of linear interpolation, and the nearest index, rounded as scipy rounds them."""
    position = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    lower = np.floor(position)
    fraction = position - lower
    taps = np.stack([lower, lower + 1, np.floor(position + 0.5)]).astype(np.int64)
    return AxisTable(np.clip(taps, 0, size - 1), np.stack([1.0 - fraction, fraction]))


@lru_cache(maxsize=256)
def nearest_table(size: int, new_size: int, order: int = NEAREST) -> AxisTable:
    """A table that takes the nearest voxel with weight 1."""
    nearest = nearest_index(size, new_size, order)
    ones = np.ones(new_size)
    return AxisTable(np.stack([nearest] * 3), np.stack([ones, 0 * ones]))


def nearest_index(size: int, new_size: int, order: int = NEAREST) -> NDArray[np.int64]:
    """Index (new_size,) of the voxel nearest to each new one, by `NEAREST` or `NEAREST_OF_TORCH`.

    Torch computes in float32 with one rounding for product and sum, which decides exact ties.
    """
    if order == NEAREST:
        return np.asarray(axis_table(size, new_size).taps[2])
    scale = np.float64(np.float32(size) / np.float32(new_size))
    position = (scale * (np.arange(new_size) + 0.5) - 0.5).astype(np.float32)
    nearest = np.floor(np.maximum(position, 0) + np.float32(0.5)).astype(np.int64)
    return np.asarray(np.minimum(nearest, size - 1))


def resample_axis(volume: NDArray[Any], axis: int, new_size: int, order: int) -> NDArray[Any]:
    """Resample `volume` (z, y, x) along one axis by a spline of `order`, in its own precision, or by the nearest."""
    size = volume.shape[axis]
    if size == new_size:
        return volume
    if order <= NEAREST:
        return np.asarray(volume.take(nearest_index(size, new_size, order), axis=axis))
    shape = [*volume.shape[:axis], new_size, *volume.shape[axis + 1 :]]
    out = np.empty(shape, dtype=volume.dtype)
    source, target = (volume, out) if axis else (volume.reshape(1, size, -1), out.reshape(1, new_size, -1))
    along_last = axis == 2
    for band in bands(size, new_size, order, "float64" if volume.dtype == np.float64 else "float32"):
        if along_last:
            np.matmul(source[..., band.columns], band.matrix.T, out=target[..., band.rows])
        else:
            np.matmul(band.matrix, source[..., band.columns, :], out=target[..., band.rows, :])
    return out


def resample_axes(
    volume: NDArray[Any], new_shape: Sequence[int], order: int, axes: Sequence[int] = (0, 1, 2)
) -> NDArray[Any]:
    """Resample along several axes, those first that shrink the volume most, which saves the most work."""
    for axis in sorted(axes, key=lambda axis: new_shape[axis] / volume.shape[axis]):
        volume = resample_axis(volume, axis, new_shape[axis], order)
    return volume
