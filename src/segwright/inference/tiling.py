"""Where the tiles of a sliding window lie and how much each of their voxels counts (nnU-Net v2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIGMA_IN_TILES = 1 / 8
LARGEST_IMPORTANCE = 10.0


def tile_starts(image_size: Sequence[int], tile_size: Sequence[int], *, step_size: float) -> list[list[int]]:
    """First voxels of the tiles along each axis, spread evenly with steps of at most `step_size` tiles.

    The image must be at least as large as the tile along each axis; pad it first.

    Example:
        >>> tile_starts([110], [64], step_size=0.5)
        [[0, 23, 46]]
    """
    return [_starts_along_axis(image, tile, step_size) for image, tile in zip(image_size, tile_size, strict=True)]


def _starts_along_axis(image_size: int, tile_size: int, step_size: float) -> list[int]:
    last = image_size - tile_size
    assert last >= 0, "an image is padded to the tile before it is tiled"
    num_tiles = math.ceil(last / (tile_size * step_size)) + 1
    step = last / (num_tiles - 1) if num_tiles > 1 else 0.0
    return [round(step * index) for index in range(num_tiles)]


@lru_cache(maxsize=4)
def gaussian_importance(tile_size: tuple[int, ...]) -> NDArray[np.float32]:
    """Weight of each voxel of a tile, float32, 10 in its middle, never 0.

    A Gaussian of an eighth of the tile, rounded to float16 as in nnU-Net v2, where what rounds to zero gets the
    smallest weight that does not. The result is shared between callers: do not write to it.
    """
    weights = np.ones((1,) * len(tile_size))
    for axis, size in enumerate(tile_size):
        shape = [1] * len(tile_size)
        shape[axis] = size
        weights = weights * _filtered_impulse(size).reshape(shape)
    weights /= weights.max() / LARGEST_IMPORTANCE
    # from double to half by way of single precision, as torch does it
    rounded = weights.astype(np.float32).astype(np.float16).astype(np.float32)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded


def _filtered_impulse(size: int) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter1d

    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return np.asarray(gaussian_filter1d(impulse, size * SIGMA_IN_TILES, mode="constant"), dtype=np.float64)
