from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segwright.doctor.image_signature import image_signature, texture_correlation

Voxels = NDArray[np.float32]


def scan(seed: int, shape: tuple[int, int, int] = (30, 44, 37), noise_seed: int | None = None) -> Voxels:
    tissue = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0 if shape[0] == 1 else 3, 3, 3))
    noise = np.random.default_rng(1000 + seed if noise_seed is None else noise_seed).normal(size=shape)
    return (100 * tissue / tissue.std() + 15 * noise).astype(np.float32)


def cells_correlation(one: Voxels, other: Voxels) -> float:
    return float((image_signature(one).cells * image_signature(other).cells).sum())


@pytest.mark.parametrize("shape", [(30, 44, 37), (6, 60, 50), (1, 90, 110), (3, 2, 5), (120, 9, 1)])
def test_cells_are_as_many_for_every_shape_and_know_a_rescaled_copy(shape: tuple[int, int, int]) -> None:
    voxels = scan(1, shape)
    assert image_signature(voxels).cells.size == 1152
    assert cells_correlation(voxels, 1e-4 * voxels - 3) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("shape", [(17, 24, 5), (8, 12, 12), (3, 2, 5), (100, 13, 1), (1, 90, 110)])
def test_cells_are_means_of_the_voxels_in_them_each_by_its_share(shape: tuple[int, int, int]) -> None:
    voxels = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    grid = (1, 32, 36) if shape[0] == 1 else (8, 12, 12)
    finely = voxels  # each voxel in as many parts as there are cells: so many whole parts make a cell
    for axis, (size, count) in enumerate(zip(shape, grid, strict=True)):
        parts = np.repeat(finely, count, axis=axis)
        new = [*parts.shape[:axis], count, size, *parts.shape[axis + 1 :]]
        finely = parts.reshape(new).mean(axis=axis + 1, dtype=np.float64)
    means = finely - finely.mean()
    np.testing.assert_allclose(image_signature(voxels).cells, means / np.linalg.norm(means), atol=1e-6)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(30, 44, 37), (6, 61, 50), (1, 90, 110)])
def test_a_mirrored_image_has_mirrored_cells(shape: tuple[int, int, int], axes: tuple[int, ...]) -> None:
    voxels = scan(1, shape)
    signature, mirrored = image_signature(voxels), image_signature(np.ascontiguousarray(np.flip(voxels, axes)))
    np.testing.assert_allclose(np.flip(mirrored.cells, axes), signature.cells, atol=1e-6)
    if len(set(axes) - {axis for axis in range(3) if shape[axis] == 1}) > 0:
        assert np.abs(mirrored.cells - signature.cells).max() > 1e-3


@pytest.mark.parametrize(
    "crop",
    [
        lambda voxels: voxels[:, 1:, 1:],
        lambda voxels: voxels[:, 1:-1, 2:],
        lambda voxels: voxels[..., 2:-2],
        lambda voxels: 7 * voxels[..., :-1] + 100,
    ],
)
@pytest.mark.parametrize("shape", [(30, 44, 37), (7, 60, 50), (1, 90, 110)])
def test_the_texture_knows_a_cropped_copy(crop: Callable[[Voxels], Voxels], shape: tuple[int, int, int]) -> None:
    voxels = scan(1, shape)
    assert texture_correlation(image_signature(crop(voxels)), image_signature(voxels)) > 0.999


def test_the_texture_tells_two_scans_of_one_anatomy_apart() -> None:
    first, second = scan(1), scan(1, noise_seed=5)
    assert cells_correlation(first, second) > 0.99
    assert texture_correlation(image_signature(first), image_signature(second)) < 0.98


def test_a_constant_image_is_like_nothing() -> None:
    empty = image_signature(np.full((9, 9, 9), 3, np.float32))
    assert not empty.cells.any()
    assert texture_correlation(empty, image_signature(scan(1))) == 0


def test_the_texture_knows_a_mirrored_and_cropped_copy() -> None:
    mirrored = image_signature(scan(1)[:, ::-1, 1:].copy())
    assert texture_correlation(image_signature(scan(1)), mirrored, (1,)) > 0.999
    assert texture_correlation(image_signature(scan(1)), mirrored) < 0.9


@pytest.mark.parametrize("shape", [(30, 44, 37), (1, 90, 110)])
def test_a_shading_that_two_images_have_is_no_likeness_of_their_textures(shape: tuple[int, int, int]) -> None:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    shading = 1000 * (x + y**2 - x * z)
    first, second = (
        image_signature((shading + np.random.default_rng(seed).normal(size=shape)).astype(np.float32))
        for seed in (1, 2)
    )
    assert (first.cells * second.cells).sum() > 0.999
    assert texture_correlation(first, second) < 0.3
    smooth = image_signature(shading.astype(np.float32))
    assert texture_correlation(smooth, smooth) == 0  # nothing but the rounding is left


def test_a_few_voxels_are_too_few_for_a_texture() -> None:
    few = image_signature(scan(1, (3, 2, 5)))
    assert texture_correlation(few, few) == 0


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e18, 1e25, 2e35])
@pytest.mark.parametrize("shape", [(30, 44, 37), (1, 90, 110)])
def test_values_near_the_ends_of_float32_have_the_same_signature(scale: float, shape: tuple[int, int, int]) -> None:
    voxels = scan(1, shape) + 700
    signature, scaled = image_signature(voxels), image_signature((voxels * np.float64(scale)).astype(np.float32))
    np.testing.assert_allclose(scaled.cells, signature.cells, atol=1e-5)
    assert texture_correlation(scaled, signature) > 0.999
