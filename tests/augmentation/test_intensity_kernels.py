"""The compiled loops of the intensity transforms against the same thing said plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from examples import examples
from segwright.augmentation.kernels import blur_volume, enlarge_volume, scale_shift_clip, sums

shapes = st.tuples(*[st.integers(1, 6)] * 3)
seeds = st.integers(0, 10_000)


def along(volume: NDArray[Any], axis: int, indices: NDArray[np.int64]) -> NDArray[Any]:
    return np.take(volume, indices, axis=axis)


def plain_blur(volume: NDArray[Any], kernels: list[NDArray[Any]]) -> NDArray[Any]:
    for axis, kernel in enumerate(kernels):
        size, radius = volume.shape[axis], len(kernel) // 2
        # a mirrored position runs to and fro between the edge voxels
        there_and_back = [*range(size), *range(size - 2, 0, -1)]
        volume = sum(
            weight * along(volume, axis, np.array([there_and_back[(i + t) % len(there_and_back)] for i in range(size)]))
            for t, weight in zip(range(-radius, radius + 1), kernel, strict=True)
        )
    return volume


@given(shapes, st.tuples(*[st.integers(0, 5)] * 3), seeds)
@examples(40)
def test_blurring_is_a_weighted_sum_along_each_axis(shape: tuple[int, ...], radii: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=shape).astype(np.float32)
    kernels = [rng.random(2 * radius + 1).astype(np.float32) for radius in radii]
    out = np.empty_like(volume)
    blur_volume(volume, *kernels, out)
    expected = plain_blur(volume.astype(np.float64), [kernel.astype(np.float64) for kernel in kernels])
    np.testing.assert_allclose(out, expected, atol=1e-5 * float(np.prod([kernel.sum() for kernel in kernels])) * 4)


@given(shapes, shapes, seeds)
@examples(40)
def test_enlarging_goes_from_the_lower_to_the_upper_voxel_along_each_axis(
    small: tuple[int, ...], large: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=small).astype(np.float32)
    lower, upper = (tuple(rng.integers(0, a, b) for a, b in zip(small, large, strict=True)) for _ in range(2))
    weight = tuple(rng.random(b).astype(np.float32) for b in large)
    out = np.empty(large, np.float32)
    enlarge_volume(volume, lower, upper, weight, out)
    expected = volume.astype(np.float64)
    for axis in range(3):
        first, second = along(expected, axis, lower[axis]), along(expected, axis, upper[axis])
        share = weight[axis].reshape([-1 if other == axis else 1 for other in range(3)])
        expected = first + share * (second - first)
    np.testing.assert_allclose(out, expected, atol=1e-5)


@given(st.integers(0, 3000), st.floats(-1e5, 1e5), seeds)
@examples(40)
def test_sums_are_exact_to_double_precision(count: int, shift: float, seed: int) -> None:
    values = (np.random.default_rng(seed).normal(size=count) + shift).astype(np.float32)
    doubles = values.astype(np.float64)
    tolerance = {"rel": 1e-12, "abs": 1e-12 * max(1.0, float(np.abs(doubles).sum()))}
    assert sums(values) == (pytest.approx(doubles.sum(), **tolerance), pytest.approx((doubles**2).sum(), rel=1e-12))


@given(st.integers(0, 300), st.floats(-3, 3), st.floats(-3, 3), st.floats(-2, 0), st.floats(0, 2), seeds)
@examples(40)
def test_values_are_scaled_shifted_and_clipped(
    count: int, scale: float, shift: float, low: float, high: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    single = [np.float32(value) for value in (scale, shift, low, high)]
    expected = np.clip(single[0] * values.astype(np.float64) + single[1], single[2], single[3])
    scale_shift_clip(values, *single)
    np.testing.assert_allclose(values, expected, atol=2e-6)
