from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from examples import examples
from segwright.augmentation.spatial import SpatialParameters, affine_matrix, source_window, transform

CROP_3D, PATCH_3D = (14, 11, 13), (9, 8, 7)


def _sample(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    parameters: SpatialParameters,
    patch_size: tuple[int, ...],
    *,
    dummy_2d: bool = False,
    windowed: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    crop_size = image.shape[1:]
    window = tuple(slice(0, edge) for edge in crop_size)
    if windowed:
        window = source_window(parameters, crop_size, patch_size, dummy_2d=dummy_2d)
    index = (slice(None), *window)
    return transform(
        image[index],
        seg[index],
        parameters,
        crop_size=crop_size,
        patch_size=patch_size,
        dummy_2d=dummy_2d,
        window=window,
    )


def _reference(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    matrix: NDArray[np.float64],
    patch_size: tuple[int, ...],
) -> tuple[NDArray[np.float64], NDArray[np.int16], NDArray[np.bool_]]:
    """Sample with scipy; the last array says where the winning label leads clearly."""
    crop_size = image.shape[1:]
    grid = np.stack(np.meshgrid(*(np.arange(edge) - (edge - 1) / 2 for edge in patch_size), indexing="ij"))
    positions = np.tensordot(matrix, grid, 1)
    positions += ((np.array(crop_size) - 1) / 2).reshape(-1, *[1] * len(patch_size))

    def linear(channel: NDArray[np.float64], outside: float) -> NDArray[np.float64]:
        sampled: NDArray[np.float64] = map_coordinates(channel, positions, order=1, mode="grid-constant", cval=outside)
        return sampled

    out_image = np.stack([linear(channel.astype(np.float64), 0) for channel in image])
    labels = np.union1d(np.unique(seg), [-1])
    shares = np.stack(
        [[linear((channel == label).astype(np.float64), float(label == -1)) for channel in seg] for label in labels]
    )
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 2e-3
    return out_image, labels[shares.argmax(0)].astype(np.int16), clear


def _data(crop_size: tuple[int, ...], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((2, *crop_size), dtype=np.float32)
    seg = rng.integers(-1, 4, (2, *crop_size)).astype(np.int16)
    seg[1][rng.random(crop_size) < 0.95] = 1  # mostly of one label, with lone voxels of others
    return image, seg


def _mirror_axes(num_axes: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(0, num_axes - 1)).map(lambda axes: tuple(sorted(axes)))


@pytest.mark.parametrize(
    ("angles", "wanted"),
    [
        ((90.0, 0.0, 0.0), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        ((0.0, 90.0, 0.0), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
        ((0.0, 0.0, 90.0), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
        ((90.0, 90.0, 0.0), [[0, 1, 0], [0, 0, -1], [-1, 0, 0]]),  # about the first axis first
        ((90.0,), [[0, -1], [1, 0]]),
    ],
)
def test_the_sense_and_order_of_the_rotations_are_nnunets(angles: tuple[float, ...], wanted: list[list[int]]) -> None:
    matrix = affine_matrix(SpatialParameters(angles, 2.0), len(wanted))
    np.testing.assert_allclose(matrix, 2 * np.array(wanted), atol=1e-12)


def test_mirroring_precedes_the_rotation() -> None:
    matrix = affine_matrix(SpatialParameters((90.0,), 1.0, (1,)), 2)
    np.testing.assert_allclose(matrix, [[0, 1], [1, 0]], atol=1e-12)


@examples(60)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    scale=st.floats(0.5, 2.0),
    mirrored=_mirror_axes(3),
    seed=st.integers(0, 100),
)
def test_volume_sampling_equals_scipy(
    angles: tuple[float, ...], scale: float, mirrored: tuple[int, ...], seed: int
) -> None:
    image, seg = _data(CROP_3D, seed)
    parameters = SpatialParameters(angles, scale, mirrored)
    assume(parameters.resamples)
    out_image, out_seg = _sample(image, seg, parameters, PATCH_3D)
    wanted_image, wanted_seg, clear = _reference(image, seg, affine_matrix(parameters, 3), PATCH_3D)
    np.testing.assert_allclose(out_image, wanted_image, atol=1e-4)
    np.testing.assert_array_equal(out_seg[clear], wanted_seg[clear])


@examples(60)
@given(angle=st.floats(-180, 180), scale=st.floats(0.5, 2.0), mirrored=_mirror_axes(2), seed=st.integers(0, 100))
def test_plane_sampling_equals_scipy(angle: float, scale: float, mirrored: tuple[int, ...], seed: int) -> None:
    image, seg = _data((19, 14), seed)
    parameters = SpatialParameters((angle,), scale, mirrored)
    assume(parameters.resamples)
    out_image, out_seg = _sample(image, seg, parameters, (12, 13))
    wanted_image, wanted_seg, clear = _reference(image, seg, affine_matrix(parameters, 2), (12, 13))
    np.testing.assert_allclose(out_image, wanted_image, atol=1e-4)
    np.testing.assert_array_equal(out_seg[clear], wanted_seg[clear])


@pytest.mark.parametrize("mirrored", [(), (0,), (1,), (0, 2), (0, 1, 2)])
def test_dummy_2d_transforms_every_slice_alike_and_mixes_none(mirrored: tuple[int, ...]) -> None:
    image, seg = _data((3, 17, 15))
    out_image, out_seg = _sample(image, seg, SpatialParameters((35.0,), 1.2, mirrored), (3, 10, 11), dummy_2d=True)
    in_plane = SpatialParameters((35.0,), 1.2, tuple(axis - 1 for axis in mirrored if axis > 0))
    for z in range(3):
        source = 2 - z if 0 in mirrored else z
        slice_image, slice_seg = _sample(image[:, source], seg[:, source], in_plane, (10, 11))
        np.testing.assert_array_equal(out_image[:, z], slice_image)
        np.testing.assert_array_equal(out_seg[:, z], slice_seg)


@pytest.mark.parametrize("crop_size", [(14, 11, 13), (9, 8, 7), (10, 9, 8)])
@pytest.mark.parametrize("mirrored", [(), (0,), (2,), (0, 1, 2)])
def test_without_rotation_and_scaling_the_centre_is_copied(
    crop_size: tuple[int, ...], mirrored: tuple[int, ...]
) -> None:
    image, seg = _data(crop_size)
    starts = [crop // 2 - patch // 2 for crop, patch in zip(crop_size, PATCH_3D, strict=True)]
    index = (slice(None), *(slice(start, start + edge) for start, edge in zip(starts, PATCH_3D, strict=True)))
    axes = [axis + 1 for axis in mirrored]
    out_image, out_seg = _sample(image, seg, SpatialParameters(mirrored_axes=mirrored), PATCH_3D)
    np.testing.assert_array_equal(out_image, np.flip(image[index], axes))
    np.testing.assert_array_equal(out_seg, np.flip(seg[index], axes))
    assert out_image.flags.c_contiguous
    assert out_seg.flags.c_contiguous
    assert not np.shares_memory(out_image, image)


def test_mirroring_inside_the_sampling_equals_flipping_afterwards() -> None:
    image, seg = _data(CROP_3D)
    plain, plain_seg = _sample(image, seg, SpatialParameters((10.0, -20.0, 25.0), 0.9), PATCH_3D)
    for mirrored in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in range(4)):
        out, out_seg = _sample(image, seg, SpatialParameters((10.0, -20.0, 25.0), 0.9, mirrored), PATCH_3D)
        axes = [axis + 1 for axis in mirrored]
        np.testing.assert_allclose(np.flip(out, axes), plain, atol=1e-4)
        assert (np.flip(out_seg, axes) == plain_seg).mean() > 0.995


@examples(60)
@given(
    # angles near 0 put sample points half-way between voxels, where rounding decides which label is nearest
    angles=st.tuples(*[st.floats(-60, 60).filter(lambda angle: angle == 0 or abs(angle) > 0.5)] * 3),
    scale=st.sampled_from([1.0, 0.7, 0.93, 1.4]),
    mirrored=_mirror_axes(3),
    kind=st.sampled_from(["3d", "dummy"]),
)
def test_the_window_holds_all_that_a_sample_reads(
    angles: tuple[float, ...], scale: float, mirrored: tuple[int, ...], kind: str
) -> None:
    crop_size, patch_size = ((6, 23, 21), (6, 9, 10)) if kind == "dummy" else ((23, 21, 24), (9, 10, 8))
    parameters = SpatialParameters(angles[:1] if kind == "dummy" else angles, scale, mirrored)
    image, seg = _data(crop_size)
    whole = _sample(image, seg, parameters, patch_size, dummy_2d=kind == "dummy")
    part = _sample(image, seg, parameters, patch_size, dummy_2d=kind == "dummy", windowed=True)
    np.testing.assert_allclose(part[0], whole[0], atol=1e-4)
    assert (part[1] == whole[1]).mean() > 0.99


def test_the_window_of_an_untransformed_sample_is_the_patch() -> None:
    window = source_window(SpatialParameters(mirrored_axes=(1,)), (205, 205, 205), (128, 128, 128), dummy_2d=False)
    assert window == (slice(38, 166),) * 3


def test_a_tie_between_labels_goes_to_the_nearest_voxel_and_never_invents_a_label() -> None:
    seg = np.zeros((1, 1, 4), np.int16)
    seg[0, 0] = [5, 5, 2, 2]
    image = np.zeros((1, 1, 4), np.float32)
    _, out = _sample(image, seg, SpatialParameters((), 0.999), (1, 4))
    np.testing.assert_array_equal(out[0, 0], [5, 5, 2, 2])


def test_beyond_the_crop_the_image_is_zero_and_the_label_is_minus_one() -> None:
    image, seg = np.ones((1, 8, 8, 8), np.float32), np.full((1, 8, 8, 8), 3, np.int16)
    out_image, out_seg = _sample(image, seg, SpatialParameters((), 3.0), (8, 8, 8))
    assert out_image[0, 0, 0, 0] == 0
    assert out_seg[0, 0, 0, 0] == -1
    assert out_image[0, 4, 4, 4] == 1
    assert out_seg[0, 4, 4, 4] == 3
