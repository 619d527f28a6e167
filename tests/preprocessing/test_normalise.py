from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from segwright.errors import ImageError, PlanError
from segwright.preprocessing.normalise import NORMALISATIONS, normalise

INTENSITIES = {"mean": 10.0, "std": 4.0, "percentile_00_5": -5.0, "percentile_99_5": 30.0}


@pytest.fixture
def channel() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(20, 15, (5, 6, 7)).astype(np.float32)


def test_zscore_has_mean_zero_and_deviation_one(channel: NDArray[np.float32]) -> None:
    expected = (channel - channel.mean(dtype=np.float64)) / channel.std(dtype=np.float64)
    normalise(channel, "ZScoreNormalization")
    np.testing.assert_allclose(channel, expected, atol=1e-5)


def test_zscore_within_a_mask_leaves_the_outside_alone(channel: NDArray[np.float32]) -> None:
    mask = channel > 15
    before = channel.copy()
    normalise(channel, "ZScoreNormalization", mask=mask)
    np.testing.assert_array_equal(channel[~mask], before[~mask])
    assert channel[mask].mean() == pytest.approx(0, abs=1e-5)
    assert channel[mask].std() == pytest.approx(1, abs=1e-5)


def test_constant_images_do_not_divide_by_zero() -> None:
    for scheme in ("ZScoreNormalization", "RescaleTo01Normalization"):
        constant = np.full((2, 3, 4), 7, np.float32)
        normalise(constant, scheme)
        assert not constant.any()


def test_an_empty_mask_changes_nothing(channel: NDArray[np.float32]) -> None:
    before = channel.copy()
    normalise(channel, "ZScoreNormalization", mask=np.zeros(channel.shape, bool))
    np.testing.assert_array_equal(channel, before)


def test_ct_clips_to_the_foregrounds_percentiles(channel: NDArray[np.float32]) -> None:
    expected = (np.clip(channel, -5, 30) - 10) / 4
    normalise(channel, "CTNormalization", intensities=INTENSITIES)
    np.testing.assert_allclose(channel, expected, atol=1e-6)
    assert channel.max() == 5


@pytest.mark.parametrize("intensities", [None, {"mean": 1.0}])
def test_ct_needs_the_plans_intensities(channel: NDArray[np.float32], intensities: dict[str, float] | None) -> None:
    with pytest.raises(PlanError, match="foreground_intensity_properties_per_channel"):
        normalise(channel, "CTNormalization", intensities=intensities)


def test_rescaling_reaches_from_0_to_1(channel: NDArray[np.float32]) -> None:
    expected = (channel - channel.min()) / np.ptp(channel)
    normalise(channel, "RescaleTo01Normalization")
    np.testing.assert_allclose(channel, expected, atol=1e-6)
    assert (channel.min(), channel.max()) == (0, 1)


def test_colours_are_divided_by_255() -> None:
    channel = np.array([[[0, 51, 255]]], np.float32)
    normalise(channel, "RGBTo01Normalization")
    np.testing.assert_allclose(channel, [[[0, 0.2, 1]]])


@pytest.mark.parametrize("value", [-1, 256])
def test_what_is_no_colour_is_refused(value: float) -> None:
    with pytest.raises(ImageError, match=rf"255.*{value}"):
        normalise(np.full((1, 1, 1), value, np.float32), "RGBTo01Normalization")


def test_no_normalisation_leaves_the_image(channel: NDArray[np.float32]) -> None:
    before = channel.copy()
    normalise(channel, "NoNormalization")
    np.testing.assert_array_equal(channel, before)


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match="ZScoreNormalization, CTNormalization"):
        normalise(np.zeros((1, 1, 1), np.float32), "MyNormalization")


def test_every_scheme_that_plans_may_name_is_there() -> None:
    from segwright.planning.configuration import NORMALIZATION_SCHEMES

    assert set(NORMALISATIONS) == set(NORMALIZATION_SCHEMES)
