"""Intensity normalisation, one function for each of nnU-Net v2's schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, PlanError, message

_SMALLEST_SCALE = 1e-8

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
    mean = values.mean(dtype=np.float64)
    scale = max(float(values.std(dtype=np.float64)), _SMALLEST_SCALE)
    normalised = ((values - np.float32(mean)) / np.float32(scale)).astype(np.float32, copy=False)
    if mask is None:
        channel[...] = normalised
    else:
        channel[mask] = normalised


def _ct(channel: NDArray[np.float32], mask: NDArray[np.bool_] | None, intensities: Mapping[str, float] | None) -> None:
    needed = ("mean", "std", "percentile_00_5", "percentile_99_5")
    if intensities is None or any(key not in intensities for key in needed):
        raise PlanError(
            message(
                "plans, key 'foreground_intensity_properties_per_channel'",
                expected=f"{', '.join(needed)} for a channel with CTNormalization",
                got="nothing" if intensities is None else ", ".join(intensities),
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
