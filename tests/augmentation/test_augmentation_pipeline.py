from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, kstest

from segwright.augmentation import intensity
from segwright.augmentation.pipeline import (
    Augmentation,
    augment,
    augment_window,
    augmentation_named,
    draw_spatial,
    validation_transform,
    window_for,
)
from segwright.errors import SettingsError

PATCH = (6, 8, 7)
ALMOST_NEVER = 1e-5
"""A seeded test fails only where the truth would give as bad a sample less often than this."""


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _sample(augmentation: Augmentation, channels: int = 2) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    rng = _rng(1)
    image = rng.standard_normal((channels, *augmentation.initial_patch_size), dtype=np.float32)
    return image, rng.integers(-1, 4, (1, *augmentation.initial_patch_size)).astype(np.int16)


Calls = dict[str, list[list[float]]]


def _record(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Replace the deterministic transforms by recorders of their parameters."""
    calls: Calls = defaultdict(list)

    def recorder(name: str) -> object:
        def record(*arguments: object, inverted: bool = False) -> None:
            value = arguments[1]
            key = f"{name} inverted" if inverted else name
            calls[key].append(list(value) if isinstance(value, Sequence) else [float(value)])  # type: ignore[arg-type]

        return record

    for name in ("add_noise", "blur", "contrast", "simulate_low_resolution", "gamma"):
        monkeypatch.setattr(intensity, name, recorder(name))
    return calls


def _happens_with(probability: float, count: int, trials: int) -> bool:
    return binomtest(count, trials, probability).pvalue > ALMOST_NEVER


def _is_uniform(values: Sequence[float], low: float, high: float) -> bool:
    inside = min(values) >= low and max(values) <= high
    return inside and kstest(values, "uniform", args=(low, high - low)).pvalue > ALMOST_NEVER


def _is_factor_about_one(values: Sequence[float], low: float, high: float) -> bool:
    below = [value for value in values if value < 1]
    above = [value for value in values if value >= 1]
    return (
        _happens_with(0.5, len(below), len(values)) and _is_uniform(below, low, 1.0) and _is_uniform(above, 1.0, high)
    )


def test_intensity_parameters_follow_nnunets_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _record(monkeypatch)
    augmentation = augmentation_named("nnunet", PATCH)
    image, seg = _sample(augmentation)
    samples = 4000
    spatial = replace(augmentation, rotation_probability=0.0, scaling_probability=0.0)
    for seed in range(samples):
        augment(image, seg, spatial, _rng(seed))

    noise = [value for (value,) in calls["add_noise"]]
    assert _happens_with(0.1, len(noise), samples)
    assert _is_uniform(noise, 0.0, 0.1)

    # each of the two channels is blurred, or shrunk, in half of the samples that are; the pairs inflate the variance
    # at most twofold, which half the number of trials stands for
    assert _happens_with(0.2 * 0.5, len(calls["blur"]) // 2, samples)
    assert all(len(sigmas) == 3 and len(set(sigmas)) == 3 for sigmas in calls["blur"])
    assert _is_uniform([sigma for sigmas in calls["blur"] for sigma in sigmas], 0.5, 1.0)

    assert _happens_with(0.25 * 0.5, len(calls["simulate_low_resolution"]) // 2, samples)
    assert all(len(set(scales)) == 1 for scales in calls["simulate_low_resolution"])
    assert _is_uniform([scales[0] for scales in calls["simulate_low_resolution"]], 0.5, 1.0)

    for name, probability, low, high in [
        ("contrast", 0.15, 0.75, 1.25),
        ("gamma", 0.3, 0.7, 1.5),
        ("gamma inverted", 0.1, 0.7, 1.5),
    ]:
        factors = [value for (value,) in calls[name]]
        assert len(factors) % 2 == 0, "both channels or none"
        assert factors[0] != factors[1], "each channel has its own"
        assert _happens_with(probability, len(factors) // 2, samples)
        assert _is_factor_about_one(factors, low, high)


def test_brightness_multiplies_each_channel_by_its_own_factor() -> None:
    augmentation = replace(augmentation_named("none", (2, 3, 3)), brightness_probability=0.15)
    seg = np.zeros((1, 2, 3, 3), np.int16)
    image = np.ones((2, 2, 3, 3), np.float32)
    factors = [augment(image, seg, augmentation, _rng(seed))[0][:, 0, 0, 0] for seed in range(4000)]
    changed = [pair for pair in factors if not np.array_equal(pair, [1, 1])]
    assert _happens_with(0.15, len(changed), 4000)
    assert all(first != second for first, second in changed)
    assert _is_factor_about_one([float(value) for pair in changed for value in pair], 0.75, 1.25)


def test_spatial_parameters_follow_nnunets_distributions() -> None:
    augmentation = augmentation_named("nnunet", PATCH)
    draws = [draw_spatial(augmentation, _rng(seed)) for seed in range(5000)]
    rotated = [draw.angles_degrees for draw in draws if draw.angles_degrees]
    scaled = [draw.scale for draw in draws if draw.scale != 1]
    assert _happens_with(0.2, len(rotated), len(draws))
    assert _happens_with(0.2, len(scaled), len(draws))
    assert _happens_with(0.04, sum(bool(draw.angles_degrees) and draw.scale != 1 for draw in draws), len(draws))
    assert _is_uniform(scaled, 0.7, 1.4)
    for axis in range(3):
        assert _is_uniform([angles[axis] for angles in rotated], -30, 30)
        assert _happens_with(0.5, sum(axis in draw.mirrored_axes for draw in draws), len(draws))


@pytest.mark.parametrize("patch", [(40, 40), (5, 40, 40)])
def test_in_plane_rotation_takes_one_angle_of_the_full_circle(patch: tuple[int, ...]) -> None:
    augmentation = augmentation_named("nnunet", patch)
    rotated = [
        draw.angles_degrees
        for draw in (draw_spatial(augmentation, _rng(seed)) for seed in range(5000))
        if draw.angles_degrees
    ]
    assert all(len(angles) == 1 for angles in rotated)
    assert _is_uniform([angles[0] for angles in rotated], -180, 180)


def test_dummy_2d_keeps_the_resolution_across_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _record(monkeypatch)
    augmentation = replace(augmentation_named("nnunet", (5, 20, 20)), low_resolution_probability=1.0)
    assert augmentation.dummy_2d
    image, seg = _sample(augmentation)
    for seed in range(20):
        augment(image, seg, augmentation, _rng(seed))
    assert calls["simulate_low_resolution"]
    assert all(scales[0] == 1 and scales[1] == scales[2] < 1 for scales in calls["simulate_low_resolution"])


@pytest.mark.parametrize("name", ["nnunet", "light", "none"])
@pytest.mark.parametrize("patch", [(12, 16, 14), (24, 20), (4, 20, 18)])
def test_a_sample_depends_on_its_generator_alone(name: str, patch: tuple[int, ...]) -> None:
    augmentation = augmentation_named(name, patch)
    image, seg = _sample(augmentation)
    kept = image.copy(), seg.copy()
    serial = [augment(image, seg, augmentation, _rng(seed)) for seed in range(40)]
    threaded: dict[int, tuple[NDArray[np.float32], NDArray[np.int16]]] = {}

    def work(seeds: range) -> None:
        for seed in seeds:
            threaded[seed] = augment(image, seg, augmentation, _rng(seed))

    threads = [threading.Thread(target=work, args=(range(first, 40, 2),)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, (out_image, out_seg) in enumerate(serial):
        np.testing.assert_array_equal(out_image, threaded[seed][0])
        np.testing.assert_array_equal(out_seg, threaded[seed][1])
        assert out_image.shape == (2, *patch)
        assert out_image.dtype == np.float32
        assert out_seg.shape == (1, *patch)
        assert out_seg.dtype == np.int16
        assert out_image.flags.c_contiguous
        assert out_seg.flags.c_contiguous
        assert np.isfinite(out_image).all()
        assert out_seg.min() >= 0
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(seg, kept[1])


@pytest.mark.parametrize("patch", [(12, 16, 14), (24, 20), (4, 20, 18)])
def test_a_sample_made_from_its_window_is_the_one_made_from_the_whole_crop(patch: tuple[int, ...]) -> None:
    augmentation = augmentation_named("nnunet", patch)
    image, seg = _sample(augmentation)
    for seed in range(60):
        rng = _rng(seed)
        spatial = draw_spatial(augmentation, rng)
        index = (slice(None), *window_for(augmentation, spatial))
        out_image, out_seg = augment_window(image[index], seg[index], augmentation, spatial, rng)
        whole_image, whole_seg = augment(image, seg, augmentation, _rng(seed))
        np.testing.assert_allclose(out_image, whole_image, atol=2e-3)
        assert (out_seg == whole_seg).mean() > 0.995
        if not spatial.resamples:
            np.testing.assert_array_equal(out_image, whole_image)
            np.testing.assert_array_equal(out_seg, whole_seg)


def test_none_copies_the_patch() -> None:
    augmentation = augmentation_named("none", PATCH)
    image, seg = _sample(augmentation)
    out_image, out_seg = augment(image, seg, augmentation, _rng(0))
    assert augmentation.initial_patch_size == PATCH
    np.testing.assert_array_equal(out_image, image)
    np.testing.assert_array_equal(out_seg, np.where(seg == -1, 0, seg))
    assert not np.shares_memory(out_image, image)


def test_light_needs_a_smaller_crop_and_mirrors_only_when_asked() -> None:
    light, full = augmentation_named("light", (40, 56, 40)), augmentation_named("nnunet", (40, 56, 40))
    assert np.prod(light.initial_patch_size) < np.prod(full.initial_patch_size)
    assert light.mirror_axes == ()
    assert augmentation_named("light", (40, 56, 40), mirror_axes=(2,)).mirror_axes == (2,)
    assert augmentation_named("nnunet", (40, 56, 40), mirror_axes=()).mirror_axes == ()


def test_channels_normalised_in_a_mask_are_zero_outside_it() -> None:
    augmentation = augmentation_named("nnunet", PATCH, use_mask_for_norm=(True, False))
    image, seg = _sample(augmentation)
    seg[:] = -1
    for seed in range(20):
        out_image, out_seg = augment(image, seg, augmentation, _rng(seed))
        assert not out_image[0].any()
        assert out_image[1].any()
        assert not out_seg.any()


def test_validation_only_turns_outside_to_background() -> None:
    image, seg = _sample(augmentation_named("none", PATCH))
    kept = seg.copy()
    out_image, out_seg = validation_transform(image, seg)
    np.testing.assert_array_equal(out_image, image)
    np.testing.assert_array_equal(out_seg, np.where(kept == -1, 0, kept))
    np.testing.assert_array_equal(seg, kept)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="strong"):
        augmentation_named("strong", PATCH)


def test_a_crop_of_another_size_is_refused() -> None:
    augmentation = augmentation_named("nnunet", PATCH)
    image, seg = _sample(augmentation)
    with pytest.raises(SettingsError, match="initial_patch_size"):
        augment(image[:, 1:], seg, augmentation, _rng(0))
    with pytest.raises(SettingsError, match="label"):
        augment(image, seg[:, 1:], augmentation, _rng(0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_probability", 1.5),
        ("mirror_probability", -0.1),
        ("gamma_range", (1.5, 0.7)),
        ("scaling_range", (0.0, 1.4)),
        ("blur_sigma_range", (0.0, 1.0)),
        ("rotation_degrees", ((30.0, -30.0),)),
        ("initial_patch_size", (6, 8, 6)),
        ("initial_patch_size", (6, 8)),
        ("mirror_axes", (3,)),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=field):
        replace(augmentation_named("nnunet", PATCH), **{field: value})
