"""Compiled loops of the intensity transforms: one pass over a float32, C-contiguous channel each, the GIL released.

The tests pin each kernel to a plain reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segwright.compiling import Function, compiled


def compiled_numpy(function: Function) -> Function:
    """Compile so that a division by zero gives infinity or NaN, as numpy's does, and not an error."""
    return compiled(function, error_model="numpy")


def compiled_reassociating(function: Function) -> Function:
    """Compile sums so that they may be vectorised; NaN and infinity keep their meaning."""
    return compiled(function, error_model="numpy", fastmath={"reassoc", "nsz"})


@compiled_numpy
def _reflected(i: int, size: int) -> int:
    """Return the index that a position beyond either edge mirrors to, the edge voxel itself not repeated."""
    if size == 1:
        return 0
    i = abs(i) % (2 * size - 2)
    return i if i < size else 2 * size - 2 - i


@compiled_numpy
def blur_volume(
    source: NDArray[np.float32],
    kernel_z: NDArray[np.float32],
    kernel_y: NDArray[np.float32],
    kernel_x: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Convolve (z, y, x) with three odd kernels, the edges reflected; plane by plane, to stay in the cache."""
    nz, ny, nx = source.shape
    rz, ry, rx = kernel_z.size // 2, kernel_y.size // 2, kernel_x.size // 2
    plane = np.empty((ny, nx), np.float32)
    padded = np.empty(nx + 2 * rx, np.float32)
    for z in range(nz):
        for t in range(kernel_z.size):
            weight, below = kernel_z[t], source[_reflected(z + t - rz, nz)]
            for y in range(ny):
                for x in range(nx):
                    plane[y, x] = weight * below[y, x] + (plane[y, x] if t > 0 else np.float32(0))
        for y in range(ny):
            line = padded[rx : rx + nx]
            line[:] = 0
            for t in range(kernel_y.size):
                weight, beside = kernel_y[t], plane[_reflected(y + t - ry, ny)]
                for x in range(nx):
                    line[x] += weight * beside[x]
            for t in range(rx):
                padded[t] = line[_reflected(t - rx, nx)]
                padded[rx + nx + t] = line[_reflected(nx + t, nx)]
            target = out[z, y]
            target[:] = 0
            for t in range(kernel_x.size):
                weight = kernel_x[t]
                for x in range(nx):
                    target[x] += weight * padded[x + t]


@compiled_numpy
def enlarge_volume(
    small: NDArray[np.float32],
    lower: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    upper: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    weight: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    out: NDArray[np.float32],
) -> None:
    """Interpolate linearly from a small (z, y, x) grid: per axis and output `lower + weight * (upper - lower)`."""
    nz, ny, nx = out.shape
    plane = np.empty((small.shape[1], small.shape[2]), np.float32)
    line = np.empty(small.shape[2], np.float32)
    for z in range(nz):
        first, second, w = small[lower[0][z]], small[upper[0][z]], weight[0][z]
        for y in range(plane.shape[0]):
            for x in range(plane.shape[1]):
                plane[y, x] = first[y, x] + w * (second[y, x] - first[y, x])
        for y in range(ny):
            above, below, w = plane[lower[1][y]], plane[upper[1][y]], weight[1][y]
            for x in range(line.size):
                line[x] = above[x] + w * (below[x] - above[x])
            for x in range(nx):
                left = line[lower[2][x]]
                out[z, y, x] = left + weight[2][x] * (line[upper[2][x]] - left)


@compiled_reassociating
def sums(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the sum and the sum of squares of a flat array, added up in double precision."""
    total, squares = 0.0, 0.0
    for i in range(values.size):
        value = np.float64(values[i])
        total += value
        squares += value * value
    return total, squares


@compiled_numpy
def scale_shift_clip(
    values: NDArray[np.float32], scale: np.float32, shift: np.float32, low: np.float32, high: np.float32
) -> None:
    """Replace each value of a flat array by `scale * value + shift`, limited to [low, high]."""
    for i in range(values.size):
        values[i] = min(max(scale * values[i] + shift, low), high)
