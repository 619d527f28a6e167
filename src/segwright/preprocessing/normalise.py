"""Intensity normalisation, one function for each of nnU-Net v2's schemes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, PlanError, message

_SMALLEST_SCALE = 1e-8
_LARGEST_INTENSITY = float(np.finfo(np.float32).max)
_VALUES_AT_ONCE = 1 << 18

Normalisation = Callable[[NDArray[np.float32], "NDArray[np.bool_] | None", "Mapping[str, float] | None"], None]
"""Works in place on one channel (z, y, x), given the mask to normalise within, or None for everything, and the
intensity properties of the channel in the plan."""


def normalise(
    channel: NDArray[np.float32],
    scheme: str,
    *,
    mask: NDArray[np.bool_] | None = None,
    intensities: Mapping[str, float] | None = None,
) -> None:
    """Normalise one channel (z, y, x) in place by nnU-Net's class name `scheme`.

    Raises:
        PlanError: the scheme is unknown, or the plan lacks the intensities that it needs.
        ImageError: the image does not suit the scheme.
    """
    function = NORMALISATIONS.get(scheme)
    if function is None:
        raise PlanError(
            message(
                "plans, key 'normalization_schemes'",
                expected="one of " + ", ".join(NORMALISATIONS),
                got=repr(scheme),
                remedy="Name one of these for each channel.",
            )
        )
    function(channel, mask, intensities)


def _zscore(
    channel: NDArray[np.float32], mask: NDArray[np.bool_] | None, intensities: Mapping[str, float] | None
) -> None:
    values = channel if mask is None else channel[mask]
    if values.size == 0:
        return
    mean, std = _mean_and_std(values)
    values -= np.float32(mean)
    values /= np.float32(max(std, _SMALLEST_SCALE))
    if mask is not None:
        channel[mask] = values


def _mean_and_std(values: NDArray[np.float32]) -> tuple[float, float]:
    """In float64, of which there are never more than a slice (of z, y, x) or `_VALUES_AT_ONCE` (of a list) at once."""
    step = 1 if values.ndim > 1 else _VALUES_AT_ONCE
    parts = [values[first : first + step] for first in range(0, len(values), step)]
    mean = sum(float(part.sum(dtype=np.float64)) for part in parts) / values.size
    squares = 0.0
    for part in parts:
        deviations = (part - np.float64(mean)).ravel()
        squares += float(np.dot(deviations, deviations))
    return mean, math.sqrt(squares / values.size)


def _ct(channel: NDArray[np.float32], mask: NDArray[np.bool_] | None, intensities: Mapping[str, float] | None) -> None:
    needed = ("mean", "std", "percentile_00_5", "percentile_99_5")
    if intensities is None or not all(abs(intensities.get(key, math.nan)) <= _LARGEST_INTENSITY for key in needed):
        raise PlanError(
            message(
                "plans, key 'foreground_intensity_properties_per_channel'",
                expected=f"finite {', '.join(needed)} for a channel with CTNormalization",
                got="nothing" if intensities is None else repr(dict(intensities)),
                remedy="Plan the data set again.",
            )
        )
    np.clip(channel, intensities["percentile_00_5"], intensities["percentile_99_5"], out=channel)
    channel -= np.float32(intensities["mean"])
    channel /= np.float32(max(intensities["std"], _SMALLEST_SCALE))


def _rescale_to_01(
    channel: NDArray[np.float32], mask: NDArray[np.bool_] | None, intensities: Mapping[str, float] | None
) -> None:
    channel -= channel.min()
    channel /= max(float(channel.max()), _SMALLEST_SCALE)


def _rgb_to_01(
    channel: NDArray[np.float32], mask: NDArray[np.bool_] | None, intensities: Mapping[str, float] | None
) -> None:
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise ImageError(
            message(
                "image with RGBTo01Normalization",
                expected="colour values between 0 and 255",
                got=f"values between {low:g} and {high:g}",
                remedy="If this is no colour image, name its channels otherwise than 'rgb_to_0_1' and plan again.",
            )
        )
    channel /= np.float32(255)


def _none(
    channel: NDArray[np.float32], mask: NDArray[np.bool_] | None, intensities: Mapping[str, float] | None
) -> None:
    """Leave the intensities as they are."""


NORMALISATIONS: Mapping[str, Normalisation] = {
    "ZScoreNormalization": _zscore,
    "CTNormalization": _ct,
    "NoNormalization": _none,
    "RescaleTo01Normalization": _rescale_to_01,
    "RGBTo01Normalization": _rgb_to_01,
}
