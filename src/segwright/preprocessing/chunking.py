"""How a preprocessed array is cut into compressed blocks and chunks, for patches to be read fast.

Chunks of volumes are nnU-Net v2.8's, with as many blocks. But nnU-Net's leave the last block of a chunk partly empty,
and what is empty is packed and unpacked all the same; here they are made even, and read up to twice as fast. For 2D
patches nnU-Net makes a chunk of each slice, which takes longer to write than to pack; here it takes many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_BLOCK_BYTES = 128 * 1024
MAX_CHUNK_BYTES = 6 * 1024 * 1024
_CHUNK_OF_PATCH = 1.5


def blocks_and_chunks(
    shape: Sequence[int], patch_size: Sequence[int], item_bytes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of blocks and chunks for an array (c, z, y, x) read in patches (z, y, x) or slices (y, x).

    A block is decompressed at a time and a chunk is stored at a time; both hold one channel. A block begins at the
    powers of two around the patch and halves where it is largest for the part that is wanted; a chunk grows from it
    where it covers least, up to one and a half patches.
    """
    image = [int(size) for size in shape[1:]]
    patch = [1] * (3 - len(patch_size)) + [int(size) for size in patch_size]
    target = [
        max(1, min(size, math.floor(_CHUNK_OF_PATCH * extent))) for size, extent in zip(image, patch, strict=True)
    ]
    block = _block(image, patch, target, item_bytes)
    chunk = list(block)
    while (axis := _axis_to_grow(chunk, block, image, patch, target, item_bytes)) is not None:
        chunk[axis] = _grown(chunk[axis], block[axis], target[axis])
    if len(patch_size) == 2:  # a block is still of one slice, and only the blocks that are wanted are read
        chunk[0] = max(1, min(image[0], MAX_CHUNK_BYTES // (math.prod(chunk) * item_bytes)))
    return (1, *(_even(size, whole) for size, whole in zip(block, chunk, strict=True))), (1, *chunk)


def _block(image: list[int], patch: list[int], target: list[int], item_bytes: int) -> list[int]:
    block = [min(_power_of_two_from(extent), size) for extent, size in zip(patch, image, strict=True)]
    while math.prod(block) * item_bytes > MAX_BLOCK_BYTES:
        axis = max((axis for axis in range(3) if block[axis] > 1), key=lambda axis: (block[axis] / target[axis], axis))
        block[axis] = _power_of_two_below(block[axis])
    return block


def _axis_to_grow(
    chunk: list[int], block: list[int], image: list[int], patch: list[int], target: list[int], item_bytes: int
) -> int | None:
    """The axis that is covered least among those whose growth fits; larger images first where that is equal."""
    bytes_so_far = math.prod(chunk) * item_bytes
    fitting = [
        axis
        for axis in range(3)
        if patch[axis] > 1
        and chunk[axis] < target[axis]
        and bytes_so_far // chunk[axis] * _grown(chunk[axis], block[axis], target[axis]) <= MAX_CHUNK_BYTES
    ]
    return min(fitting, key=lambda axis: (chunk[axis] / target[axis], -image[axis], axis), default=None)


def _even(size: int, whole: int) -> int:
    """The smallest size of which as many cover the whole."""
    return math.ceil(whole / math.ceil(whole / size))


def _grown(size: int, step: int, target: int) -> int:
    return min(size + step, target)


def _power_of_two_from(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _power_of_two_below(number: int) -> int:
    return 1 << ((number - 1).bit_length() - 1)
