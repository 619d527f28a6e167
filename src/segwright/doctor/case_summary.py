"""What is kept of a case to compare it with the others of its data set: little, and quick to compute."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.doctor.image_signature import Signature, image_signature
from segwright.geometry import axis_codes
from segwright.io import Image

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Values looked at, an evenly spaced part of the image.
_MAX_SAMPLES = 4096
# More distinct values than this are not counted, and than masks have.
MANY_VALUES = 16


@dataclass(frozen=True)
class ChannelSummary:
    """Intensities of a channel, from an even sample of its voxels; `low` and `high` are the 1st and 99th percentile.

    `shape` holds the quantiles between 0 and 1 when these two are 0 and 1, so that no scale is in it. `num_values`
    counts distinct values up to 16. `contrast` is the share of the background's voxels that are darker than a voxel of
    the foreground, NaN without either. `digest` is of all voxels, None where all are equal.
    """

    low: float
    high: float
    shape: tuple[float, ...]
    num_values: int
    contrast: float
    digest: bytes | None


@dataclass(frozen=True, eq=False)
class CaseSummary:
    """A case in numbers: `shape` and `spacing_mm` are (z, y, x); `label_digest` is None without any foreground."""

    case_id: str
    spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    orientation: str | None
    label_digest: bytes | None
    channels: tuple[ChannelSummary, ...]
    signatures: tuple[Signature, ...]


def summarise_case(case_id: str, image: Image, label_map: NDArray[Any] | None) -> CaseSummary:
    """Summarise a case whose image (c, z, y, x) and label map (z, y, x) have one shape and no NaN.

    A label map that cannot be used is None, and counts as one without foreground.
    """
    shape = image.array.shape[1:]
    stride = max(1, round((image.array[0].size / _MAX_SAMPLES) ** (1 / max(1, sum(size > 1 for size in shape)))))
    steps = tuple(slice(None, None, stride if size > stride else 1) for size in shape)
    sampled = np.zeros(shape, np.uint8)[steps] if label_map is None else label_map[steps]
    foreground = sampled.ravel() > 0
    return CaseSummary(
        case_id=case_id,
        spacing_mm=image.geometry.spacing_mm,
        shape=shape,
        orientation=axis_codes(image.geometry),
        label_digest=_digest(label_map) if label_map is not None and label_map.any() else None,
        channels=tuple(_summarise_channel(channel, channel[steps].ravel(), foreground) for channel in image.array),
        signatures=tuple(image_signature(channel) for channel in image.array),
    )


def _digest(array: NDArray[Any]) -> bytes:
    hashed = hashlib.sha1(str(array.shape).encode(), usedforsecurity=False)
    hashed.update(np.ascontiguousarray(array).data)
    return hashed.digest()


def _summarise_channel(
    channel: NDArray[np.float32], sample: NDArray[np.float32], foreground: NDArray[np.bool_]
) -> ChannelSummary:
    ascending = np.sort(sample)
    low, high = (float(ascending[int(fraction * (ascending.size - 1))]) for fraction in (0.01, 0.99))
    quantiles = ascending[[int(fraction * (ascending.size - 1)) for fraction in QUANTILES]].astype(np.float64)
    num_values = 1 + int(np.count_nonzero(ascending[1:] != ascending[:-1]))
    if num_values < MANY_VALUES:  # a small object may have been missed
        num_values = np.unique(channel).size
    return ChannelSummary(
        low=low,
        high=high,
        shape=tuple(((quantiles - low) / ((high - low) or 1.0)).tolist()),
        num_values=min(MANY_VALUES, num_values),
        contrast=_contrast(sample[foreground], np.sort(sample[~foreground])),
        digest=_digest(channel) if num_values > 1 else None,
    )


def _contrast(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> float:
    """Share of pairs in which the value of `inside` is larger than that of the sorted `outside`; ties count half."""
    if not inside.size or not outside.size:
        return float("nan")
    smaller, not_larger = (np.searchsorted(outside, inside, side=side).sum() for side in ("left", "right"))
    return float((smaller + not_larger) / (2 * inside.size * outside.size))
