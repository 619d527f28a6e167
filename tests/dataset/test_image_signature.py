from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segwright.dataset.image_signature import block_correlation, cells_correlations, image_signature

Voxels = NDArray[np.float32]


def scan(seed: int, shape: tuple[int, int, int] = (30, 44, 37), noise_seed: int | None = None) -> Voxels:
    tissue = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0 if shape[0] == 1 else 3, 3, 3))
    noise = np.random.default_rng(1000 + seed if noise_seed is None else noise_seed).normal(size=shape)
    return (100 * tissue / tissue.std() + 15 * noise).astype(np.float32)


def cells_correlation(one: Voxels, other: Voxels) -> float:
    signatures = (image_signature(each) for each in (one, other))
    return float(cells_correlations(*(each.cells[np.newaxis] for each in signatures))[0, 0])


@pytest.mark.parametrize("shape", [(30, 44, 37), (6, 60, 50), (1, 90, 110), (3, 2, 5), (120, 9, 1)])
def test_cells_are_as_many_for_every_shape_and_know_a_rescaled_copy(shape: tuple[int, int, int]) -> None:
    voxels = scan(1, shape)
    assert image_signature(voxels).cells.shape == (1152,)
    assert cells_correlation(voxels, 1e-4 * voxels - 3) == pytest.approx(1, abs=1e-4)


def test_cells_are_means_of_the_voxels_in_them() -> None:
    voxels = np.random.default_rng(1).normal(size=(17, 24, 5)).astype(np.float32)
    cells = image_signature(voxels).cells.reshape(8, 12, 12)
    means = np.array(
        [
            [[voxels[z * 17 // 8 : (z + 1) * 17 // 8, 2 * y : 2 * y + 2, x * 5 // 12].mean() for x in range(12)]]
            for z in range(8)
            for y in range(12)
        ]
    ).reshape(8, 12, 12)
    means -= means.mean()
    np.testing.assert_allclose(cells, means / np.linalg.norm(means), atol=1e-6)


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
def test_the_block_knows_a_cropped_copy(crop: Callable[[Voxels], Voxels], shape: tuple[int, int, int]) -> None:
    voxels = scan(1, shape)
    assert block_correlation(image_signature(crop(voxels)), image_signature(voxels)) > 0.999


def test_the_block_tells_two_scans_of_one_anatomy_apart() -> None:
    first, second = scan(1), scan(1, noise_seed=5)
    assert cells_correlation(first, second) > 0.99
    assert block_correlation(image_signature(first), image_signature(second)) < 0.98


def test_a_constant_image_is_like_nothing() -> None:
    empty = image_signature(np.full((9, 9, 9), 3, np.float32))
    assert not empty.cells.any()
    assert block_correlation(empty, image_signature(scan(1))) == 0
