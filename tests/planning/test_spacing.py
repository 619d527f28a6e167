from __future__ import annotations

import re

import pytest

from segwright.errors import PlanError
from segwright.fingerprint import INTENSITY_KEYS, Fingerprint
from segwright.planning.spacing import choose_target_spacing, choose_transpose, median_shape_at


def fingerprint(spacings: list[list[float]], shapes: list[list[int]]) -> Fingerprint:
    return Fingerprint.from_json(
        {
            "spacings": spacings,
            "shapes_after_crop": shapes,
            "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(INTENSITY_KEYS, 1.0)},
            "median_relative_size_after_cropping": 1.0,
        }
    )


def test_median_of_each_axis() -> None:
    data = fingerprint([[1, 1, 2], [1.5, 1, 4], [2, 3, 2.5]], [[100, 90, 80]] * 3)
    target = choose_target_spacing(data)
    assert target.spacing_mm == (1.5, 1, 2.5)
    assert target.rule == "median"
    assert not target.spacing_is_anisotropic
    assert target.coarsest_axis == 2


def test_few_coarse_slices_take_the_tenth_percentile() -> None:
    data = fingerprint([[value, 1, 1] for value in (5, 5, 6, 8, 10, 10, 10, 10, 10, 10, 10)], [[12, 200, 200]] * 11)
    target = choose_target_spacing(data)
    assert target.rule == "10th percentile"
    assert target.spacing_mm == (5, 1, 1)
    assert target.median_spacing_mm == (10, 1, 1)


def test_many_coarse_slices_keep_the_median() -> None:
    target = choose_target_spacing(fingerprint([[4, 1, 1]] * 3, [[100, 200, 200]] * 3))
    assert target.spacing_is_anisotropic
    assert not target.shape_is_anisotropic
    assert target.rule == "median"


def test_a_tenth_percentile_below_the_pixels_is_held_just_above_them() -> None:
    data = fingerprint([[0.5, 1, 1], [0.5, 1, 1], *[[8, 1, 1]] * 3], [[12, 200, 200]] * 5)
    target = choose_target_spacing(data)
    assert target.was_held_above_other_axes
    assert target.spacing_mm == (1 + 1e-5, 1, 1)


def test_an_override_wins_and_is_checked() -> None:
    data = fingerprint([[1, 1, 1]], [[10, 20, 30]])
    target = choose_target_spacing(data, (2, 0.5, 0.5))
    assert target.rule == "override"
    assert target.spacing_mm == (2, 0.5, 0.5)
    for wrong in ((1, 1), (1, 1, 0), (1, 1, float("nan"))):
        with pytest.raises(PlanError, match=re.escape(str(wrong[-1]))):
            choose_target_spacing(data, wrong)


def test_the_coarsest_axis_comes_first() -> None:
    assert choose_transpose((0.7, 0.7, 4)) == ((2, 0, 1), (1, 2, 0))
    assert choose_transpose((1, 4, 1)) == ((1, 0, 2), (1, 0, 2))
    assert choose_transpose((1, 1, 1)) == ((0, 1, 2), (0, 1, 2))
    assert choose_transpose((0.7, 0.7, 4), suppress=True) == ((0, 1, 2), (0, 1, 2))


def test_the_median_shape_is_that_of_the_resampled_images() -> None:
    data = fingerprint([[1, 1, 1], [2, 1, 1]], [[10, 20, 31], [11, 20, 32]])
    assert median_shape_at(data, (2, 1, 1)) == (8, 20, 31.5)  # round half to even: 5 and 11


def test_a_spacing_that_leaves_no_voxels_is_refused() -> None:
    with pytest.raises(PlanError, match="spacing"):
        median_shape_at(fingerprint([[1, 1, 1]], [[10, 20, 1]]), (1, 1, 50))
