"""Resampling equals a plain reference; what holds for any image is in test_resampling_properties.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slow_reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from examples import examples
from segwright.errors import PlanError
from segwright.planning.configuration import Resampling
from segwright.preprocessing.label_resampling import resample_logits_to_labels
from segwright.preprocessing.operators import NEAREST_OF_TORCH, nearest_index, resample_axes
from segwright.preprocessing.resampling import resample_image, resample_logits, separate_axis

ISOTROPIC = (1.0, 1.0, 1.0)
COARSE = {0: (5.0, 1.0, 1.0), 1: (1.0, 5.0, 1.0), 2: (1.0, 1.0, 5.0)}
shapes = st.tuples(*[st.integers(1, 12)] * 3)


def spline(order: int = 3, order_z: int = 0, force: bool | None = None, **kwargs: Any) -> Resampling:
    return Resampling("resample_data_or_seg_to_shape", order, order_z, force, kwargs)


def run(image: NDArray[Any], shape: tuple[int, ...], resampling: Resampling, axis: int | None = None) -> NDArray[Any]:
    spacing = ISOTROPIC if axis is None else COARSE[axis]
    return resample_image(image, shape, current_spacing_mm=spacing, new_spacing_mm=ISOTROPIC, resampling=resampling)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((20, 31, 26), (31, 20, 26)),
        ((7, 90, 80), (7, 150, 33)),
        ((1, 40, 50), (1, 64, 64)),
        ((12, 9, 150), (30, 9, 80)),
    ],
)
def test_images_equal_scikit_image_to_a_hundred_thousandth_of_their_range(
    old: tuple[int, ...], new: tuple[int, ...], order: int
) -> None:
    rng = np.random.default_rng(order)
    image = rng.normal(size=(2, *old)).astype(np.float32)
    result = run(image, new, spline(order))
    assert result.dtype == np.float32
    for channel, expected_of in zip(result, image, strict=True):
        expected = slow_reference.resample(expected_of, new, order=order)
        assert np.abs(channel - expected).max() <= 1e-5 * np.ptp(expected_of)


@pytest.mark.parametrize("order_z", [0, 1, 3])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_anisotropic_images_are_resampled_slice_by_slice(axis: int, order: int, order_z: int) -> None:
    rng = np.random.default_rng(axis)
    image = rng.gamma(1.0, size=(1, 14, 13, 12)).astype(np.float32)
    for new in ((9, 17, 20), (22, 11, 8), (14, 13, 30), (30, 13, 12)):
        expected = slow_reference.resample(image[0], new, order=order, axis=axis, order_z=order_z)
        result = run(image, new, spline(order, order_z), axis)[0]
        assert np.abs(result - expected).max() <= 1e-5 * np.ptp(image)


def test_values_far_from_zero_keep_their_digits() -> None:
    image = (np.random.default_rng(0).random((1, 20, 20, 20)) + 1e5).astype(np.float32)
    for axis in (None, 0):
        expected = slow_reference.resample(image[0], (13, 30, 25), order=3, axis=axis)
        result = run(image, (13, 30, 25), spline(), axis)[0]
        assert np.abs(result - expected).max() <= 2 * np.spacing(np.float32(1e5))


def test_a_spline_never_leaves_the_range_of_the_image_or_of_its_slice() -> None:
    image = np.zeros((1, 4, 16, 16), np.float32)
    image[0, 1, 4:12, 4:12] = 1
    image[0, 2, 4:12, 4:12] = 5
    together = run(image, (9, 23, 23), spline())
    assert (together.min(), together.max()) == (0, 5)
    apart = run(image, (4, 23, 23), spline(), 0)
    assert [float(part.max()) for part in apart[0]] == [0, 1, 5, 0]
    assert apart.min() == 0


@given(shapes, shapes, st.sampled_from([0, 1, 3]), st.sampled_from([None, 0, 1, 2]), st.integers(0, 100))
@examples(60)
def test_any_shape_equals_the_reference(
    old: tuple[int, ...], new: tuple[int, ...], order: int, axis: int | None, seed: int
) -> None:
    image = np.random.default_rng(seed).normal(size=(1, *old)).astype(np.float32)
    expected = slow_reference.resample(image[0], new, order=order, axis=axis) if old != new else image[0]
    result = run(image, new, spline(order), axis)[0]
    assert np.abs(result - expected).max() <= 1e-5 * max(1.0, float(np.ptp(image)))


def test_axes_may_be_resampled_in_any_order() -> None:
    volume = np.random.default_rng(1).normal(size=(9, 10, 11))
    together = resample_axes(volume, (14, 5, 20), 3)
    one_by_one = resample_axes(resample_axes(resample_axes(volume, (14, 10, 11), 3), (14, 5, 11), 3), (14, 5, 20), 3)
    np.testing.assert_allclose(together, one_by_one, atol=1e-12)


def test_the_same_shape_and_no_resampling_return_the_array_itself() -> None:
    image = np.ones((1, 3, 4, 5), np.float32)
    assert run(image, (3, 4, 5), spline()) is image
    assert run(image, (9, 9, 9), Resampling("no_resampling_hack", 0, 0, False, {})) is image


def test_views_of_another_layout_give_the_same_result() -> None:
    image = np.random.default_rng(2).normal(size=(1, 8, 9, 10)).astype(np.float32)
    view = image.transpose(0, 3, 1, 2)[:, 1:, :, ::-1]
    np.testing.assert_array_equal(run(view, (5, 12, 7), spline()), run(view.copy(), (5, 12, 7), spline()))


@pytest.mark.parametrize(
    ("current", "new", "force", "axis"),
    [
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None, None),  # 3 times as coarse is not more than 3
        ((3.01, 1.0, 1.0), (1.0, 1.0, 1.0), None, 0),
        ((1.0, 1.0, 9.0), (4.0, 1.0, 1.0), None, 2),  # the current spacing decides first
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), None, 1),
        ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0), None, None),  # two coarse axes
        ((0.24, 1.25, 1.25), (9.0, 1.0, 1.0), None, None),  # the current spacing is anisotropic, so it decides
        ((9.0, 1.0, 1.0), (9.0, 1.0, 1.0), False, None),
        ((1.5, 1.0, 1.0), (1.0, 1.0, 1.0), True, 0),
        ((1.0, 1.0, 1.0), (9.0, 1.0, 1.0), True, None),
    ],
)
def test_which_axis_is_separate(
    current: tuple[float, ...], new: tuple[float, ...], force: bool | None, axis: int | None
) -> None:
    assert separate_axis(current, new, force=force) == axis


def test_the_threshold_of_anisotropy_comes_from_the_plan() -> None:
    image = np.random.default_rng(3).normal(size=(1, 6, 10, 10)).astype(np.float32)
    resampling = spline(separate_z_anisotropy_threshold=6)
    together = slow_reference.resample(image[0], (9, 8, 8), order=3)
    np.testing.assert_allclose(run(image, (9, 8, 8), resampling, 0)[0], together, atol=1e-5)


@pytest.mark.parametrize("new", [(9, 30, 12), (20, 8, 25)])
def test_the_torch_variant_is_linear_and_nearest_across_slices(new: tuple[int, ...]) -> None:
    image = np.random.default_rng(4).normal(size=(2, 12, 14, 16)).astype(np.float32)
    resampling = Resampling("resample_torch_fornnunet", 1, 0, None, {"is_seg": False})
    interpolate = torch.nn.functional.interpolate
    expected = interpolate(torch.from_numpy(image)[None], new, mode="trilinear")[0].numpy()
    np.testing.assert_allclose(run(image, new, resampling), expected, atol=1e-5)
    in_plane = interpolate(torch.from_numpy(image), new[1:], mode="bilinear")
    sliced = interpolate(in_plane[None], new, mode="nearest-exact")[0].numpy()
    np.testing.assert_allclose(run(image, new, resampling, 0), sliced, atol=1e-5)


def test_logits_are_resampled_as_images_are() -> None:
    logits = np.random.default_rng(5).normal(size=(3, 6, 7, 8)).astype(np.float32)
    result = resample_logits(
        logits, (12, 5, 9), current_spacing_mm=ISOTROPIC, new_spacing_mm=ISOTROPIC, resampling=spline(1)
    )
    expected = np.stack([slow_reference.resample(channel, (12, 5, 9), order=1) for channel in logits])
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(
    "resampling",
    [
        Resampling("resample_by_magic", 3, 0, None, {}),
        Resampling("resample_torch_fornnunet", 1, 0, None, {"mode": "nearest"}),
        Resampling("resample_torch_fornnunet", 1, 0, None, {"aniso_axis_mode": "linear"}),
    ],
)
def test_what_is_unknown_is_refused(resampling: Resampling) -> None:
    with pytest.raises(PlanError, match="expected"):
        run(np.ones((1, 2, 2, 2), np.float32), (3, 3, 3), resampling)


def test_nearest_across_slices_rounds_as_torch_does_where_the_torch_variant_asks_for_it() -> None:
    parted = 0
    for size in range(1, 61):
        index = torch.arange(size, dtype=torch.float32)[None, None]
        for new_size in range(1, 131):
            expected = torch.nn.functional.interpolate(index, new_size, mode="nearest-exact")[0, 0].numpy()
            np.testing.assert_array_equal(nearest_index(size, new_size, NEAREST_OF_TORCH), expected)
            parted += not np.array_equal(nearest_index(size, new_size), expected)
    assert parted > 100  # scipy rounds exact ties otherwise


@pytest.mark.parametrize(
    ("old", "new"), [((2, 12, 12), (49, 14, 14)), ((20, 6, 5), (46, 6, 5)), ((30, 6, 5), (11, 7, 7))]
)
def test_the_torch_variant_takes_the_slices_that_torch_takes(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).normal(size=(1, *old)).astype(np.float32)
    torch_variant = Resampling("resample_torch_fornnunet", 1, 0, None, {"is_seg": False})
    spacing = {"current_spacing_mm": (8.0, 1.0, 1.0), "new_spacing_mm": (1.0, 1.0, 1.0), "resampling": torch_variant}
    interpolate = torch.nn.functional.interpolate
    in_plane = interpolate(torch.from_numpy(image), new[1:], mode="bilinear")
    expected = interpolate(in_plane[None], new, mode="nearest-exact")[0].numpy()
    np.testing.assert_allclose(resample_image(image, new, **spacing), expected, atol=1e-5)
    logits = np.concatenate([image, -image])
    decided = resample_logits_to_labels(logits, new, **spacing)
    np.testing.assert_array_equal(decided, (expected[0] < 0).astype(np.int16))
