from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch.nn.functional import interpolate

from examples import examples
from segwright.augmentation import intensity

SHAPES = [(7, 9, 11), (1, 12, 13), (17, 20)]


def _channel(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 3 + 1).astype(np.float32)


@pytest.mark.parametrize(("sigma", "length"), [(0.5, 3), (0.58, 3), (0.6, 5), (0.75, 5), (0.9, 5), (0.92, 7), (1.0, 7)])
def test_kernel_length_is_the_odd_number_nearest_to_six_sigmas_and_a_half(sigma: float, length: int) -> None:
    kernel = intensity.gaussian_kernel(sigma)
    assert kernel.size == length
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    centre = length // 2
    assert kernel[centre] / kernel[centre + 1] == pytest.approx(np.exp(0.5 / sigma**2), rel=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 2, 3)])
def test_blur_equals_scipy_with_reflected_edges(shape: tuple[int, ...]) -> None:
    sigmas = [0.5, 0.8, 1.0][: len(shape)]
    channel = _channel(shape)
    wanted = channel.astype(np.float64)
    for axis, sigma in enumerate(sigmas):
        wanted = correlate1d(wanted, intensity.gaussian_kernel(sigma).astype(np.float64), axis, mode="mirror")
    intensity.blur(channel, sigmas)
    np.testing.assert_allclose(channel, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [0.75, 1.0, 1.25])
def test_contrast_stretches_about_the_mean_within_the_old_range(shape: tuple[int, ...], factor: float) -> None:
    channel = _channel(shape)
    before = channel.astype(np.float64)
    intensity.contrast(channel, factor)
    wanted = np.clip((before - before.mean()) * factor + before.mean(), before.min(), before.max())
    np.testing.assert_allclose(channel, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_bends_the_curve_and_keeps_mean_and_deviation(
    shape: tuple[int, ...], exponent: float, inverted: bool
) -> None:
    channel = _channel(shape)
    bent = channel.astype(np.float64) * (-1 if inverted else 1)
    mean, deviation = bent.mean(), bent.std(ddof=1)
    low, span = bent.min(), np.ptp(bent)
    bent = ((bent - low) / span) ** exponent * span + low
    bent = (bent - bent.mean()) / bent.std(ddof=1) * deviation + mean
    intensity.gamma(channel, exponent, inverted=inverted)
    np.testing.assert_allclose(channel, bent * (-1 if inverted else 1), atol=1e-5)


@pytest.mark.parametrize("inverted", [False, True])
def test_a_constant_channel_stays_as_it_is(inverted: bool) -> None:
    channel = np.full((3, 4, 5), 7.5, np.float32)
    intensity.gamma(channel, 0.8, inverted=inverted)
    intensity.contrast(channel, 1.2)
    np.testing.assert_allclose(channel, 7.5, atol=1e-6)


def test_mean_and_deviation_hold_for_values_far_from_zero() -> None:
    channel = (np.random.default_rng(0).standard_normal((40, 50, 60)) + 20000).astype(np.float32)
    mean, deviation = intensity.mean_and_deviation(channel)
    assert mean == pytest.approx(channel.mean(dtype=np.float64), rel=1e-9)
    assert deviation == pytest.approx(channel.std(dtype=np.float64, ddof=1), rel=1e-5)


@examples(60)
@given(
    shape=st.lists(st.integers(1, 24), min_size=2, max_size=3).map(tuple),
    scale=st.floats(0.5, 1.0),
    keep_first=st.booleans(),
)
def test_low_resolution_equals_torch(shape: tuple[int, ...], scale: float, keep_first: bool) -> None:
    scales = [1.0 if keep_first and axis == 0 else scale for axis in range(len(shape))]
    small = [max(round(edge * factor), 1) for edge, factor in zip(shape, scales, strict=True)]
    channel = _channel(shape)
    shrunk = interpolate(torch.from_numpy(channel.copy())[None, None], small, mode="nearest-exact")
    wanted = interpolate(shrunk, shape, mode="trilinear" if len(shape) == 3 else "bilinear")[0, 0]
    intensity.simulate_low_resolution(channel, scales)
    np.testing.assert_allclose(channel, wanted.numpy(), atol=1e-4)


def test_nearest_exact_indices_equal_torch_for_many_sizes() -> None:
    for size in (1, 2, 3, 5, 8, 13, 20, 37, 56, 128, 205, 320):
        for new_size in range(1, size + 1):
            line = torch.arange(size, dtype=torch.float32)[None, None]
            wanted = interpolate(line, [new_size], mode="nearest-exact")[0, 0].numpy()
            np.testing.assert_array_equal(intensity.nearest_exact_indices(size, new_size), wanted)


def test_the_deviation_is_the_unbiased_one() -> None:
    assert intensity.mean_and_deviation(np.array([1, 2, 6], np.float32)) == pytest.approx((3, np.sqrt(7)))


def test_noise_has_the_given_standard_deviation_and_differs_per_voxel_and_channel() -> None:
    image = np.full((2, 40, 50, 40), 3, np.float32)
    intensity.add_noise(image, 0.07, np.random.default_rng(0))
    # 80,000 values a channel: the standard error of mean and deviation is below 0.0003
    assert image.mean(axis=(1, 2, 3)) == pytest.approx([3, 3], abs=0.0015)
    assert image.std(axis=(1, 2, 3)) == pytest.approx([0.07, 0.07], abs=0.001)
    assert abs(np.corrcoef(image[0].ravel(), image[1].ravel())[0, 1]) < 0.02
