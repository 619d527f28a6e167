from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from segwright.dataset.problems import Problem
from segwright.dataset.splits import Split, create_splits
from segwright.doctor.case_summary import CaseSummary, summarise_case
from segwright.doctor.cohort_check import compare_cases
from segwright.geometry import Geometry
from segwright.io import Image

SHAPE = (20, 24, 28)
NUM_CASES = 10
Channels = list[NDArray[np.float32]]


def anatomy(seed: int) -> tuple[Channels, NDArray[np.float32]]:
    """Two modalities of one random anatomy, the first with a dark, the second with a bright and skewed foreground."""
    random = np.random.default_rng(seed)
    tissue = gaussian_filter(random.normal(size=SHAPE), 3)
    tissue /= tissue.std()
    labels = (tissue > 1).astype(np.float32)
    first = 300 - 100 * tissue + random.normal(scale=20, size=SHAPE)
    second = np.exp(tissue) + random.normal(scale=0.05, size=SHAPE)
    return [first.astype(np.float32), second.astype(np.float32)], labels


def summary(case_id: str, channels: Channels, labels: NDArray[np.float32] | None, **geometry: Any) -> CaseSummary:
    where = Geometry(**{"spacing_mm": (1.0, 1.0, 1.0), **geometry})
    return summarise_case(case_id, Image(np.stack(channels), where, {}), labels)


def cohort() -> list[CaseSummary]:
    return [summary(f"case_{seed}", *anatomy(seed)) for seed in range(NUM_CASES)]


def warnings(cases: Sequence[CaseSummary], names: Sequence[str] = ("T1", "T2"), **options: Any) -> list[Problem]:
    problems = list(compare_cases(cases, names, **options))
    assert all(problem.severity == "warning" for problem in problems)
    return problems


def has(problem: Problem, kind: str, *values: str, case: str | None = None) -> bool:
    """Whether the finding is of this kind, belongs to this case and names each of these values, in this order."""
    places = [problem.text.find(value) for value in values]
    return (problem.kind, problem.case_id) == (kind, case) and -1 not in places and places == sorted(places)


def test_ordinary_cases_are_not_remarked_upon() -> None:
    assert warnings(cohort()) == []
    assert warnings([]) == []
    assert warnings(cohort()[:1]) == []


def test_the_same_voxels_under_two_names_are_found_and_their_labels_compared() -> None:
    channels, labels = anatomy(3)
    (same,) = warnings([*cohort(), summary("copy", channels, labels)])
    assert has(same, "duplicate", "imagesTr", "case_3", case="copy")
    (other,) = warnings([*cohort(), summary("copy", channels, np.roll(labels, 1))])
    assert has(other, "duplicate", "imagesTr", "case_3", case="copy")
    assert other.remedy != same.remedy


def test_nothing_is_said_of_the_labels_of_copies_that_have_none() -> None:
    channels, _ = anatomy(3)
    for change in (lambda voxels: voxels, noisy):
        pair = [summary("a", channels, None), summary("b", [change(channel) for channel in channels], None)]
        (found,) = warnings(pair)
        assert (found.case_id, found.file) == ("b", "imagesTr")
        assert "label" not in found.what


def noisy(voxels: NDArray[np.float32], strength: float = 0.05) -> NDArray[np.float32]:
    noise = np.random.default_rng(7).normal(scale=strength * voxels.std(), size=voxels.shape)
    return (voxels + noise).astype(np.float32)


@pytest.mark.parametrize("change", [noisy, lambda voxels: voxels * 12 - 7, lambda voxels: np.round(voxels, 1)])
def test_a_copy_with_noise_or_in_another_scale_is_found(change: Any) -> None:
    channels, labels = anatomy(3)
    (text,) = warnings([*cohort(), summary("copy", [change(channel) for channel in channels], labels)])
    assert has(text, "near_duplicate", "imagesTr", "case_3", case="copy")
    groups = {"copy": "p", "case_3": "p"}
    assert (
        warnings([*cohort(), summary("copy", [change(channel) for channel in channels], labels)], groups=groups) == []
    )


@pytest.mark.parametrize("crop", [np.s_[1:, :, :], np.s_[1:-1, 1:, 2:]])
def test_a_cropped_copy_is_found(crop: Any) -> None:
    channels, labels = anatomy(3)
    (text,) = warnings([*cohort(), summary("copy", [channel[crop] for channel in channels], labels[crop])])
    assert has(text, "near_duplicate", "case_3", " 0.9", str(labels[crop].shape), "(20, 24, 28)", case="copy")


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("change", [lambda voxels: voxels, noisy])
def test_a_mirrored_copy_is_found(change: Any, axes: tuple[int, ...]) -> None:
    channels, labels = anatomy(3)
    copy = summary("copy", [change(np.flip(channel, axes).copy()) for channel in channels], np.flip(labels, axes))
    (text,) = warnings([*cohort(), copy])
    along = ", ".join("zyx"[axis] for axis in axes)
    assert has(text, "near_duplicate", "case_3", f" along {along} (", case="copy")
    assert warnings([*cohort(), copy], groups={"copy": "p", "case_3": "p"}) == []


def test_a_mirrored_slice_is_found_and_a_volume_is_not_taken_for_one() -> None:
    channels, labels = anatomy(3)
    middle = [channel[10:11] for channel in channels]
    mirrored = summary("b", [channel[:, ::-1].copy() for channel in middle], labels[10:11, ::-1])
    (text,) = warnings([summary("a", middle, labels[10:11]), mirrored, summary("c", channels, labels)])
    assert has(text, "near_duplicate", "imagesTr", "case a ", " along y (", case="b")


def test_a_case_with_one_channel_mirrored_is_no_mirrored_copy() -> None:
    channels, labels = anatomy(3)
    found = warnings([*cohort(), summary("other", [np.flip(channels[0]).copy(), channels[1]], np.roll(labels, 1))])
    assert has(found[0], "duplicate", "channel 1 (T2) of case case_3", case="other")
    assert "near_duplicate" not in {problem.kind for problem in found}


@pytest.mark.parametrize("factors", [(1.7, 1.3, 1.9), (1, 2, 2), (2, 1, 1)])
def test_a_resampled_copy_is_found(factors: tuple[float, ...]) -> None:
    channels, labels = anatomy(3)
    finer = [zoom(channel, factors, order=1, grid_mode=True, mode="nearest") for channel in channels]
    (text,) = warnings([*cohort(), summary("copy", finer, zoom(labels, factors, order=0))])
    assert has(text, "near_duplicate", "case_3", " 0.9", str(finer[0].shape), "(20, 24, 28)", case="copy")


def test_folds_that_a_copy_divides_are_named() -> None:
    cases = [*cohort(), summary("copy", *anatomy(3))]
    names = [case.case_id for case in cases]
    splits = create_splits(names)
    folds = [str(fold) for fold, split in enumerate(splits) if len({"copy", "case_3"} & {*split.val}) == 1]
    (text,) = warnings(cases, splits=splits)
    assert has(text, "duplicate", f"folds {', '.join(folds)} ", case="copy")
    everything = [Split(tuple(names), ("case_3",))]
    assert "fold 0" in warnings(cases, splits=everything)[0].text
    assert "fold 0" not in warnings(cases, splits=[Split(("case_1",), ("case_3", "copy"))])[0].text


def test_a_copy_under_another_spacing_is_a_copy() -> None:
    problems = warnings([*cohort(), summary("copy", *anatomy(3), spacing_mm=(1.0, 1.0, 1.2))])
    assert has(problems[0], "duplicate", "case_3", "spacing", case="copy")


def test_a_channel_or_a_label_map_of_another_case_is_found() -> None:
    channels, labels = anatomy(3)
    cases = cohort()
    cases[5] = summary("case_5", [anatomy(5)[0][0], channels[1]], anatomy(5)[1])
    channel, intensities = warnings(cases)
    assert has(intensities, "intensities", "1 of 10 cases", "case_5")
    assert has(channel, "duplicate", "imagesTr, channel 1 (T2)", "channel 1 (T2) of case case_3", case="case_5")
    cases[5] = summary("case_5", anatomy(5)[0], labels)
    label_map = warnings(cases)[0]
    assert has(label_map, "label_map_repeated", "labelsTr", "case_3", case="case_5")
    assert not any(has(each, "label_map_repeated") for each in warnings(cases, groups={"case_3": "p", "case_5": "p"}))
    empty = np.zeros_like(labels)
    assert warnings([summary(case, anatomy(seed)[0], empty) for seed, case in enumerate("abcd")]) == []


def test_one_file_for_two_channels_is_found_but_a_grey_picture_in_colour_is_usual() -> None:
    cases = cohort()
    channels, labels = anatomy(3)
    cases[3] = summary("case_3", [channels[0], channels[0]], labels)
    found = warnings(cases)
    assert has(found[0], "channels_alike", "imagesTr", "channel 1 (T2)", "channel 0 (T1)", case="case_3")
    grey = [summary(f"case_{seed}", [anatomy(seed)[0][0]] * 2, anatomy(seed)[1]) for seed in range(NUM_CASES)]
    assert warnings(grey, one_file_per_channel=False) == []


def test_likely_patients_are_left_to_their_names() -> None:
    channels, labels = anatomy(3)
    moved = [noisy(0.8 * channel + 0.2 * np.roll(channel, 3, axis=0), 0.2) for channel in channels]
    cases = [*cohort(), summary("later", moved, np.roll(labels, 1))]
    assert warnings(cases, likely_groups={"later": "p", "case_3": "p"}) == []
    cases[-1] = summary("later", [noisy(channel) for channel in channels], labels)
    (copy,) = warnings(cases, likely_groups={"later": "p", "case_3": "p"})
    assert has(copy, "near_duplicate", "case_3", case="later")


def test_two_frames_of_a_patient_are_found_though_their_names_say_nothing() -> None:
    channels, labels = anatomy(3)
    moved = [noisy(0.8 * channel + 0.2 * np.roll(channel, 3, axis=0), 0.2) for channel in channels]
    cases = [*cohort(), summary("later", moved, np.roll(labels, 1))]
    (text,) = warnings(cases)
    assert has(text, "same_patient", "imagesTr", "(1)", "case_3 and later")
    assert warnings(cases, groups={"later": "p", "case_3": "p"}) == []


def test_unlike_orientations_are_counted_and_named() -> None:
    cases = [replace(case, orientation="RAS" if number in (2, 5) else "LPS") for number, case in enumerate(cohort())]
    (text,) = warnings(cases)
    assert has(text, "orientation", "LPS in 8", "RAS in 2 (case_2, case_5)")
    assert warnings(cases, orientation=False) == []


def test_a_spacing_far_from_the_others_is_named() -> None:
    cases = [replace(case, spacing_mm=(5.0, 0.8 + number / 100, 1.0)) for number, case in enumerate(cohort())]
    assert warnings(cases) == []
    cases[4] = replace(cases[4], spacing_mm=(1.0, 0.8, 1.0))
    (text,) = warnings(cases)
    assert has(text, "spacing", " z ", " 5 mm", " 1 in case_4")


def test_a_shape_far_from_the_others_is_named() -> None:
    cases = [replace(case, shape=(20 + 3 * number, 256, 256)) for number, case in enumerate(cohort())]
    assert warnings(cases) == []
    cases[4] = replace(cases[4], shape=(256, 256, 20))
    along_z, along_x = warnings(cases)
    assert has(along_z, "shape", " z ", " 36.5 voxels", " 256 in case_4")
    assert has(along_x, "shape", " x ", " 256 voxels", " 20 in case_4")


def test_a_few_bright_voxels_are_no_label_map() -> None:
    cases = cohort()
    channels, labels = anatomy(3)
    sparse = np.zeros_like(labels)
    sparse.flat[1001:13001:1000] = np.arange(12)
    cases[3] = summary("case_3", [channels[0], sparse], labels)
    assert "not_an_image" not in {problem.kind for problem in warnings(cases)}


def test_a_label_map_and_an_empty_channel_among_the_images_are_named() -> None:
    channels, labels = anatomy(3)
    cases = cohort()
    cases[3] = summary("case_3", [channels[0], labels], labels)
    channels, labels = anatomy(4)
    cases[4] = summary("case_4", [np.zeros_like(labels), channels[1]], labels)
    mask, constant = sorted(warnings(cases), key=lambda problem: str(problem.case_id))
    assert has(mask, "not_an_image", "imagesTr, channel 1 (T2)", " 2 ", case="case_3")
    assert has(constant, "not_an_image", "imagesTr, channel 0 (T1)", case="case_4")


def test_interchanged_channels_and_a_foreign_modality_are_named() -> None:
    channels, labels = anatomy(3)
    cases = cohort()
    cases[3] = summary("case_3", channels[::-1], labels)
    foreign, other_labels = anatomy(6)
    cases[6] = summary("case_6", [-foreign[0], foreign[1]], other_labels)
    swapped, odd = warnings(cases)
    assert has(swapped, "channels_swapped", "imagesTr", "0 (T1)", "1 (T2)", case="case_3")
    assert has(odd, "intensities", "imagesTr, channel 0 (T1)", "1 of 10 cases", "case_6")


def test_a_data_set_of_two_kinds_of_images_has_no_foreign_ones() -> None:
    cases = cohort()
    for seed in range(0, NUM_CASES, 3):
        channels, labels = anatomy(seed)
        cases[seed] = summary(f"case_{seed}", [-channels[0], channels[1]], labels)
    assert warnings(cases) == []


def test_an_inverted_image_is_named_by_its_foreground() -> None:
    cases = [summary(f"case_{seed}", [anatomy(seed)[0][0]], anatomy(seed)[1]) for seed in range(NUM_CASES)]
    channels, labels = anatomy(6)
    cases[6] = summary("case_6", [channels[0].max() - channels[0]], labels)
    (text,) = warnings(cases, ["MRI"])
    assert has(text, "intensities", "imagesTr, channel 0 (MRI)", "1 of 10 cases", "case_6")


def test_another_scale_is_no_other_modality() -> None:
    cases = cohort()
    for seed in range(NUM_CASES):
        channels, labels = anatomy(seed)
        cases[seed] = summary(f"case_{seed}", [channel * 10.0 ** (seed - 4) for channel in channels], labels)
    assert warnings(cases) == []


def test_a_ct_that_is_not_in_hounsfield_units_is_named() -> None:
    cases = [summary(f"case_{seed}", [anatomy(seed)[0][0] * 5 - 1500], anatomy(seed)[1]) for seed in range(NUM_CASES)]
    assert warnings(cases, ["CT"]) == []
    channels, labels = anatomy(3)
    cases[3] = summary("case_3", [(channels[0] - channels[0].mean()) / channels[0].std()], labels)
    (text,) = warnings(cases, ["ct"])
    assert has(text, "not_hounsfield", "imagesTr, channel 0 (ct)", "1 of 10 cases", "case_3 (-2.")


def test_the_spacing_between_slices_of_pictures_is_none() -> None:
    pictures = [
        summary(f"case_{seed}", [anatomy(seed)[0][0][:1]], None, spacing_mm=(999.0 * (1 + 4 * (seed == 2)), 1.0, 1.0))
        for seed in range(NUM_CASES)
    ]
    assert warnings(pictures, ["T1"]) == []
