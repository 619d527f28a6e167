"""Intensity normalisation, the schemes of nnU-Net v2 by its class names; each works in place on one channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, PlanError, message

Channel = NDArray[np.float32]
Mask = NDArray[np.bool_]
SMALLEST_DEVIATION = 1e-8


def normalise_channel(
    scheme: str, channel: Channel, *, mask: Mask | None, intensities: Mapping[str, float] | None
) -> None:
    """Normalise a channel (z, y, x) in place.

    Args:
        scheme: nnU-Net's class name.
        channel: float32.
        mask: voxels inside the nonzero region, where the plan says to normalise within it; else None.
        intensities: the data set's foreground intensities of this channel, which CT needs.

    Raises:
        PlanError: unknown scheme, or no intensities for CT.
        ImageError: values that the scheme cannot take.
    """
    if scheme not in SCHEMES:
        raise PlanError(
            message(
                "plans, key 'normalization_schemes'",
                expected=f"one of {', '.join(SCHEMES)}",
                got=repr(scheme),
                remedy="Name one of these in the plans file.",
            )
        )
    SCHEMES[scheme](channel, mask, intensities)


def _z_score(channel: Channel, mask: Mask | None, _: Mapping[str, float] | None) -> None:
    if mask is None:
        mean, deviation = channel.mean(), channel.std()
        channel -= mean
        channel /= max(deviation, SMALLEST_DEVIATION)
    elif mask.any():
        values = channel[mask]
        channel[mask] = (values - values.mean()) / max(values.std(), SMALLEST_DEVIATION)


def _ct(channel: Channel, _: Mask | None, intensities: Mapping[str, float] | None) -> None:
    if intensities is None:
        raise PlanError(
            message(
                "plans, key 'foreground_intensity_properties_per_channel'",
                expected="the data set's foreground intensities of a CT channel",
                got="none",
                remedy="Plan the data set again, so that they are copied from its fingerprint.",
            )
        )
    np.clip(channel, intensities["percentile_00_5"], intensities["percentile_99_5"], out=channel)
    channel -= intensities["mean"]
    channel /= max(intensities["std"], SMALLEST_DEVIATION)


def _rescale_to_01(channel: Channel, _: Mask | None, __: Mapping[str, float] | None) -> None:
    channel -= channel.min()
    channel /= max(channel.max(), SMALLEST_DEVIATION)


def _rgb_to_01(channel: Channel, _: Mask | None, __: Mapping[str, float] | None) -> None:
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise ImageError(
            message(
                "normalisation RGBTo01Normalization",
                expected="intensities from 0 to 255",
                got=f"{low:g} to {high:g}",
                remedy="Name the channel otherwise in dataset.json if it is no 8-bit colour, and plan again.",
            )
        )
    channel /= 255.0


def _none(_: Channel, __: Mask | None, ___: Mapping[str, float] | None) -> None:
    return


SCHEMES: dict[str, Callable[[Channel, Mask | None, Mapping[str, float] | None], None]] = {
    "ZScoreNormalization": _z_score,
    "CTNormalization": _ct,
    "RescaleTo01Normalization": _rescale_to_01,
    "RGBTo01Normalization": _rgb_to_01,
    "NoNormalization": _none,
}
