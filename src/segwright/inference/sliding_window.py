"""Logits of a whole image from a network that sees one tile at a time (nnU-Net v2), slab by slab."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segwright.errors import CheckpointError, ImageError, SettingsError, message
from segwright.inference.tiling import gaussian_importance, tile_starts
from segwright.parallel import Progress

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From a batch of tiles (b, c, [z,] y, x) to their logits (b, k, [z,] y, x), an array of its own."""

Slices = tuple[slice | int, ...]


@dataclass(frozen=True, eq=False)
class Slab:
    """Finished logits (k, z, y, x) of a part of an image, which begins at voxel `start` of `axis` (of z, y, x)."""

    logits: NDArray[np.float32]
    axis: int
    start: int


@dataclass(frozen=True)
class _Padding:
    """How an image is padded, (before, after) for each axis of (c, z, y, x), and the slices that undo it."""

    amounts: tuple[tuple[int, int], ...]
    undo: tuple[slice, ...]


def predict_slabs(
    forward: Forward,
    data: NDArray[np.float32],
    *,
    patch_size: Sequence[int],
    num_outputs: int,
    tiles_at_once: int = 1,
    step_size: float = 0.5,
    axis: int = 0,
    progress: Progress | None = None,
) -> Iterator[Slab]:
    """Predict the logits of a preprocessed image (c, z, y, x) by tiles, and give each slab that no later tile meets.

    Together the slabs are the image, in order along `axis`; no more than a tile's extent along it is held. Sums run in
    the order of the tiles, so that another axis may change the last bit. A patch of two axes (y, x) is applied slice
    by slice; `tiles_at_once` tiles share a call of `forward`.

    Raises:
        SettingsError: the step size is out of its range.
        ImageError: the image is not finite.
        CheckpointError: the network gave something that is not finite.
    """
    _check_step_size(step_size)
    _check_image(data)
    padding = _padding(data.shape[1:], patch_size)
    padded = np.pad(data, padding.amounts) if np.any(padding.amounts) else data
    tiles = sorted(_tiles(padded.shape[1:], patch_size, step_size), key=lambda tile: _start(tile[axis]))
    inside = padding.undo[axis]
    for slab in _stitched(
        _predicted(forward, padded, tiles, tiles_at_once, progress),
        gaussian_importance(tuple(patch_size)),
        shape=(num_outputs, *padded.shape[1:]),
        axis=axis,
    ):
        first, end = max(slab.start, inside.start), min(slab.start + slab.logits.shape[1 + axis], inside.stop)
        if first < end:
            kept = list(padding.undo)
            kept[axis] = slice(first - slab.start, end - slab.start)
            yield Slab(slab.logits[_all_channels(tuple(kept))], axis, first - inside.start)


def whole_logits(slabs: Iterator[Slab], shape: Sequence[int]) -> NDArray[np.float32]:
    """Put slabs together to logits of `shape` (k, z, y, x)."""
    logits = np.empty(shape, dtype=np.float32)
    for slab in slabs:
        place = [slice(None)] * len(shape)
        place[1 + slab.axis] = slice(slab.start, slab.start + slab.logits.shape[1 + slab.axis])
        logits[tuple(place)] = slab.logits
    return logits


def _predicted(
    forward: Forward,
    data: NDArray[np.float32],
    tiles: Sequence[Slices],
    tiles_at_once: int,
    progress: Progress | None,
) -> Iterator[tuple[Slices, NDArray[np.float32]]]:
    for first in range(0, len(tiles), tiles_at_once):
        some = tiles[first : first + tiles_at_once]
        yield from zip(some, forward(np.stack([data[_all_channels(tile)] for tile in some])), strict=True)
        if progress is not None:
            progress("predict tiles", first + len(some), len(tiles))


def _stitched(
    predicted: Iterator[tuple[Slices, NDArray[np.float32]]],
    importance: NDArray[np.float32],
    *,
    shape: tuple[int, ...],
    axis: int,
) -> Iterator[Slab]:
    """Weighted means of tiles that come in the order of their starts along `axis`."""
    start = depth = 0
    sums: NDArray[np.float32]
    for tile, logits in predicted:
        first, end = _start(tile[axis]), _end(tile[axis])
        if depth == 0:
            depth = end - first
            sums = np.zeros((shape[0] + 1, *shape[1 : 1 + axis], depth, *shape[2 + axis :]), dtype=np.float32)
            window = np.moveaxis(sums, 1 + axis, 0)  # the sums of the channels, and last that of the weights
        if first > start:
            yield _finished(sums, axis, start, first - start)
            window[: depth - (first - start)] = window[first - start :]
            window[depth - (first - start) :] = 0
            start = first
        place = list(tile)
        place[axis] = slice(0, depth) if isinstance(tile[axis], slice) else 0
        logits *= importance
        sums[:-1][_all_channels(tuple(place))] += logits
        sums[-1][tuple(place)] += importance
    yield _finished(sums, axis, start, depth)


def _finished(sums: NDArray[np.float32], axis: int, start: int, size: int) -> Slab:
    part = sums[(slice(None),) * (1 + axis) + (slice(0, size),)]
    logits = part[:-1] / part[-1]
    if not np.isfinite(logits).all():
        raise CheckpointError(
            message(
                "network output",
                expected="finite logits",
                got=f"NaN or infinity in {int((~np.isfinite(logits)).sum())} values",
                remedy="The weights are damaged or overflow half precision; try device 'cpu' or another checkpoint.",
            )
        )
    return Slab(logits, axis, start)


def _start(along_axis: slice | int) -> int:
    return along_axis.start if isinstance(along_axis, slice) else along_axis


def _end(along_axis: slice | int) -> int:
    return along_axis.stop if isinstance(along_axis, slice) else along_axis + 1


def _tiles(image_size: Sequence[int], patch_size: Sequence[int], step_size: float) -> list[Slices]:
    """Slices of every tile in (z, y, x); for a patch of two axes the first one is the number of the slice."""
    flat_axes = len(image_size) - len(patch_size)
    starts = tile_starts(image_size[flat_axes:], patch_size, step_size=step_size)
    corners = itertools.product(*(range(size) for size in image_size[:flat_axes]), *starts)
    return [
        (
            *corner[:flat_axes],
            *(slice(start, start + size) for start, size in zip(corner[flat_axes:], patch_size, strict=True)),
        )
        for corner in corners
    ]


def _all_channels(tile: Slices) -> Slices:
    return (slice(None), *tile)


def _padding(image_size: Sequence[int], patch_size: Sequence[int]) -> _Padding:
    """Padding with zeros on both sides up to the patch, the odd voxel behind."""
    wanted = [*image_size[: len(image_size) - len(patch_size)], *patch_size]
    missing = [max(0, want - have) for want, have in zip(wanted, image_size, strict=True)]
    before = [amount // 2 for amount in missing]
    amounts = [(first, both - first) for first, both in zip(before, missing, strict=True)]
    undo = tuple(slice(first, first + size) for first, size in zip(before, image_size, strict=True))
    return _Padding(((0, 0), *amounts), undo)


def _check_step_size(step_size: float) -> None:
    if not 0 < step_size <= 1:
        raise SettingsError(
            message(
                "setting 'step_size'",
                expected="a share of the tile above 0 and up to 1",
                got=step_size,
                remedy="0.5 is nnU-Net's; larger is faster, smaller smoother.",
            )
        )


def _check_image(data: NDArray[np.float32]) -> None:
    if not np.isfinite(data).all():
        raise ImageError(
            message(
                "preprocessed image",
                expected="finite values",
                got=f"NaN or infinity in {int((~np.isfinite(data)).sum())} voxels",
                remedy="Replace such values in the image file.",
            )
        )
