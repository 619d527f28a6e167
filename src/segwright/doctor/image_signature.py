"""What is kept of an image to find copies of it: cells that it is averaged in, and a block from its middle.

A copy that was rescaled, resampled, stored otherwise or made noisy has the same cells, and one that was mirrored has
them mirrored. One that was cropped by a voxel or two has other cells, but the same noise in its middle, which no second
scan has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

# Cells (z, y, x) of a volume and of a slice: as many for both.
_VOLUME_CELLS, _SLICE_CELLS = (8, 12, 12), (1, 32, 36)
_BLOCK_SIDE = 12
_MAX_SHIFT = 2
# Fewer voxels may be alike by chance.
_FEW_VOXELS = 64
# Cells that differ by less, relative to their size, differ by the rounding of their sums.
_ROUNDING = 1e-6
# The same of the blocks, which are kept as float16.
_BLOCK_ROUNDING = 0.01


@dataclass(frozen=True, eq=False)
class Signature:
    """`cells` (1152,) float32 have mean 0 and norm 1, or are 0; `block` (z, y, x) float16 has mean 0, deviation 1.

    `grid` (z, y, x) is how the cells lie.
    """

    grid: tuple[int, int, int]
    cells: NDArray[np.float32]
    block: NDArray[np.float16]


def image_signature(channel: NDArray[np.float32]) -> Signature:
    """Make the signature of a channel (z, y, x) without NaN."""
    grid = _SLICE_CELLS if channel.shape[0] == 1 else _VOLUME_CELLS
    with np.errstate(over="ignore", invalid="ignore"):
        means = _cell_means(channel, grid).ravel().astype(np.float64)  # squares of float32 may be too large for it
    if not np.isfinite(means).all():
        means = _cell_means(channel / np.abs(channel).max(), grid).ravel().astype(np.float64)
    cells = means - means.mean()
    norm = np.linalg.norm(cells)
    scale = 1 / norm if norm > _ROUNDING * np.linalg.norm(means) else 0.0
    return Signature(grid=grid, cells=(cells * scale).astype(np.float32), block=_middle_block(channel))


def mirrored_cells(signature: Signature, axes: Sequence[int]) -> NDArray[np.float32]:
    """The cells (1152,) that the image has when mirrored along `axes`."""
    return np.flip(signature.cells.reshape(signature.grid), tuple(axes)).ravel()


def symmetric_cells(signature: Signature) -> NDArray[np.float32]:
    """What every mirroring leaves as it is, (144,) for a volume: sums of the cells that mirror each other.

    They are scaled so that those of two images are no further apart than their cells, however one image is mirrored.
    """
    cells = signature.cells.reshape(signature.grid)
    for axis, size in enumerate(signature.grid):
        if size > 1:
            half = np.arange(size // 2)
            cells = (cells.take(half, axis) + np.flip(cells, axis).take(half, axis)) * np.float32(0.5**0.5)
    return cells.ravel()


def cells_correlations(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlations (n, m) of the cells of n signatures with those of m."""
    return np.asarray(one @ other.T)


def block_correlation(one: Signature, other: Signature, axes: Sequence[int] = ()) -> float:
    """The largest correlation of the two blocks, `other` mirrored along `axes` and shifted by up to two voxels.

    What is smooth in them does not count: a shading that all images have is no likeness. It is 0 where nothing is left,
    or too few voxels to tell.
    """
    mirrored = np.flip(other.block, tuple(axes))
    shape = np.minimum(one.block.shape, mirrored.shape)
    core_shape = shape - 2 * np.minimum(_MAX_SHIFT, shape // 4)
    if core_shape.prod() < _FEW_VOXELS:
        return 0.0
    core = _middle(one.block.astype(np.float32), core_shape).reshape(1, -1)
    windows = np.lib.stride_tricks.sliding_window_view(
        _middle(mirrored.astype(np.float32), shape), tuple(core_shape)
    ).reshape(-1, core.size)
    smooth = _smooth_blocks(tuple(core_shape.tolist()))
    norms = _norms_of_texture(windows, smooth) * _norms_of_texture(core, smooth)
    texture = core - (core @ smooth.T) @ smooth
    return float(np.divide(windows @ texture[0], norms, out=np.zeros_like(norms), where=norms > 0).max())


def _norms_of_texture(blocks: NDArray[np.float32], smooth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Norm of what is not smooth in each of the blocks (n, voxels); 0 where it is but rounding."""
    squares = np.einsum("ij,ij->i", blocks, blocks)
    texture = squares - ((blocks @ smooth.T) ** 2).sum(axis=1)
    return np.asarray(np.sqrt(np.where(texture > _BLOCK_ROUNDING**2 * squares, texture, 0)))


@cache
def _smooth_blocks(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An orthonormal basis (functions, voxels) of what is at most quadratic in the position."""
    ones, *places = np.ones(shape), *np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    products = [one * other for one, other in combinations_with_replacement([ones, *places], 2)]
    directions, sizes, _ = np.linalg.svd(np.stack([each.ravel() for each in products], axis=1), full_matrices=False)
    return np.asarray(directions[:, sizes > 1e-6 * sizes[0]].T, dtype=np.float32)


def _cell_means(channel: NDArray[np.float32], grid: tuple[int, int, int]) -> NDArray[np.float32]:
    """Average (z, y, x) axis by axis, a voxel on the border of two cells by its share in each.

    The axis whose planes are contiguous comes first; without BLAS, which starts threads.
    """
    cells = channel
    for axis, count in enumerate(grid):
        size = channel.shape[axis]
        along = np.moveaxis(cells, axis, 0)
        sums = []
        for cell in range(count):
            first, too_much_before = divmod(cell * size, count)
            stop = -(-(cell + 1) * size // count)
            too_much_behind = stop * count - (cell + 1) * size
            total = along[first:stop].sum(axis=0)
            if too_much_before:
                total -= along[first] * np.float32(too_much_before / count)
            if too_much_behind:
                total -= along[stop - 1] * np.float32(too_much_behind / count)
            sums.append(total)
        cells = np.moveaxis(np.stack(sums) * np.float32(count / size), 0, axis)
    return cells


def _middle_block(channel: NDArray[np.float32]) -> NDArray[np.float16]:
    depth = min(_BLOCK_SIDE, channel.shape[0])
    side = int((_BLOCK_SIDE**3 / depth) ** 0.5)
    block = _middle(channel, np.minimum(channel.shape, (depth, side, side))).astype(np.float64)
    deviation = float(block.std())
    return np.asarray((block - block.mean()) / (deviation or 1.0), dtype=np.float16)


def _middle(array: NDArray[np.float32], shape: NDArray[np.int_]) -> NDArray[np.float32]:
    starts = (np.asarray(array.shape) - shape) // 2
    return array[tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))]
