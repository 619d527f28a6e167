from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segwright.doctor.case_summary import CaseSummary, summarise_case
from segwright.doctor.duplicates import find_duplicates
from segwright.geometry import Geometry
from segwright.io import Image

Voxels = NDArray[np.float32]


def found(images: list[Voxels]) -> list[tuple[str, ...]]:
    """Which cases, named by their place, are nearly copies."""
    cases = [summary(str(number), image) for number, image in enumerate(images)]
    problems = find_duplicates(cases, ["T1"], groups={}, likely_groups={}, splits=())
    return [problem.case_ids for problem in problems if problem.kind == "near_duplicate"]


def summary(case_id: str, image: Voxels) -> CaseSummary:
    return summarise_case(case_id, Image(image[np.newaxis].astype(np.float32), Geometry((1.0, 1.0, 1.0)), {}), None)


def noise(seed: int, shape: tuple[int, ...], strength: float = 1) -> Voxels:
    return np.random.default_rng(seed).normal(scale=strength, size=shape).astype(np.float32)


def places(shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    return np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")


def shaded_slice(seed: int) -> Voxels:
    """A strong vignette over a few faint cells."""
    _, y, x = places((1, 96, 96))
    seen = gaussian_filter((noise(seed, (1, 96, 96)) > 3).astype(np.float32), (0, 2, 2))
    return np.asarray(200 * np.exp(-1.2 * (y**2 + x**2)) + 4 * seen / seen.max() + noise(100 + seed, (1, 96, 96)))


def padded_ct(seed: int) -> Voxels:
    """Tissue within a circle, far below air outside."""
    _, y, x = places((12, 40, 40))
    tissue = gaussian_filter(noise(seed, (12, 40, 40)), 3)
    return np.where(y**2 + x**2 > 1, -32768, 400 * tissue / tissue.std() - 500 + noise(50 + seed, tissue.shape, 20))


def body(seed: int) -> Voxels:
    """The same outline with other organs."""
    z, y, x = places((16, 40, 40))
    random = np.random.default_rng(seed)
    image = np.where((y / 0.75) ** 2 + (x / 0.9) ** 2 < 1, 0, -1000)
    for _ in range(6):
        (a, b, c), (r, s, t) = random.uniform(-0.45, 0.45, 3), random.uniform(0.08, 0.25, 3)
        image[((z - a) / r) ** 2 + ((y - b) / s) ** 2 + ((x - c) / t) ** 2 < 1] = random.uniform(-100, 120)
    return np.asarray(image + noise(seed, image.shape, 15))


def marked_slice(seed: int) -> Voxels:
    image = noise(seed, (1, 96, 96), 15) + 100
    image[:, :12, :12] = 4000
    return image


def ramp(seed: int) -> Voxels:
    return np.asarray(100 * places((12, 30, 30))[2] + noise(seed, (12, 30, 30)))


def tissue(seed: int) -> Voxels:
    smooth = gaussian_filter(noise(seed, (16, 24, 28)), 3)
    return smooth / smooth.std() + noise(50 + seed, smooth.shape, 0.1)


PATTERNS = [shaded_slice, padded_ct, body, marked_slice, ramp]


@pytest.mark.parametrize("make", PATTERNS)
def test_a_pattern_that_all_images_have_makes_no_copies_and_hides_none(make: Callable[[int], Voxels]) -> None:
    images = [make(seed) for seed in range(14)]
    assert found(images) == []
    assert found([*images, 12 * images[3] + 7]) == [("3", "14")]
    assert found([*images, images[3][..., ::-1].copy()]) == [("3", "14")]


@pytest.mark.parametrize("num_others", [0, 1, 2, 12])
def test_copies_are_found_where_most_images_are_copies_of_one(num_others: int) -> None:
    copies = [tissue(1) + noise(70 + number, (16, 24, 28), 0.05) for number in range(12)]
    pairs = found([*copies, *(tissue(2 + number) for number in range(num_others))])
    assert {name for pair in pairs for name in pair} == {str(number) for number in range(12)}
    mirrored = found([copy[..., :: 1 - 2 * (number % 2)].copy() for number, copy in enumerate(copies)])
    assert {name for pair in mirrored for name in pair} == {str(number) for number in range(12)}


def test_two_or_three_copies_are_found_without_other_cases() -> None:
    assert found([tissue(1), 7 * tissue(1) - 3]) == [("0", "1")]
    assert len(found([body(1), 7 * body(1) - 3, body(1) + 5])) == 3


def test_masks_of_nearly_one_shape_are_no_copies() -> None:
    z, y, x = places((16, 30, 30))
    masks = [
        ((z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 < 1).astype(np.float32)
        for a, b, c in np.random.default_rng(1).uniform(0.45, 0.6, (12, 3))
    ]
    assert found(masks) == []


def test_images_with_next_to_nothing_in_them_are_no_copies() -> None:
    assert found([noise(seed, (1, 2, 1)) for seed in range(30)]) == []
    lit = [np.zeros((10, 24, 24), np.float32) for _ in range(60)]
    for seed, image in enumerate(lit):
        image.flat[np.random.default_rng(seed).integers(image.size)] = 1 + seed
    assert found(lit) == []
    assert found(lit[:5]) == []


@pytest.mark.parametrize("crop", [np.s_[:, 1:, 2:], np.s_[:, 1:-1, :-1]])
def test_a_mirrored_and_cropped_copy_is_found(crop: tuple[slice, ...]) -> None:
    images = [tissue(seed) for seed in range(10)]
    assert found([*images, images[3][crop][:, ::-1, ::-1].copy()]) == [("3", "10")]
