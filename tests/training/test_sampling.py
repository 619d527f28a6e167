"""Patch sampling: nnU-Net's bounds, forced foreground, and numbers that depend on the sample alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.training.sampling import (
    TRAINING_STREAM,
    VALIDATION_STREAM,
    SampleIndex,
    choose_lower_corner,
    crop_bounds,
    is_forced_foreground,
    read_crop,
    sample_rng,
)

axis = st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 20))


@pytest.mark.parametrize(("batch_size", "forced"), [(2, [1]), (9, [6, 7, 8]), (1, []), (3, [2])])
def test_the_last_third_of_a_batch_is_forced(batch_size: int, forced: list[int]) -> None:
    assert [j for j in range(batch_size) if is_forced_foreground(j, batch_size, 0.33)] == forced


def _slow_bounds(size: int, crop: int, patch: int) -> tuple[int, int]:
    pad = crop - patch
    if pad + size < crop:
        pad = crop - size
    return -pad // 2, size + pad // 2 + pad % 2 - crop


@given(axis)
def test_bounds_equal_the_plain_formula(sizes: tuple[int, int, int]) -> None:
    size, patch, extra = sizes
    low, high = crop_bounds((size,), crop_size=(patch + extra,), patch_size=(patch,))
    assert (low[0], high[0]) == _slow_bounds(size, patch + extra, patch)
    assert low[0] <= high[0]


def test_forced_foreground_is_inside_the_crop() -> None:
    locations = {1: np.array([[0, 3, 4, 5]]), 2: np.zeros((0, 4), dtype=int)}
    for number in range(20):
        lower = choose_lower_corner(
            (30, 30, 30),
            crop_size=(8, 8, 8),
            patch_size=(8, 8, 8),
            forced_foreground=True,
            class_locations=locations,
            rng=sample_rng(0, TRAINING_STREAM, SampleIndex(0, number, 0)),
        )
        assert all(lo <= voxel < lo + 8 for lo, voxel in zip(lower, (3, 4, 5), strict=True))


def test_without_foreground_a_forced_sample_is_a_random_one() -> None:
    corners = {
        choose_lower_corner(
            (40, 40, 40),
            crop_size=(8, 8, 8),
            patch_size=(8, 8, 8),
            forced_foreground=True,
            class_locations={1: np.zeros((0, 4), dtype=int)},
            rng=sample_rng(0, TRAINING_STREAM, SampleIndex(0, number, 0)),
        )
        for number in range(10)
    }
    assert len(corners) == 10


def test_random_numbers_depend_on_seed_stream_and_sample_only() -> None:
    index = SampleIndex(3, 14, 1)
    first = sample_rng(7, TRAINING_STREAM, index).random(4)
    sample_rng(7, TRAINING_STREAM, SampleIndex(0, 0, 0)).random(1000)
    assert np.array_equal(first, sample_rng(7, TRAINING_STREAM, index).random(4))
    others = [
        sample_rng(8, TRAINING_STREAM, index),
        sample_rng(7, VALIDATION_STREAM, index),
        sample_rng(7, TRAINING_STREAM, SampleIndex(4, 14, 1)),
        sample_rng(7, TRAINING_STREAM, SampleIndex(3, 15, 1)),
        sample_rng(7, TRAINING_STREAM, SampleIndex(3, 14, 0)),
    ]
    assert all(not np.array_equal(first, rng.random(4)) for rng in others)


@given(st.tuples(st.integers(-12, 12), st.integers(-12, 12)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_read_crop_equals_a_padded_array(lower: tuple[int, int], size: tuple[int, int]) -> None:
    array = np.arange(1, 57).reshape(1, 7, 8)
    padded = np.pad(array, [(0, 0), (30, 30), (30, 30)], constant_values=-1)
    expected = padded[:, lower[0] + 30 : lower[0] + 30 + size[0], lower[1] + 30 : lower[1] + 30 + size[1]]
    assert np.array_equal(read_crop(array, lower, size, fill=-1), expected)
