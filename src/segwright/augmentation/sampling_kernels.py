"""Compiled loops of the spatial transform: image and labels in one pass from the crop into the patch, the GIL released.

Arrays are C-contiguous; images float32, label maps int16. Matrices and centres are float64, in voxels of the source.
A patch is filled row by row: the stretch whose neighbours all lie in the source without tests, its two ends with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segwright.augmentation.kernels import compiled_numpy

Point3D = tuple[np.float32, np.float32, np.float32]
Point2D = tuple[np.float32, np.float32]

OUTSIDE_LABEL = -1
"""What a label map holds beyond its edge; the pipeline turns it to background at its end."""

MIXED = np.iinfo(np.int16).min
"""Marks a cell of the voxel grid whose corners do not all carry the same label."""

TIE = np.float32(1e-3)
"""The nearest voxel's label wins against labels that lead by less, so that rounding never decides a tie."""


@compiled_numpy
def _inner_interval(start: np.float32, step: np.float32, size: int, low: int, high: int) -> tuple[int, int]:
    """Narrow [low, high) to the outputs whose two neighbours along one axis both lie in the source."""
    last = np.float32(size - 1)
    while low < high and not (start + np.float32(low) * step >= 0 and start + np.float32(low) * step < last):
        low += 1
    while low < high and not (start + np.float32(high - 1) * step >= 0 and start + np.float32(high - 1) * step < last):
        high -= 1
    return low, high


@compiled_numpy
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


@compiled_numpy
def _corners_3d(
    f: Point3D,
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


@compiled_numpy
def _corners_2d(
    f: Point2D,
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


@compiled_numpy
def _mix(
    source: NDArray[np.float32], offsets: NDArray[np.int64], weights: NDArray[np.float32], count: int
) -> np.float32:
    value: np.float32 = np.float32(0)
    for i in range(count):
        if offsets[i] >= 0:
            value += weights[i] * source[offsets[i]]
    return value


@compiled_numpy
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


@compiled_numpy
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


@compiled_numpy
def _agreed_labels_2d(labels: NDArray[np.int16], row: int, out: NDArray[np.int16]) -> None:
    """Write, per pixel, the label that it and its 3 upper neighbours share, or MIXED; not for the last row."""
    count = max(labels.size - row - 1, 0)
    a, b, c = labels[1:], labels[row:], labels[row + 1 :]
    for i in range(count):
        first = labels[i]
        out[i] = first if (first == a[i]) & (first == b[i]) & (first == c[i]) else np.int16(MIXED)


@compiled_numpy
def _point_3d(start: Point3D, step: Point3D, x: int) -> Point3D:
    distance = np.float32(x)
    return start[0] + distance * step[0], start[1] + distance * step[1], start[2] + distance * step[2]


@compiled_numpy
def _point_2d(start: Point2D, step: Point2D, x: int) -> Point2D:
    distance = np.float32(x)
    return start[0] + distance * step[0], start[1] + distance * step[1]


@compiled_numpy
def _locate_row_3d(
    start: Point3D,
    step: Point3D,
    shape: tuple[int, int, int],
    offset: NDArray[np.uint64],
    weights: NDArray[np.float32],
) -> tuple[int, int]:
    """Return the stretch [low, high) that needs no tests, and fill offsets and upper neighbours' shares there."""
    low, high = _inner_interval(start[0], step[0], shape[0], 0, offset.size)
    low, high = _inner_interval(start[1], step[1], shape[1], low, high)
    low, high = _inner_interval(start[2], step[2], shape[2], low, high)
    wz, wy, wx = weights[0], weights[1], weights[2]
    for x in range(low, high):
        fz, fy, fx = _point_3d(start, step, x)
        iz, iy, ix = np.int32(fz), np.int32(fy), np.int32(fx)
        wz[x], wy[x], wx[x] = fz - np.float32(iz), fy - np.float32(iy), fx - np.float32(ix)
        offset[x] = np.uint64((iz * shape[1] + iy) * shape[2] + ix)
    return low, high


@compiled_numpy
def _locate_row_2d(
    start: Point2D,
    step: Point2D,
    shape: tuple[int, int],
    offset: NDArray[np.uint64],
    weights: NDArray[np.float32],
) -> tuple[int, int]:
    """Return the stretch [low, high) that needs no tests, and fill offsets and upper neighbours' shares there."""
    low, high = _inner_interval(start[0], step[0], shape[0], 0, offset.size)
    low, high = _inner_interval(start[1], step[1], shape[1], low, high)
    wy, wx = weights[0], weights[1]
    for x in range(low, high):
        fy, fx = _point_2d(start, step, x)
        iy, ix = np.int32(fy), np.int32(fx)
        wy[x], wx[x] = fy - np.float32(iy), fx - np.float32(ix)
        offset[x] = np.uint64(iy * shape[1] + ix)
    return low, high


@compiled_numpy
def _mix_row_3d(
    source: NDArray[np.float32],
    offset: NDArray[np.uint64],
    weights: NDArray[np.float32],
    stretch: tuple[int, int],
    row: np.uint64,
    plane: np.uint64,
    out: NDArray[np.float32],
) -> None:
    one = np.uint64(1)
    wz, wy, wx = weights[0], weights[1], weights[2]
    for x in range(stretch[0], stretch[1]):
        o = offset[x]
        a = source[o] + wx[x] * (source[o + one] - source[o])
        b = source[o + row] + wx[x] * (source[o + row + one] - source[o + row])
        a += wy[x] * (b - a)
        o += plane
        c = source[o] + wx[x] * (source[o + one] - source[o])
        d = source[o + row] + wx[x] * (source[o + row + one] - source[o + row])
        c += wy[x] * (d - c)
        out[x] = a + wz[x] * (c - a)


@compiled_numpy
def _mix_row_2d(
    source: NDArray[np.float32],
    offset: NDArray[np.uint64],
    weights: NDArray[np.float32],
    stretch: tuple[int, int],
    row: np.uint64,
    out: NDArray[np.float32],
) -> None:
    one = np.uint64(1)
    wy, wx = weights[0], weights[1]
    for x in range(stretch[0], stretch[1]):
        o = offset[x]
        a = source[o] + wx[x] * (source[o + one] - source[o])
        b = source[o + row] + wx[x] * (source[o + row + one] - source[o + row])
        out[x] = a + wy[x] * (b - a)


@compiled_numpy
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
    row, plane = np.uint64(shape[2]), np.uint64(shape[1] * shape[2])
    offset, weights = np.empty(nx, np.uint64), np.empty((3, nx), np.float32)
    corners, shares, names = np.empty(8, np.int64), np.empty(8, np.float32), np.empty(8, np.int16)
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
            low, high = _locate_row_3d(start, step, shape, offset, weights)
            for c in range(image.shape[0]):
                _mix_row_3d(image[c], offset, weights, (low, high), row, plane, out_image[c, z, y])
            for k in range(labels.shape[0]):
                for x in range(low, high):
                    label = agreed[k, offset[x]]
                    if label == MIXED:
                        _corners_3d(_point_3d(start, step, x), shape, corners, shares)
                        label = _vote_at(labels[k], corners, shares, names, 8)
                    out_labels[k, z, y, x] = label
            for x in range(nx):
                if x < low or x >= high:
                    _corners_3d(_point_3d(start, step, x), shape, corners, shares)
                    for c in range(image.shape[0]):
                        out_image[c, z, y, x] = _mix(image[c], corners, shares, 8)
                    for k in range(labels.shape[0]):
                        out_labels[k, z, y, x] = _vote_at(labels[k], corners, shares, names, 8)


@compiled_numpy
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
    num_planes, row = image.shape[1], np.uint64(shape[1])
    offset, weights = np.empty(nx, np.uint64), np.empty((2, nx), np.float32)
    corners, shares, names = np.empty(4, np.int64), np.empty(4, np.float32), np.empty(4, np.int16)
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
            low, high = _locate_row_2d(start, step, shape, offset, weights)
            for c in range(image.shape[0]):
                _mix_row_2d(image[c, origin], offset, weights, (low, high), row, out_image[c, plane, y])
            for k in range(labels.shape[0]):
                for x in range(low, high):
                    label = agreed[k, offset[x]]
                    if label == MIXED:
                        _corners_2d(_point_2d(start, step, x), shape, corners, shares)
                        label = _vote_at(labels[k, origin], corners, shares, names, 4)
                    out_labels[k, plane, y, x] = label
            for x in range(nx):
                if x < low or x >= high:
                    _corners_2d(_point_2d(start, step, x), shape, corners, shares)
                    for c in range(image.shape[0]):
                        out_image[c, plane, y, x] = _mix(image[c, origin], corners, shares, 4)
                    for k in range(labels.shape[0]):
                        out_labels[k, plane, y, x] = _vote_at(labels[k, origin], corners, shares, names, 4)
