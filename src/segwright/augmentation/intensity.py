"""The intensity transforms with explicit parameters; each works in place on one image (c, ...) or one channel of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-7
"""Ranges and deviations below this are taken as this: nnU-Net v2's guard for constant images."""

KERNEL_WIDTH_IN_SIGMAS = 6.0


def add_noise(image: NDArray[np.float32], standard_deviation: float, rng: np.random.Generator) -> None:
    """Add independent Gaussian noise to every voxel of (c, ...), in place."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(standard_deviation)
    image += noise


def gaussian_kernel(sigma: float) -> NDArray[np.float32]:
    """Return the normalised kernel of nnU-Net v2's blur: its length is the odd number nearest to 6 sigma + 0.5."""
    wanted = sigma * KERNEL_WIDTH_IN_SIGMAS + 0.5
    length = round(wanted)
    if length % 2 == 0:
        length += 1 if wanted >= length else -1
    length = max(length, 1)
    positions = np.arange(length, dtype=np.float32) - np.float32((length - 1) / 2)
    weights = np.exp(np.float32(-0.5) * (positions / np.float32(sigma)) ** 2)
    normalised: NDArray[np.float32] = weights / weights.sum()
    return normalised


def blur(channel: NDArray[np.float32], sigmas: Sequence[float]) -> None:
    """Blur one channel (z, y, x) or (y, x) by a Gaussian of one sigma per axis, edges reflected, in place."""
    from segwright.augmentation.kernels import blur_volume

    volume = _as_volume(channel)
    *first, kernel_y, kernel_x = (gaussian_kernel(sigma) for sigma in sigmas)
    kernel_z = first[0] if first else np.ones(1, np.float32)
    out = np.empty_like(volume)
    blur_volume(volume, kernel_z, kernel_y, kernel_x, out)
    volume[...] = out


def contrast(channel: NDArray[np.float32], factor: float) -> None:
    """Stretch one channel about its mean, limited to the range it had, in place."""
    from segwright.augmentation.kernels import scale_shift_clip

    mean, _ = mean_and_deviation(channel)
    shift = np.float32(mean * (1 - factor))
    scale_shift_clip(channel.reshape(-1), np.float32(factor), shift, channel.min(), channel.max())


def gamma(channel: NDArray[np.float32], exponent: float, *, inverted: bool) -> None:
    """Raise one channel, scaled to [0, 1], to a power, keeping its mean and standard deviation, in place.

    With `inverted` the curve bends the negative image, so that bright voxels are treated as dark ones.
    """
    from segwright.augmentation.kernels import scale_shift_clip

    mean, deviation = mean_and_deviation(channel)
    low, high = channel.min(), channel.max()
    span = max(high - low, np.float32(SMALLEST))
    if inverted:
        np.subtract(high, channel, out=channel)
    else:
        np.subtract(channel, low, out=channel)
    channel /= span
    np.power(channel, np.float32(exponent), out=channel)
    new_mean, new_deviation = mean_and_deviation(channel)
    # the curve's own scaling back by the span cancels against the restored deviation, but for near-constant images
    slope = (-1 if inverted else 1) * float(span) * deviation / max(float(span) * new_deviation, SMALLEST)
    infinity = np.float32(np.inf)
    shift = np.float32(mean - slope * new_mean)
    scale_shift_clip(channel.reshape(-1), np.float32(slope), shift, -infinity, infinity)


def mean_and_deviation(channel: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean and the unbiased standard deviation of all values."""
    from segwright.augmentation.kernels import sums

    total, squares = sums(channel.reshape(-1))
    mean = total / channel.size
    return mean, math.sqrt(max(squares - total * mean, 0.0) / max(channel.size - 1, 1))


def simulate_low_resolution(channel: NDArray[np.float32], scales: Sequence[float]) -> None:
    """Shrink a channel (z, y, x) or (y, x) by a scale per axis, nearest neighbour; enlarge it linearly, in place."""
    from segwright.augmentation.kernels import enlarge_volume

    volume = _as_volume(channel)
    all_scales = [1.0, *scales] if len(scales) == 2 else list(scales)
    small_shape = [max(round(edge * scale), 1) for edge, scale in zip(volume.shape, all_scales, strict=True)]
    nearest = [nearest_exact_indices(edge, small) for edge, small in zip(volume.shape, small_shape, strict=True)]
    small_volume = np.ascontiguousarray(volume[np.ix_(*nearest)])
    lower, upper, weight = zip(
        *(_linear_neighbours(small, edge) for edge, small in zip(volume.shape, small_shape, strict=True)), strict=True
    )
    enlarge_volume(small_volume, lower, upper, weight, volume)


def nearest_exact_indices(size: int, new_size: int) -> NDArray[np.int64]:
    """Return, per position of the new grid, the old one's voxel whose centre is nearest (torch's nearest-exact)."""
    ratio = np.float32(size) / np.float32(new_size)
    centres = ((np.arange(new_size) + 0.5) * np.float64(ratio)).astype(np.float32)
    indices: NDArray[np.int64] = np.minimum(np.floor(centres).astype(np.int64), size - 1)
    return indices


def _linear_neighbours(size: int, new_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return lower and upper neighbour and the upper one's weight per position of the new grid (edges aligned)."""
    ratio = np.float32(size) / np.float32(new_size)
    positions = np.maximum(ratio * (np.arange(new_size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    lower = np.minimum(positions.astype(np.int64), size - 1)
    return lower, np.minimum(lower + 1, size - 1), (positions - lower).astype(np.float32)


def _as_volume(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    return channel if channel.ndim == 3 else channel[np.newaxis]
