"""Patch sampling of nnU-Net v2, with random numbers that only depend on the index of the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAINING_STREAM = 0
VALIDATION_STREAM = 1


@dataclass(frozen=True)
class SampleIndex:
    """Which patch of a training: epoch, step within the epoch, position within the batch."""

    epoch: int
    step: int
    position: int


def sample_rng(seed: int, stream: int, index: SampleIndex) -> np.random.Generator:
    """Random numbers for one sample, the same in any worker, process or resumed run (counter-based, Philox)."""
    return np.random.Generator(_philox(seed, stream, index))


def derived_number(seed: int, stream: int, index: SampleIndex) -> int:
    """A number below 2^64 to seed other generators with; like `sample_rng`, a function of its arguments."""
    return int(_philox(seed, stream, index).random_raw())


def _philox(seed: int, stream: int, index: SampleIndex) -> np.random.Philox:
    counter = np.array([0, index.position, index.step, index.epoch], dtype=np.uint64)
    return np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=counter)


def is_forced_foreground(position: int, batch_size: int, oversample_foreground: float) -> bool:
    """Whether foreground oversampling applies to this sample: the last third of a batch, with nnU-Net's rounding."""
    return not position < round(batch_size * (1 - oversample_foreground))


def choose_lower_corner(
    shape: Sequence[int],
    *,
    crop_size: Sequence[int],
    patch_size: Sequence[int],
    forced_foreground: bool,
    class_locations: Mapping[Any, NDArray[np.integer[Any]]],
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Choose the lower corner of a crop in an image of `shape` (z, y, x); it may lie outside the image.

    Args:
        shape: of the image.
        crop_size: of the crop, from which augmentation samples the patch.
        patch_size: of the network's input.
        forced_foreground: centre the crop on a voxel of a class drawn at random, if the image has any.
        class_locations: for each class an (n, 4) array of voxels (channel, z, y, x).
        rng: of this sample.

    Source: nnU-Net v2, `nnUNetDataLoader.get_bbox`.
    """
    low, high = crop_bounds(shape, crop_size=crop_size, patch_size=patch_size)
    eligible = [locations for locations in class_locations.values() if len(locations)] if forced_foreground else []
    if not eligible:
        return tuple(int(rng.integers(lower, upper + 1)) for lower, upper in zip(low, high, strict=True))
    locations = eligible[int(rng.integers(len(eligible)))]
    voxel = locations[int(rng.integers(len(locations)))][1:]
    return tuple(max(lower, int(centre) - size // 2) for lower, centre, size in zip(low, voxel, crop_size, strict=True))


def crop_bounds(
    shape: Sequence[int], *, crop_size: Sequence[int], patch_size: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lowest and highest lower corner, both included, that a random crop may have on each axis."""
    low, high = [], []
    for size, crop, patch in zip(shape, crop_size, patch_size, strict=True):
        padding = max(crop - patch, crop - size)
        low.append(-((padding + 1) // 2))
        high.append(size + padding // 2 + padding % 2 - crop)
    return tuple(low), tuple(high)


def read_crop(source: Any, lower: Sequence[int], crop_size: Sequence[int], *, fill: float) -> NDArray[Any]:
    """Read a crop of an array (c, z, y, x), sliceable and with `shape`; outside it, `fill`."""
    shape = source.shape[1:]
    inside = [slice(max(lo, 0), min(lo + size, n)) for lo, size, n in zip(lower, crop_size, shape, strict=True)]
    if any(s.start >= s.stop for s in inside):
        return np.full((source.shape[0], *crop_size), fill, dtype=source.dtype)
    region = (slice(None), *inside)
    values = np.asarray(source[region])
    margins = [(s.start - lo, lo + size - s.stop) for s, lo, size in zip(inside, lower, crop_size, strict=True)]
    if not any(before or after for before, after in margins):
        return values
    return np.pad(values, [(0, 0), *margins], constant_values=fill)
