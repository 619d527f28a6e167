from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slow_reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from examples import examples
from segwright.planning.configuration import Resampling
from segwright.preprocessing.label_resampling import resample_labels, resample_logits_to_labels
from segwright.preprocessing.operators import axis_table

ISOTROPIC = (1.0, 1.0, 1.0)
COARSE = {0: (5.0, 1.0, 1.0), 1: (1.0, 5.0, 1.0), 2: (1.0, 1.0, 5.0)}
shapes = st.tuples(*[st.integers(1, 9)] * 3)
axes = st.sampled_from([None, 0, 1, 2])


def spline(order: int = 1, order_z: int = 0) -> Resampling:
    return Resampling("resample_data_or_seg_to_shape", order, order_z, None, {"is_seg": True})


def torch_variant(memory_saving: bool = False) -> Resampling:
    return Resampling("resample_torch_fornnunet", 1, 0, None, {"memefficient_seg_resampling": memory_saving})


def run(
    labels: NDArray[Any], shape: tuple[int, ...], resampling: Resampling, axis: int | None = None
) -> NDArray[np.int16]:
    spacing = ISOTROPIC if axis is None else COARSE[axis]
    return resample_labels(
        labels[np.newaxis], shape, current_spacing_mm=spacing, new_spacing_mm=ISOTROPIC, resampling=resampling
    )[0]


def run_logits(
    logits: NDArray[np.float32],
    shape: tuple[int, ...],
    resampling: Resampling,
    axis: int | None = None,
    regions: tuple[int, ...] | None = None,
) -> NDArray[np.int16]:
    spacing = ISOTROPIC if axis is None else COARSE[axis]
    return resample_logits_to_labels(
        logits,
        shape,
        current_spacing_mm=spacing,
        new_spacing_mm=ISOTROPIC,
        resampling=resampling,
        regions_class_order=regions,
    )


def blobs(shape: tuple[int, ...], count: int, seed: int = 0) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.normal(size=shape), 2) for _ in range(count)])
    return (fields.argmax(axis=0) - 1).astype(np.int16)  # -1 is a label like any other


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize(
    ("old", "new"), [((20, 24, 28), (15, 40, 28)), ((10, 20, 30), (20, 40, 60)), ((21, 30, 24), (7, 15, 36))]
)
@pytest.mark.parametrize("count", [2, 5, 60])
def test_labels_equal_the_slow_reference_in_every_voxel(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None, count: int
) -> None:
    labels = blobs(old, count)
    expected = slow_reference.resample(labels, new, order=1, axis=axis, labels=True)
    np.testing.assert_array_equal(run(labels, new, spline(), axis), expected)


@given(shapes, shapes, axes, st.integers(1, 5), st.integers(0, 1000))
@examples(150)
def test_labels_without_any_smoothness_and_full_of_ties_are_equal_too(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None, count: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(-1, count, old).astype(np.int16)
    expected = slow_reference.resample(labels, new, order=1, axis=axis, labels=True) if old != new else labels
    np.testing.assert_array_equal(run(labels, new, spline(), axis), expected)


@pytest.mark.parametrize("new", [(8, 10, 12), (4, 5, 6), (32, 40, 48), (16, 20, 12), (11, 13, 17)])
@pytest.mark.parametrize("values", [[0, 1], [0, 1, 2], [-1, 0, 5, 32767], list(range(60))])
def test_noise_with_ties_along_every_axis_equals_the_slow_reference(new: tuple[int, ...], values: list[int]) -> None:
    labels = np.random.default_rng(len(values)).choice(np.array(values, np.int16), (16, 20, 24))
    expected = slow_reference.resample(labels, new, order=1, labels=True)
    np.testing.assert_array_equal(run(labels, new, spline()), expected)


def test_where_no_label_has_the_majority_the_largest_share_wins() -> None:
    labels = np.array([[[1, 2], [3, 1]], [[2, 2], [4, 4]]], np.int16)
    for new in ((1, 1, 1), (3, 3, 3), (5, 1, 3), (2, 7, 1)):
        expected = slow_reference.resample(labels, new, order=1, labels=True)
        np.testing.assert_array_equal(run(labels, new, spline()), expected)


@given(shapes, st.tuples(*[st.sampled_from([1, 3, 5])] * 3), st.integers(0, 100))
@examples(40)
def test_up_by_an_odd_factor_and_down_again_changes_nothing(
    shape: tuple[int, ...], factors: tuple[int, ...], seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(-1, 4, shape).astype(np.int16)
    finer = run(labels, tuple(np.multiply(shape, factors)), spline())
    np.testing.assert_array_equal(run(finer, shape, spline()), labels)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_the_nearest_voxel_has_at_least_half_of_the_weight(size: int, new_size: int) -> None:
    table = axis_table(size, new_size)
    lower, upper, nearest = table.taps
    share = table.weights[0] * (lower == nearest) + table.weights[1] * (upper == nearest)
    assert share.min() >= 0.5


def test_a_tie_goes_to_the_nearest_voxels_label() -> None:
    labels = np.array([[[3, 1]]], np.int16)
    np.testing.assert_array_equal(run(labels, (1, 1, 3), spline()), [[[3, 1, 1]]])
    np.testing.assert_array_equal(run(labels[..., ::-1], (1, 1, 3), spline()), [[[1, 3, 3]]])


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("order_z", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_other_orders_equal_the_slow_reference(axis: int | None, order: int, order_z: int) -> None:
    labels = blobs((12, 14, 16), 4)
    for new in ((19, 20, 11), (7, 14, 16)):
        expected = slow_reference.resample(labels, new, order=order, axis=axis, order_z=order_z, labels=True)
        np.testing.assert_array_equal(run(labels, new, spline(order, order_z), axis), expected)


@given(shapes, shapes, axes, st.integers(0, 3), st.integers(0, 3), st.integers(0, 1000))
@examples(150)
def test_ties_of_any_order_are_decided_as_the_slow_reference_does(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None, order: int, order_z: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(-1, 3, old).astype(np.int16)
    expected = slow_reference.resample(labels, new, order=order, axis=axis, order_z=order_z, labels=True)
    np.testing.assert_array_equal(run(labels, new, spline(order, order_z), axis), expected if old != new else labels)


@pytest.mark.parametrize(("order", "order_z"), [(1, 2), (1, 3), (2, 0), (3, 0), (3, 3)])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_halving_at_splines_of_higher_orders_equals_the_slow_reference(
    axis: int | None, order: int, order_z: int
) -> None:
    for seed in range(10):
        labels = np.random.default_rng(seed).integers(-1, 3, (4, 8, 6)).astype(np.int16)
        expected = slow_reference.resample(labels, (2, 4, 3), order=order, axis=axis, order_z=order_z, labels=True)
        np.testing.assert_array_equal(run(labels, (2, 4, 3), spline(order, order_z), axis), expected)


def torch_reference(labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    values = np.unique(labels)
    indicators = torch.from_numpy((labels == values[:, None, None, None]).astype(np.float32) * 1000)
    scores = torch.nn.functional.interpolate(indicators[None], shape, mode="trilinear")[0].half()
    return np.asarray(values[scores.numpy().argmax(axis=0)])


def test_the_torch_variant_equals_torch() -> None:
    labels = blobs((12, 14, 16), 5)
    new = (20, 9, 24)
    assert (run(labels, new, torch_variant()) == torch_reference(labels, new)).mean() > 0.9995
    sliced = run(labels, new, torch_variant(), 0)
    in_plane = torch_reference(labels, (12, 9, 24))
    nearest = torch.nn.functional.interpolate(torch.from_numpy(in_plane[None, None]).float(), new, mode="nearest-exact")
    assert (sliced == nearest[0, 0].numpy()).mean() > 0.9995


def test_the_memory_saving_torch_variant_writes_labels_above_a_half() -> None:
    labels = np.array([[[0, 2, 2, 1]]], np.int16)
    np.testing.assert_array_equal(run(labels, (1, 1, 8), torch_variant(True)), [[[0, 0, 2, 2, 2, 2, 1, 1]]])


def torch_reference_above_half(labels: NDArray[Any], shape: tuple[int, ...], axis: int | None) -> NDArray[Any]:
    """Slices are channels of an interpolation in two dimensions, which sums otherwise than one in three."""
    others = [other for other in range(3) if other != axis]
    source = labels[np.newaxis] if axis is None else np.moveaxis(labels, axis, 0)
    result = np.zeros((len(source), *(shape[other] for other in others)), np.int16)
    for value in np.unique(labels):
        indicator = torch.from_numpy((source == value).astype(np.float32))
        mode = "trilinear" if axis is None else "bilinear"
        result[torch.nn.functional.interpolate(indicator[None], result.shape[1:], mode=mode)[0].numpy() > 0.5] = value
    if axis is None:
        return result[0]
    in_plane = torch.from_numpy(np.moveaxis(result, 0, axis)[None, None]).float()
    return torch.nn.functional.interpolate(in_plane, shape, mode="nearest-exact")[0, 0].numpy()


@given(shapes, shapes, axes, st.integers(0, 1000))
@examples(150)
def test_the_memory_saving_torch_variant_decides_ties_as_torch_does(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(-1, 2, old).astype(np.int16)
    expected = torch_reference_above_half(labels, new, axis) if old != new else labels
    np.testing.assert_array_equal(run(labels, new, torch_variant(True), axis), expected)


def test_label_maps_that_need_nothing_keep_their_values() -> None:
    labels = blobs((5, 6, 7), 3)
    np.testing.assert_array_equal(run(labels, (5, 6, 7), spline()), labels)
    nothing = Resampling("no_resampling_hack", 0, 0, False, {})
    np.testing.assert_array_equal(run(labels, (9, 9, 9), nothing), labels)


def slow_labels_of(
    logits: NDArray[np.float32],
    shape: tuple[int, ...],
    order: int,
    axis: int | None,
    regions: tuple[int, ...] | None,
    order_z: int = 0,
) -> NDArray[Any]:
    if logits.shape[1:] == shape:
        resampled = logits
    else:
        resampled = np.stack(
            [slow_reference.resample(channel, shape, order=order, axis=axis, order_z=order_z) for channel in logits]
        ).astype(np.float32)
    if regions is None:
        return np.asarray(resampled.argmax(axis=0))
    result = np.zeros(shape, np.int16)
    for channel, label in zip(resampled, regions, strict=True):
        result[channel > 0] = label
    return result


def smooth_logits(count: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.stack([10 * gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(count)]).astype(np.float32)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize(("count", "regions"), [(2, None), (7, None), (3, (2, 1, 3)), (2, (5, 7))])
def test_label_maps_from_logits_equal_resampling_then_deciding(
    axis: int | None, count: int, regions: tuple[int, ...] | None
) -> None:
    logits = smooth_logits(count, (14, 18, 16))
    for new in ((28, 27, 11), (9, 18, 40), (14, 18, 16)):
        expected = slow_labels_of(logits, new, 1, axis, regions)
        np.testing.assert_array_equal(run_logits(logits, new, spline(), axis, regions), expected)


@given(shapes, shapes, axes, st.booleans(), st.integers(1, 4), st.integers(0, 1000))
@examples(150)
def test_label_maps_from_wild_logits_are_equal_too(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None, with_regions: bool, count: int, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(count, *old)).astype(np.float32)
    regions = tuple(range(count, 0, -1)) if with_regions else None
    expected = slow_labels_of(logits, new, 1, axis, regions)
    np.testing.assert_array_equal(run_logits(logits, new, spline(), axis, regions), expected)


@given(shapes, shapes, st.integers(2, 4), st.integers(0, 1000))
@examples(50)
def test_of_equal_logits_the_first_wins(old: tuple[int, ...], new: tuple[int, ...], count: int, seed: int) -> None:
    logits = np.random.default_rng(seed).integers(0, 2, (count, *old)).astype(np.float32)
    np.testing.assert_array_equal(run_logits(logits, new, spline()), slow_labels_of(logits, new, 1, None, None))


@pytest.mark.parametrize(("order", "order_z"), [(0, 0), (3, 0), (1, 1), (3, 3)])
@pytest.mark.parametrize("axis", [None, 0])
def test_logits_of_other_orders_agree_but_for_rounding(axis: int | None, order: int, order_z: int) -> None:
    logits = smooth_logits(4, (10, 12, 14))
    expected = slow_labels_of(logits, (15, 20, 9), order, axis, None, order_z)
    assert (run_logits(logits, (15, 20, 9), spline(order, order_z), axis) == expected).mean() > 0.999


def test_more_regions_than_bits_are_drawn_channel_by_channel() -> None:
    logits = smooth_logits(40, (6, 7, 8))
    regions = tuple(range(1, 41))
    expected = slow_labels_of(logits, (9, 10, 11), 1, None, regions)
    assert (run_logits(logits, (9, 10, 11), spline(), None, regions) == expected).mean() > 0.999
