"""What holds for every resampling and image: identity, constants, ramps, there and back, transposition."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from examples import examples
from segwright.planning.configuration import Resampling
from segwright.preprocessing.label_resampling import resample_labels, resample_logits_to_labels
from segwright.preprocessing.operators import NEAREST, NEAREST_OF_TORCH, nearest_index
from segwright.preprocessing.resampling import resample_image, resample_logits

ISOTROPIC = (1.0, 1.0, 1.0)
EDGE = 12  # a cubic spline feels the border by 0.27 for each voxel between: 1e-7 of it is left here

edges = st.integers(1, 12)
shapes = st.tuples(edges, edges, edges)
axes = st.sampled_from([None, 0, 1, 2])
spline_orders = st.sampled_from([1, 2, 3])
seeds = st.integers(0, 10_000)
transposes = st.permutations([0, 1, 2]).map(tuple)


def spline(order: int, order_z: int = 0) -> Resampling:
    return Resampling("resample_data_or_seg_to_shape", order, order_z, None, {})


TORCH = Resampling("resample_torch_fornnunet", 1, 0, None, {"memefficient_seg_resampling": False})
TORCH_SAVING = Resampling("resample_torch_fornnunet", 1, 0, None, {"memefficient_seg_resampling": True})
functions = st.sampled_from([spline(0), spline(1), spline(3), spline(1, 1), spline(3, 3), TORCH])
label_functions = st.sampled_from([spline(0), spline(1), spline(3), spline(1, 1), TORCH, TORCH_SAVING])


def spacing_of(axis: int | None) -> tuple[float, ...]:
    """Coarse along an axis that is to be resampled on its own."""
    return tuple(5.0 if other == axis else 1.0 for other in range(3))


def images(image: NDArray[Any], shape: tuple[int, ...], how: Resampling, axis: int | None = None) -> NDArray[Any]:
    spacing = spacing_of(axis)
    return resample_image(image, shape, current_spacing_mm=spacing, new_spacing_mm=ISOTROPIC, resampling=how)


def labels(label_map: NDArray[Any], shape: tuple[int, ...], how: Resampling, axis: int | None = None) -> NDArray[Any]:
    spacing = spacing_of(axis)
    return resample_labels(label_map, shape, current_spacing_mm=spacing, new_spacing_mm=ISOTROPIC, resampling=how)


def decided(logits: NDArray[Any], shape: tuple[int, ...], how: Resampling, axis: int | None = None) -> NDArray[Any]:
    return resample_logits_to_labels(
        logits, shape, current_spacing_mm=spacing_of(axis), new_spacing_mm=ISOTROPIC, resampling=how
    )


def noise(shape: tuple[int, ...], seed: int, channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


def scattered(shape: tuple[int, ...], seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).choice([-1, 0, 3, 200], (1, *shape)).astype(np.int16)


def smooth(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """A slow wave along each axis, whole from edge to edge."""
    phases = np.random.default_rng(seed).uniform(0, np.pi, 3)
    grid = np.meshgrid(*[(np.arange(size) + 0.5) / size for size in shape], indexing="ij")
    return sum(np.cos(np.pi * axis + phase) for axis, phase in zip(grid, phases, strict=True))[None].astype(np.float32)


@given(shapes, functions, axes, seeds)
@examples(40)
def test_the_same_shape_changes_nothing(shape: tuple[int, ...], how: Resampling, axis: int | None, seed: int) -> None:
    image, label_map = noise(shape, seed), scattered(shape, seed)
    np.testing.assert_array_equal(images(image, shape, how, axis), image)
    np.testing.assert_array_equal(labels(label_map, shape, how, axis), label_map)
    np.testing.assert_array_equal(decided(noise(shape, seed, 3), shape, how, axis), noise(shape, seed, 3).argmax(0))


@given(shapes, shapes, functions, axes, st.floats(-1e4, 1e4, width=32), st.sampled_from([-1, 0, 5]))
@example((4, 1, 1), (3, 1, 1), spline(1, 1), 0, 11.0, -1)  # its weights in float32 do not add up to one
@examples(40)
def test_constants_stay_constant(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int | None, value: float, label: int
) -> None:
    result = images(np.full((1, *old), value, np.float32), new, how, axis)
    np.testing.assert_allclose(result, np.float32(value), rtol=1e-6 if how is TORCH else 0)
    assert (labels(np.full((1, *old), label, np.int16), new, how, axis) == label).all()


@given(shapes, shapes, axes, st.floats(-1e4, 1e4, width=32), seeds)
@examples(40)
def test_nearest_neighbours_are_taken_as_they_are(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None, shift: float, seed: int
) -> None:
    image = noise(old, seed) + np.float32(shift)
    assert set(images(image, new, spline(0), axis).ravel()) <= set(image.ravel())


def ramp_at(old: tuple[int, ...], new: tuple[int, ...], slopes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The ramp at the places of the new voxels, and which of them lie away from the border."""
    places = [(np.arange(n) + 0.5) * size / n - 0.5 for size, n in zip(old, new, strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    inner = [(place >= EDGE) & (place <= size - 1 - EDGE) for place, size in zip(grid, old, strict=True)]
    return sum(slope * place for slope, place in zip(slopes, grid, strict=True)), np.logical_and.reduce(inner)


ramp_edges = st.tuples(*[st.integers(2 * EDGE + 4, 2 * EDGE + 12)] * 3)


@given(ramp_edges, st.tuples(*[st.integers(15, 45)] * 3), spline_orders, seeds)
@examples(15)
def test_linear_ramps_stay_linear_away_from_the_border(
    old: tuple[int, ...], new: tuple[int, ...], order: int, seed: int
) -> None:
    slopes = np.random.default_rng(seed).uniform(-1, 1, 3)
    ramp, _ = ramp_at(old, old, slopes)
    expected, inner = ramp_at(old, new, slopes)
    result = images(ramp[None].astype(np.float32), new, spline(order))[0]
    assert np.abs(result - expected)[inner].max() <= 2e-6 * np.ptp(ramp)


@given(shapes, shapes, seeds)
@examples(40)
def test_linear_interpolation_keeps_ramps_linear_up_to_the_outermost_voxels(
    old: tuple[int, ...], new: tuple[int, ...], seed: int
) -> None:
    slopes = np.random.default_rng(seed).uniform(-1, 1, 3)
    ramp, _ = ramp_at(old, old, slopes)
    places = [np.clip((np.arange(n) + 0.5) * size / n - 0.5, 0, size - 1) for size, n in zip(old, new, strict=True)]
    expected = sum(s * place for s, place in zip(slopes, np.meshgrid(*places, indexing="ij"), strict=True))
    result = images(ramp[None].astype(np.float32), new, spline(1))[0]
    np.testing.assert_allclose(result, expected, atol=2e-6 * max(1.0, float(np.ptp(ramp))))


@given(shapes, st.tuples(*[st.sampled_from([1, 3, 5])] * 3), st.sampled_from([0, 1, 2, 3]), seeds)
@examples(40)
def test_finer_by_odd_factors_and_back_is_the_image_itself(
    shape: tuple[int, ...], factors: tuple[int, ...], order: int, seed: int
) -> None:
    """The middle one of three or five new voxels lies where the old one was, and a spline goes through its voxels."""
    image, label_map = noise(shape, seed), scattered(shape, seed)
    finer = tuple(size * factor for size, factor in zip(shape, factors, strict=True))
    up = images(image, finer, spline(order))
    middles = tuple(slice(factor // 2, None, factor) for factor in factors)
    np.testing.assert_allclose(up[(slice(None), *middles)], image, atol=2e-5)
    np.testing.assert_allclose(images(up, shape, spline(order)), image, atol=2e-5)
    np.testing.assert_array_equal(labels(labels(label_map, finer, spline(1)), shape, spline(1)), label_map)


@given(st.tuples(*[st.integers(16, 24)] * 3), st.tuples(*[st.floats(1.1, 2.5)] * 3), st.sampled_from([1, 3]), seeds)
@examples(15)
def test_finer_and_back_is_close_to_a_smooth_image(
    shape: tuple[int, ...], factors: tuple[float, ...], order: int, seed: int
) -> None:
    image = smooth(shape, seed)
    finer = tuple(round(size * factor) for size, factor in zip(shape, factors, strict=True))
    back = images(images(image, finer, spline(order)), shape, spline(order))
    off = np.abs(back - image)[0]
    # a chord misses a wave of amplitude 1 by an eighth of the squared step, and there are two passes
    chord = sum(2 * (np.pi / size) ** 2 / 8 for size in shape)
    assert off[6:-6, 6:-6, 6:-6].max() <= (1 if order == 1 else 0.1) * chord
    # beyond the outermost voxels the image is taken to be flat, half a voxel at most
    assert off.max() <= chord + sum(np.pi / size for size in shape)


@given(shapes, shapes, functions, axes, transposes, seeds)
@examples(50)
def test_images_may_be_transposed_before_or_after(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int | None, turn: tuple[int, ...], seed: int
) -> None:
    image, order = noise(old, seed), (0, *(other + 1 for other in turn))
    turned_axis = None if axis is None else turn.index(axis)
    before = images(image.transpose(order), tuple(new[other] for other in turn), how, turned_axis)
    np.testing.assert_allclose(before, images(image, new, how, axis).transpose(order), atol=1e-5)


@given(shapes, st.tuples(*[st.sampled_from([0.5, 1.0, 2.0, 4.0])] * 3), axes, transposes, seeds)
@examples(50)
def test_label_maps_and_decisions_may_be_transposed_before_or_after(
    old: tuple[int, ...], factors: tuple[float, ...], axis: int | None, turn: tuple[int, ...], seed: int
) -> None:
    """By powers of two all weights are exact, so that not even ties fall otherwise."""
    old = tuple(2 * size for size in old)
    new = tuple(int(size * factor) for size, factor in zip(old, factors, strict=True))
    turned_axis, turned_shape = None if axis is None else turn.index(axis), tuple(new[other] for other in turn)
    order = (0, *(other + 1 for other in turn))
    label_map = scattered(old, seed)
    before = labels(label_map.transpose(order), turned_shape, spline(1), turned_axis)
    np.testing.assert_array_equal(before, labels(label_map, new, spline(1), axis).transpose(order))
    logits = np.random.default_rng(seed).integers(-8, 8, (3, *old)).astype(np.float32)
    first = decided(logits.transpose(order), turned_shape, spline(1), turned_axis)
    np.testing.assert_array_equal(first, decided(logits, new, spline(1), axis).transpose(turn))


@given(shapes, shapes, spline_orders, axes, seeds)
@examples(40)
def test_images_may_be_mirrored_before_or_after(
    old: tuple[int, ...], new: tuple[int, ...], order: int, axis: int | None, seed: int
) -> None:
    image = noise(old, seed)
    mirrored = tuple(other + 1 for other in range(3) if other != axis)  # halves are rounded up across separate slices
    before = images(np.flip(image, mirrored), new, spline(order), axis)
    np.testing.assert_allclose(before, np.flip(images(image, new, spline(order), axis), mirrored), atol=1e-5)


@given(shapes, shapes, functions, axes, st.floats(0.1, 10), st.floats(-100, 100), seeds)
@examples(40)
def test_intensities_may_be_scaled_before_or_after(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int | None, scale: float, shift: float, seed: int
) -> None:
    image = noise(old, seed)
    scaled = (np.float32(scale) * image + np.float32(shift)).astype(np.float32)
    expected = scale * images(image, new, how, axis) + shift
    np.testing.assert_allclose(images(scaled, new, how, axis), expected, atol=2e-5 * (scale * 4 + abs(shift)))


@given(shapes, shapes, st.sampled_from([spline(1), spline(2), spline(3)]), axes, seeds)
@examples(40)
def test_no_intensity_leaves_the_range(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int | None, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 2, (1, *old)).astype(np.float32)  # edges, where splines overshoot
    result = images(image, new, how, axis)
    assert image.min() <= result.min() <= result.max() <= image.max()


@given(shapes, shapes, label_functions, axes, seeds)
@examples(60)
def test_no_label_is_invented(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int | None, seed: int
) -> None:
    label_map = scattered(old, seed)
    # where a label is written by being above a half, a voxel without a winner becomes background
    left_out = {0} if how is TORCH_SAVING or how.order_z > 0 else set()
    assert set(np.unique(labels(label_map, new, how, axis))) <= set(np.unique(label_map)) | left_out


@given(shapes, shapes, st.sampled_from([spline(0), spline(1), spline(3), TORCH]), st.sampled_from([0, 1, 2]), seeds)
@examples(50)
def test_separate_slices_are_resampled_as_images_of_their_own(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int, seed: int
) -> None:
    image, label_map = noise(old, seed), scattered(old, seed)
    in_plane = tuple(1 if other == axis else size for other, size in enumerate(new))
    nearest = nearest_index(old[axis], new[axis], NEAREST_OF_TORCH if how is TORCH else NEAREST)

    def slice_by_slice(volume: NDArray[Any], resample: Any) -> NDArray[Any]:
        slices = [resample(part, in_plane, how) for part in np.split(volume, old[axis], axis=axis + 1)]
        return np.concatenate([slices[index] for index in nearest], axis=axis + 1)

    np.testing.assert_allclose(images(image, new, how, axis), slice_by_slice(image, images), atol=2e-6)
    np.testing.assert_array_equal(labels(label_map, new, how, axis), slice_by_slice(label_map, labels))


@given(shapes, shapes, st.sampled_from([spline(0), spline(1), TORCH]), axes, st.integers(2, 5), seeds)
@examples(50)
def test_decisions_are_the_largest_of_the_resampled_logits(
    old: tuple[int, ...], new: tuple[int, ...], how: Resampling, axis: int | None, count: int, seed: int
) -> None:
    logits = noise(old, seed, count)
    resampled = resample_logits(
        logits, new, current_spacing_mm=spacing_of(axis), new_spacing_mm=ISOTROPIC, resampling=how
    )
    chosen = np.take_along_axis(resampled, decided(logits, new, how, axis)[None].astype(np.int64), axis=0)[0]
    assert (chosen >= resampled.max(axis=0) - 1e-5).all()
