"""What is kept of a case to compare it with the others of its data set: little, and quick to compute."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.alignment import axis_codes
from segwright.io import Image

# Cells (z, y, x) in which an image is averaged, to find copies that are not equal to the bit.
SIGNATURE_SHAPE = (12, 16, 16)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Values looked at, an evenly spaced part of the image.
_MAX_SAMPLES = 4096
_MAX_COUNTED = 16


@dataclass(frozen=True)
class ChannelSummary:
    """Intensities of a channel, from an even sample of its voxels.

    `shape` holds the quantiles between 0 and 1 when the 1st and the 99th percentile are 0 and 1, so that no scale is
    in it. `num_values` counts distinct values up to 16. `contrast` is the share of the background's voxels that are
    darker than a voxel of the foreground, NaN without either.
    """

    low: float
    high: float
    shape: tuple[float, ...]
    num_values: int
    contrast: float


@dataclass(frozen=True, eq=False)
class CaseSummary:
    """A case in numbers; `signatures` (c, n) float32 are normalised averages of cells, for correlations."""

    case_id: str
    spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    orientation: str | None
    image_digest: bytes
    label_digest: bytes
    signatures: NDArray[np.float32]
    channels: tuple[ChannelSummary, ...]
    label_counts: Mapping[float, int]


def summarise_case(case_id: str, image: Image, label_map: Image, label_counts: Mapping[float, int]) -> CaseSummary:
    """Summarise a case whose image (c, z, y, x) and label map (1, z, y, x) have one shape and no NaN."""
    stride = max(
        1, round((image.array[0].size / _MAX_SAMPLES) ** (1 / sum(size > 1 for size in image.array.shape[1:])))
    )
    steps = tuple(slice(None, None, stride if size > stride else 1) for size in image.array.shape[1:])
    foreground = label_map.array[0][steps].ravel() > 0
    return CaseSummary(
        case_id=case_id,
        spacing_mm=image.geometry.spacing_mm,
        shape=image.array.shape[1:],
        orientation=axis_codes(image.geometry),
        image_digest=_digest(image.array),
        label_digest=_digest(label_map.array),
        signatures=np.stack([_signature(channel) for channel in image.array]),
        channels=tuple(_summarise_channel(channel[steps].ravel(), foreground) for channel in image.array),
        label_counts=label_counts,
    )


def _digest(array: NDArray[np.float32]) -> bytes:
    hashed = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(array).data)
    return hashed.digest()


def _signature(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    cells: NDArray[Any] = channel
    for axis in np.argsort([-size / count for size, count in zip(channel.shape, SIGNATURE_SHAPE, strict=True)]):
        size, count = cells.shape[axis], SIGNATURE_SHAPE[axis]
        starts = np.arange(count) * size // count
        if size > count:
            widths = np.diff(np.append(starts, size)).astype(np.float32)
            cells = np.add.reduceat(cells, starts, axis=axis) / widths.reshape(np.where(np.arange(3) == axis, -1, 1))
        else:
            cells = cells.take(starts, axis=axis)
    flat = cells.ravel() - cells.mean()
    norm = float(np.linalg.norm(flat))
    return np.asarray(flat / norm if norm > 0 else np.zeros_like(flat), dtype=np.float32)


def _summarise_channel(voxels: NDArray[np.float32], foreground: NDArray[np.bool_]) -> ChannelSummary:
    order = np.argsort(voxels, kind="stable")
    ascending = voxels[order].astype(np.float64)
    low, high = (float(ascending[int(fraction * (ascending.size - 1))]) for fraction in (0.01, 0.99))
    spread = high - low
    quantiles = (ascending[[int(fraction * (ascending.size - 1)) for fraction in QUANTILES]] - low) / (spread or 1.0)
    return ChannelSummary(
        low=low,
        high=high,
        shape=tuple(float(value) for value in quantiles),
        num_values=min(_MAX_COUNTED, 1 + int(np.count_nonzero(np.diff(ascending)))),
        contrast=_contrast(ascending, foreground[order]),
    )


def _contrast(ascending: NDArray[np.float64], foreground: NDArray[np.bool_]) -> float:
    """Share of pairs of a foreground and a background voxel in which the foreground is brighter; ties count half."""
    inside, outside = int(foreground.sum()), int((~foreground).sum())
    if not inside or not outside:
        return float("nan")
    first = np.searchsorted(ascending, ascending, side="left")
    last = np.searchsorted(ascending, ascending, side="right")
    background_below = np.concatenate([[0], np.cumsum(~foreground)])
    pairs = (background_below[first[foreground]] + background_below[last[foreground]]) / 2
    return float(pairs.sum() / (inside * outside))
