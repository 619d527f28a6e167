"""Compiled loops of the augmentation: one pass over the patch each, no temporary of its size, the GIL released.

Arrays are C-contiguous; images float32, label maps int16. Matrices and centres are float64, in voxels of the source.
The tests pin each kernel to a plain reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

OUTSIDE_LABEL = -1
"""What a label map holds beyond its edge; the pipeline turns it to background at its end."""

MIXED = np.iinfo(np.int16).min
"""Marks a cell of the voxel grid whose corners do not all carry the same label."""

TIE = np.float32(1e-3)
"""The nearest voxel's label wins against labels that lead by less, so that rounding never decides a tie."""


def _compiled(function: Function) -> Function:
    return cast(Function, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def _compiled_reassociating(function: Function) -> Function:
    """Compile sums so that they may be vectorised; NaN and infinity keep their meaning."""
    return cast(
        Function, numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})(function)
    )


@_compiled
def _inner_interval(start: np.float32, step: np.float32, size: int, low: int, high: int) -> tuple[int, int]:
    """Narrow [low, high) to the outputs whose two neighbours along one axis both lie in the source."""
    last = np.float32(size - 1)
    while low < high and not (start + np.float32(low) * step >= 0 and start + np.float32(low) * step < last):
        low += 1
    while low < high and not (start + np.float32(high - 1) * step >= 0 and start + np.float32(high - 1) * step < last):
        high -= 1
    return low, high


@_compiled
def _vote(labels: NDArray[np.int16], weights: NDArray[np.float32], count: int) -> np.int16:
    """Return the label with the largest summed weight; within TIE of it the heaviest single neighbour's wins."""
    nearest = 0
    for i in range(1, count):
        if weights[i] > weights[nearest]:
            nearest = i
    best_label: np.int16 = labels[nearest]
    best = TIE
    for i in range(count):
        if labels[i] == best_label:
            best += weights[i]
    for i in range(count):
        total = np.float32(0)
        for j in range(count):
            if labels[j] == labels[i]:
                total += weights[j]
        if total > best:
            best = total
            best_label = labels[i]
    return best_label


@_compiled
def _corners_3d(
    f: tuple[np.float32, np.float32, np.float32],
    shape: tuple[int, int, int],
    offsets: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> None:
    """Fill the 8 neighbours' offsets (-1 beyond the source) and weights of one sample point."""
    iz, iy, ix = np.int64(np.floor(f[0])), np.int64(np.floor(f[1])), np.int64(np.floor(f[2]))
    wz, wy, wx = f[0] - np.float32(iz), f[1] - np.float32(iy), f[2] - np.float32(ix)
    one = np.float32(1)
    for corner in range(8):
        dz, dy, dx = corner >> 2, (corner >> 1) & 1, corner & 1
        z, y, x = iz + dz, iy + dy, ix + dx
        weights[corner] = (wz if dz else one - wz) * (wy if dy else one - wy) * (wx if dx else one - wx)
        inside = 0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= x < shape[2]
        offsets[corner] = (z * shape[1] + y) * shape[2] + x if inside else -1


@_compiled
def _corners_2d(
    f: tuple[np.float32, np.float32],
    shape: tuple[int, int],
    offsets: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> None:
    """Fill the 4 neighbours' offsets (-1 beyond the source) and weights of one sample point."""
    iy, ix = np.int64(np.floor(f[0])), np.int64(np.floor(f[1]))
    wy, wx = f[0] - np.float32(iy), f[1] - np.float32(ix)
    one = np.float32(1)
    for corner in range(4):
        dy, dx = corner >> 1, corner & 1
        y, x = iy + dy, ix + dx
        weights[corner] = (wy if dy else one - wy) * (wx if dx else one - wx)
        inside = 0 <= y < shape[0] and 0 <= x < shape[1]
        offsets[corner] = y * shape[1] + x if inside else -1


@_compiled
def _mix(
    source: NDArray[np.float32], offsets: NDArray[np.int64], weights: NDArray[np.float32], count: int
) -> np.float32:
    value: np.float32 = np.float32(0)
    for i in range(count):
        if offsets[i] >= 0:
            value += weights[i] * source[offsets[i]]
    return value


@_compiled
def _vote_at(
    source: NDArray[np.int16],
    offsets: NDArray[np.int64],
    weights: NDArray[np.float32],
    labels: NDArray[np.int16],
    count: int,
) -> np.int16:
    for i in range(count):
        labels[i] = source[offsets[i]] if offsets[i] >= 0 else np.int16(OUTSIDE_LABEL)
    return _vote(labels, weights, count)


@_compiled
def _agreed_labels_3d(labels: NDArray[np.int16], plane: int, row: int, out: NDArray[np.int16]) -> None:
    """Write, per voxel, the label that it and its 7 upper neighbours share, or MIXED; not for the last plane.

    Linear weights are convex: between corners that agree no other label can win, whatever the weights.
    """
    # slices, since sums as indices might be negative for all the compiler knows, and would not be vectorised
    count = max(labels.size - plane - row - 1, 0)
    a, b, c = labels[1:], labels[row:], labels[row + 1 :]
    above = labels[plane:]
    d, e, f = above[1:], above[row:], above[row + 1 :]
    for i in range(count):
        first = labels[i]
        same = (first == a[i]) & (first == b[i]) & (first == c[i])
        same &= (first == above[i]) & (first == d[i]) & (first == e[i]) & (first == f[i])
        out[i] = first if same else np.int16(MIXED)


@_compiled
def _agreed_labels_2d(labels: NDArray[np.int16], row: int, out: NDArray[np.int16]) -> None:
    """Write, per pixel, the label that it and its 3 upper neighbours share, or MIXED; not for the last row."""
    count = max(labels.size - row - 1, 0)
    a, b, c = labels[1:], labels[row:], labels[row + 1 :]
    for i in range(count):
        first = labels[i]
        out[i] = first if (first == a[i]) & (first == b[i]) & (first == c[i]) else np.int16(MIXED)


@_compiled
def sample_volume(
    image: NDArray[np.float32],
    labels: NDArray[np.int16],
    shape: tuple[int, int, int],
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    out_image: NDArray[np.float32],
    out_labels: NDArray[np.int16],
) -> None:
    """Sample (c, Z*Y*X) and (k, Z*Y*X) at `matrix @ (p - patch centre) + centre` into (c, z, y, x) and (k, z, y, x).

    Images are interpolated linearly with zeros outside; of the labels, -1 outside, the largest weight wins.
    """
    nz, ny, nx = out_image.shape[1:]
    # unsigned: no test for negative indices in the innermost loop
    one, row, plane = np.uint64(1), np.uint64(shape[2]), np.uint64(shape[1] * shape[2])
    offset = np.empty(nx, np.uint64)
    wz, wy, wx = np.empty(nx, np.float32), np.empty(nx, np.float32), np.empty(nx, np.float32)
    corner_offsets, corner_weights = np.empty(8, np.int64), np.empty(8, np.float32)
    corner_labels = np.empty(8, np.int16)
    agreed = np.empty_like(labels)
    for k in range(labels.shape[0]):
        _agreed_labels_3d(labels[k], shape[1] * shape[2], shape[2], agreed[k])
    step = np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2])
    px = -0.5 * (nx - 1)
    for z in range(nz):
        pz = z - 0.5 * (nz - 1)
        for y in range(ny):
            py = y - 0.5 * (ny - 1)
            start = (
                np.float32(matrix[0, 0] * pz + matrix[0, 1] * py + matrix[0, 2] * px + centre[0]),
                np.float32(matrix[1, 0] * pz + matrix[1, 1] * py + matrix[1, 2] * px + centre[1]),
                np.float32(matrix[2, 0] * pz + matrix[2, 1] * py + matrix[2, 2] * px + centre[2]),
            )
            low, high = _inner_interval(start[0], step[0], shape[0], 0, nx)
            low, high = _inner_interval(start[1], step[1], shape[1], low, high)
            low, high = _inner_interval(start[2], step[2], shape[2], low, high)
            for x in range(low, high):
                fz = start[0] + np.float32(x) * step[0]
                fy = start[1] + np.float32(x) * step[1]
                fx = start[2] + np.float32(x) * step[2]
                iz, iy, ix = np.int32(fz), np.int32(fy), np.int32(fx)
                wz[x], wy[x], wx[x] = fz - np.float32(iz), fy - np.float32(iy), fx - np.float32(ix)
                offset[x] = np.uint64((iz * shape[1] + iy) * shape[2] + ix)
            for c in range(image.shape[0]):
                source, out = image[c], out_image[c, z, y]
                for x in range(low, high):
                    o = offset[x]
                    a = source[o] + wx[x] * (source[o + one] - source[o])
                    b = source[o + row] + wx[x] * (source[o + row + one] - source[o + row])
                    a += wy[x] * (b - a)
                    o += plane
                    d = source[o] + wx[x] * (source[o + one] - source[o])
                    e = source[o + row] + wx[x] * (source[o + row + one] - source[o + row])
                    d += wy[x] * (e - d)
                    out[x] = a + wz[x] * (d - a)
            for k in range(labels.shape[0]):
                names, out_names = labels[k], out_labels[k, z, y]
                for x in range(low, high):
                    out_names[x] = agreed[k, offset[x]]
                    if out_names[x] == MIXED:
                        f = (
                            start[0] + np.float32(x) * step[0],
                            start[1] + np.float32(x) * step[1],
                            start[2] + np.float32(x) * step[2],
                        )
                        _corners_3d(f, shape, corner_offsets, corner_weights)
                        out_names[x] = _vote_at(names, corner_offsets, corner_weights, corner_labels, 8)
            for x in range(nx):
                if low <= x < high:
                    continue
                f = (
                    start[0] + np.float32(x) * step[0],
                    start[1] + np.float32(x) * step[1],
                    start[2] + np.float32(x) * step[2],
                )
                _corners_3d(f, shape, corner_offsets, corner_weights)
                for c in range(image.shape[0]):
                    out_image[c, z, y, x] = _mix(image[c], corner_offsets, corner_weights, 8)
                for k in range(labels.shape[0]):
                    out_labels[k, z, y, x] = _vote_at(labels[k], corner_offsets, corner_weights, corner_labels, 8)


@_compiled
def sample_planes(
    image: NDArray[np.float32],
    labels: NDArray[np.int16],
    shape: tuple[int, int],
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    reverse_planes: bool,
    out_image: NDArray[np.float32],
    out_labels: NDArray[np.int16],
) -> None:
    """Sample all planes of (c, n, Y*X) and (k, n, Y*X) alike, as `sample_volume`, into (c, n, y, x) and (k, n, y, x).

    With `reverse_planes` the last plane of the source becomes the first one of the output.
    """
    ny, nx = out_image.shape[2:]
    num_planes, one, row = image.shape[1], np.uint64(1), np.uint64(shape[1])
    offset = np.empty(nx, np.uint64)
    wy, wx = np.empty(nx, np.float32), np.empty(nx, np.float32)
    corner_offsets, corner_weights = np.empty(4, np.int64), np.empty(4, np.float32)
    corner_labels = np.empty(4, np.int16)
    agreed = np.empty((labels.shape[0], labels.shape[2]), np.int16)
    step = np.float32(matrix[0, 1]), np.float32(matrix[1, 1])
    px = -0.5 * (nx - 1)
    for plane in range(num_planes):
        origin = num_planes - 1 - plane if reverse_planes else plane
        for k in range(labels.shape[0]):
            _agreed_labels_2d(labels[k, origin], shape[1], agreed[k])
        for y in range(ny):
            py = y - 0.5 * (ny - 1)
            start = (
                np.float32(matrix[0, 0] * py + matrix[0, 1] * px + centre[0]),
                np.float32(matrix[1, 0] * py + matrix[1, 1] * px + centre[1]),
            )
            low, high = _inner_interval(start[0], step[0], shape[0], 0, nx)
            low, high = _inner_interval(start[1], step[1], shape[1], low, high)
            for x in range(low, high):
                fy = start[0] + np.float32(x) * step[0]
                fx = start[1] + np.float32(x) * step[1]
                iy, ix = np.int32(fy), np.int32(fx)
                wy[x], wx[x] = fy - np.float32(iy), fx - np.float32(ix)
                offset[x] = np.uint64(iy * shape[1] + ix)
            for c in range(image.shape[0]):
                source, out = image[c, origin], out_image[c, plane, y]
                for x in range(low, high):
                    o = offset[x]
                    a = source[o] + wx[x] * (source[o + one] - source[o])
                    b = source[o + row] + wx[x] * (source[o + row + one] - source[o + row])
                    out[x] = a + wy[x] * (b - a)
            for k in range(labels.shape[0]):
                names, out_names = labels[k, origin], out_labels[k, plane, y]
                for x in range(low, high):
                    out_names[x] = agreed[k, offset[x]]
                    if out_names[x] == MIXED:
                        f = start[0] + np.float32(x) * step[0], start[1] + np.float32(x) * step[1]
                        _corners_2d(f, shape, corner_offsets, corner_weights)
                        out_names[x] = _vote_at(names, corner_offsets, corner_weights, corner_labels, 4)
            for x in range(nx):
                if low <= x < high:
                    continue
                f = start[0] + np.float32(x) * step[0], start[1] + np.float32(x) * step[1]
                _corners_2d(f, shape, corner_offsets, corner_weights)
                for c in range(image.shape[0]):
                    out_image[c, plane, y, x] = _mix(image[c, origin], corner_offsets, corner_weights, 4)
                for k in range(labels.shape[0]):
                    names = labels[k, origin]
                    out_labels[k, plane, y, x] = _vote_at(names, corner_offsets, corner_weights, corner_labels, 4)


@_compiled
def _reflected(i: int, size: int) -> int:
    """Return the index that a position beyond either edge mirrors to, the edge voxel itself not repeated."""
    if size == 1:
        return 0
    i = abs(i) % (2 * size - 2)
    return i if i < size else 2 * size - 2 - i


@_compiled
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


@_compiled
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


@_compiled_reassociating
def sums(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the sum and the sum of squares of a flat array, added up in double precision."""
    total, squares = 0.0, 0.0
    for i in range(values.size):
        value = np.float64(values[i])
        total += value
        squares += value * value
    return total, squares


@_compiled
def scale_shift_clip(
    values: NDArray[np.float32], scale: np.float32, shift: np.float32, low: np.float32, high: np.float32
) -> None:
    """Replace each value of a flat array by `scale * value + shift`, limited to [low, high]."""
    for i in range(values.size):
        values[i] = min(max(scale * values[i] + shift, low), high)
