"""What is kept of an image to find copies of it: cells that it is averaged in, and the texture of its middle.

A copy that was rescaled, resampled, stored otherwise or made noisy has the same cells, and one that was mirrored has
them mirrored. One that was cropped by a voxel or two has other cells, but the same texture, which no second scan has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Cells (z, y, x) of a volume and of a slice: as many for both.
_VOLUME_CELLS, _SLICE_CELLS = (8, 12, 12), (1, 32, 36)
_TEXTURE_VOXELS, _TEXTURE_DEPTH = 12 * 16 * 16, 12
# Texture is what a voxel differs by from the mean of seven times seven around it in its slice.
_AROUND = 3
_MAX_SHIFT = 2
# Fewer voxels may be alike by chance.
_FEW_VOXELS = 64
# What differs by less, relative to its size, differs by rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Signature:
    """`cells` (z, y, x) float32 have mean 0 and norm 1, or are 0; `texture` (z, y, x) float16 has deviation 1, or 0."""

    cells: NDArray[np.float32]
    texture: NDArray[np.float16]


def image_signature(channel: NDArray[np.float32]) -> Signature:
    """Make the signature of a channel (z, y, x) without NaN."""
    means: NDArray[np.floating] = channel  # z first, whose planes are contiguous
    for axis, count in enumerate(_SLICE_CELLS if channel.shape[0] == 1 else _VOLUME_CELLS):
        means = _averaged(means, axis, count)
    means = means.astype(np.float64)  # squares of float32 may be too large for it
    cells, size = means - means.mean(), float(np.linalg.norm(means))
    return Signature(_scaled(cells, float(np.linalg.norm(cells)), size).astype(np.float32), _texture(channel))


def texture_correlation(one: Signature, other: Signature, axes: Sequence[int] = ()) -> float:
    """The largest correlation of the two textures, `other` mirrored along `axes` and shifted by up to two voxels.

    It is 0 where there is none, or in too few voxels to tell.
    """
    mirrored = np.flip(other.texture, tuple(axes)).astype(np.float32)
    shape = np.minimum(one.texture.shape, mirrored.shape)
    core_shape = shape - 2 * np.minimum(_MAX_SHIFT, shape // 4)
    if core_shape.prod() < _FEW_VOXELS:
        return 0.0
    core = _middle(one.texture.astype(np.float32), core_shape).ravel()
    windows = np.lib.stride_tricks.sliding_window_view(_middle(mirrored, shape), tuple(core_shape))
    windows = windows.reshape(-1, core.size)  # (shifts, voxels)
    norms = windows.std(axis=1) * core.std() * core.size
    products = windows @ (core - core.mean())
    return float(np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0).max())


def _averaged(array: NDArray[np.floating], axis: int, count: int) -> NDArray[np.floating]:
    """Average `count` equal parts along an axis, a border's voxel by its share in each; no BLAS, as it has threads."""
    voxels, size = np.arange(array.shape[axis]), array.shape[axis] / count
    along = np.moveaxis(array, axis, 0)
    means = []
    for start in np.arange(count) * size:
        shares = np.minimum(start + size, voxels + 1) - np.maximum(start, voxels)
        used = slice(int(start), int(np.ceil(start + size)))
        means.append(np.einsum("i,i...->...", (shares[used] / size).astype(np.float32), along[used]))
    return np.moveaxis(np.stack(means), 0, axis)


def _texture(channel: NDArray[np.float32]) -> NDArray[np.float16]:
    depth = min(_TEXTURE_DEPTH, channel.shape[0])
    side = int((_TEXTURE_VOXELS / depth) ** 0.5) + 2 * _AROUND
    block = _middle(channel, np.minimum(channel.shape, (depth, side, side))).astype(np.float64)
    around = block
    for axis in (1, 2):
        window = min(2 * _AROUND + 1, block.shape[axis])
        around = np.lib.stride_tricks.sliding_window_view(around, window, axis).mean(axis=-1)
    texture = _middle(block, np.array(around.shape)) - around
    return _scaled(texture, float(texture.std()), float(np.abs(block).max())).astype(np.float16)


def _scaled(array: NDArray[np.float64], size: float, of: float) -> NDArray[np.float64]:
    """Divide by `size`; 0 where that is but the rounding of numbers as large as `of`."""
    return array / size if size > _ROUNDING * of else np.zeros_like(array)


def _middle(array: NDArray[np.floating], shape: NDArray[np.int_]) -> NDArray[np.floating]:
    starts = (np.asarray(array.shape) - shape) // 2
    return array[tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))]
