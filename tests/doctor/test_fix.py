"""`fix_dataset`: what it fixes in the copy, what it leaves and names, and that the original stays as it was."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from imageio import v3 as imageio

from segwright.doctor.check import check
from segwright.doctor.fix import FixReport, fix_dataset
from segwright.errors import DatasetError, MissingFileError, SettingsError, WriteError
from segwright.io import reader_named

VALUES = np.arange(120).reshape(4, 6, 5) % 3


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fix(tmp_path: Path) -> Callable[..., FixReport]:
    """Fix a data set; the original must not change, and nothing but the copy may appear."""

    def run(folder: Path, **options: Any) -> FixReport:
        before, beside = contents(folder), set(tmp_path.iterdir())
        report = fix_dataset(folder, tmp_path / "fixed", **options)
        assert contents(folder) == before
        assert set(tmp_path.iterdir()) - beside == {tmp_path / "fixed"}
        return report

    return run


def told(report: FixReport) -> list[str]:
    return [change.text for change in report.changes]


def labels_of(report: FixReport, case_id: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(report.copy / "labelsTr" / f"{case_id}.mha")))


def description_of(report: FixReport) -> Any:
    return json.loads((report.copy / "dataset.json").read_text())


def test_a_sound_data_set_is_copied_byte_for_byte(raw, fix) -> None:
    (raw.folder / "notes").mkdir()
    (raw.folder / "notes" / "readme.txt").write_text("scanned on a Tuesday")
    (raw.folder / ".hidden").write_text("x")
    report = fix(raw.folder)
    assert (report.changes, report.unfixed, report.num_cases) == ((), (), 3)
    expected = contents(raw.folder)
    del expected[".hidden"]
    assert contents(report.copy) == expected


def test_an_edit_of_the_copy_does_not_reach_the_original(raw, fix) -> None:
    report = fix(raw.folder)
    before = raw.labels("a").read_bytes()
    with (report.copy / "labelsTr" / "a.mha").open("ab") as file:
        file.write(b"x")
    assert raw.labels("a").read_bytes() == before


def test_values_are_mapped_in_their_order(raw, fix) -> None:
    for case_id in raw.case_ids:
        raw.write_labels(case_id, np.array([0, 128, 255], np.uint8)[VALUES])
    raw.write_labels("c", np.array([0, 128, 128], np.uint8)[VALUES])
    report = fix(raw.folder)
    assert told(report) == [
        "case a, labelsTr/a.mha: label values: 128 -> 1, 255 -> 2.",
        "case b, labelsTr/b.mha: label values: 128 -> 1, 255 -> 2.",
        "case c, labelsTr/c.mha: label values: 128 -> 1.",
    ]
    np.testing.assert_array_equal(labels_of(report, "a"), VALUES)
    np.testing.assert_array_equal(labels_of(report, "c"), np.minimum(VALUES, 1))
    assert check(report.copy).ok


def test_declared_values_are_renumbered_with_the_label_maps(raw, fix) -> None:
    labels = {"background": 0, "whole": [2, 5], "core": [5], "ignore": 255}
    raw.describe(labels=labels, regions_class_order=[2, 5])
    for case_id in raw.case_ids:
        raw.write_labels(case_id, np.array([0, 2, 5], np.uint8)[VALUES])
    raw.write_labels("c", np.array([0, 255, 5], np.uint8)[VALUES])
    report = fix(raw.folder)
    assert told(report)[0] == "dataset.json: labels renumbered: 2 -> 1, 5 -> 2, 255 -> 3."
    assert description_of(report)["labels"] == {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    assert description_of(report)["regions_class_order"] == [1, 2]
    np.testing.assert_array_equal(labels_of(report, "c"), np.array([0, 3, 2])[VALUES])
    assert check(report.copy).ok


def test_values_that_could_be_anything_are_left_and_named(raw, fix) -> None:
    raw.describe(labels={"background": 0, "one": 1, "two": 5})
    raw.write_labels("a", np.array([0, 1, 5], np.uint8)[VALUES])
    for case_id in "bc":
        raw.write_labels(case_id, np.array([0, 7, 9], np.uint8)[VALUES])
    report = fix(raw.folder)
    assert told(report) == []
    assert [(change.case_id, change.file) for change in report.unfixed] == [
        (case_id, f"labelsTr/{case_id}.mha") for case_id in "bc"
    ]
    assert all(" 7, 9 " in change.what for change in report.unfixed)
    assert contents(report.copy) == contents(raw.folder)


def test_a_declared_value_never_takes_anothers_meaning(raw, fix) -> None:
    for case_id in raw.case_ids:
        raw.write_labels(case_id, np.array([0, 2, 3], np.uint8)[VALUES])
    (problem, *_) = check(raw.folder).errors
    assert " 2 -> 1, 3 -> 2" in problem.remedy
    report = fix(raw.folder)
    assert told(report) == []
    assert [(change.case_id, change.file) for change in report.unfixed] == [
        (case_id, f"labelsTr/{case_id}.mha") for case_id in "abc"
    ]
    assert all(" label 3 " in change.what for change in report.unfixed)


def test_values_that_keep_others_from_being_renumbered_are_named(raw, fix) -> None:
    raw.describe(labels={"background": 0, "one": 1, "two": 2, "ignore": 255})
    raw.write_labels("b", np.array([0, 7, 255], np.uint8)[VALUES])
    with pytest.raises(DatasetError, match=r"labelsTr: .* 0, 1, 2, 255.* 7 in b\."):
        fix(raw.folder)


def test_test_labels_are_renumbered_too(raw, fix) -> None:
    for folder in ("images", "labels"):
        shutil.copytree(raw.folder / f"{folder}Tr", raw.folder / f"{folder}Ts")
    for case_id in raw.case_ids:
        raw.write_labels(case_id, np.array([0, 10, 20], np.uint8)[VALUES])
    tests = raw.folder / "labelsTs"
    shutil.copyfile(raw.labels("a"), tests / "a.mha")
    sitk.WriteImage(sitk.ReadImage(str(tests / "b.mha")) + 5, str(tests / "b.mha"))
    (tests / "c.mha").unlink()
    shutil.copyfile(raw.folder / "imagesTs" / "a_0000.mha", raw.folder / "imagesTs" / "d_0000.mha")
    report = fix(raw.folder)
    fixed = sitk.GetArrayFromImage(sitk.ReadImage(str(report.copy / "labelsTs" / "a.mha")))
    np.testing.assert_array_equal(fixed, VALUES)
    assert [change.text for change in report.unfixed] == [
        "case b, labelsTs/b.mha: nothing says which declared label 5, 6, 7 should be."
    ]
    assert (report.copy / "labelsTs" / "b.mha").read_bytes() == (tests / "b.mha").read_bytes()
    assert contents(report.copy / "imagesTs") == contents(raw.folder / "imagesTs")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (VALUES.astype(np.float64), "stored as whole numbers instead of floating-point numbers"),
        (VALUES * np.float32(1 + 1e-5), "values that were whole but for rounding were made whole"),
    ],
)
def test_whole_numbers_stored_as_floats_become_integers(raw, fix, stored: np.ndarray, said: str) -> None:
    raw.write_labels("a", stored)
    report = fix(raw.folder)
    assert told(report) == [f"case a, labelsTr/a.mha: {said}."]
    assert labels_of(report, "a").dtype == np.uint8
    np.testing.assert_array_equal(labels_of(report, "a"), VALUES)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (VALUES + 0.5, " 0.5, 1.5, 2.5 "),
        (
            np.where(VALUES == 2, np.nan, VALUES),
            "40 voxels ",
        ),
        (
            np.where(VALUES == 1, np.inf, VALUES),
            "40 voxels ",
        ),
    ],
)
def test_label_maps_of_no_labels_are_left(raw, fix, stored: np.ndarray, said: str) -> None:
    raw.write_labels("a", stored.astype(np.float32))
    report = fix(raw.folder)
    assert told(report) == []
    (change,) = report.unfixed
    assert (change.case_id, change.file) == ("a", "labelsTr/a.mha")
    assert said in change.what
    assert contents(report.copy) == contents(raw.folder)


def test_label_maps_are_brought_onto_their_images_grid(raw, fix) -> None:
    raw.write_labels("a", VALUES.astype(np.uint8), spacing=(1.0, 1.0, 1.0))
    coarse = np.repeat(np.repeat(VALUES[:2], 2, 1), 2, 2).astype(np.uint8)
    raw.write_labels("b", coarse, spacing=(0.5, 0.5, 6.0), origin=(-0.25, -0.25, 1.5))
    raw.write_labels("c", np.ones((4, 6, 9), np.uint8), origin=(300.0, 0.0, 0.0))
    report = fix(raw.folder)
    assert [change.case_id for change in report.changes] == ["a", "b"]
    assert re.search("spacing 1 x 1 x 1 mm .* 3 x 1 x 1", told(report)[0])
    assert re.search(r"\(2, 12, 10\).*\(4, 6, 5\)", told(report)[1])
    assert [change.case_id for change in report.unfixed] == ["c"]
    np.testing.assert_array_equal(labels_of(report, "b"), np.repeat(VALUES[:2], 2, 0))
    problems = {problem.case_id for problem in check(report.copy).errors if problem.case_id}
    assert problems == {"c"}


def test_voxels_that_are_no_numbers_get_the_least_value(raw, fix) -> None:
    voxels = np.random.default_rng(5).normal(size=(4, 6, 5)).astype(np.float32)
    voxels[0, 0, 0], voxels[1, 2, 3], voxels[3, 3, 3] = np.nan, np.inf, -np.inf
    raw.write_image("a", 1, voxels, spacing=(1.0, 1.0, 3.0))
    raw.write_image("b", 0, np.full((4, 6, 5), np.nan))
    report = fix(raw.folder)
    least = voxels[np.isfinite(voxels)].min()
    (said,) = told(report)
    assert re.match(rf"case a, imagesTr/a_0001\.mha: 3 voxels .* {least:g}\.", said)
    assert [(change.case_id, change.file) for change in report.unfixed] == [("b", "imagesTr/b_0000.mha")]
    fixed = sitk.ReadImage(str(report.copy / "imagesTr" / "a_0001.mha"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(fixed), np.where(np.isfinite(voxels), voxels, least))
    assert fixed.GetSpacing() == (1.0, 1.0, 3.0)
    assert {problem.case_id for problem in check(report.copy).errors} == {"b"}


def test_cases_that_are_there_twice_or_lack_a_file_are_left_out(raw, fix) -> None:
    raw.write_labels("a", VALUES.astype(np.float32))
    for source in (raw.image("a", 0), raw.image("a", 1), raw.labels("a")):
        shutil.copyfile(source, source.with_name(source.name.replace("a", "d", 1)))
    shutil.copyfile(raw.image("b", 0), raw.image("e", 0))
    shutil.copyfile(raw.image("b", 0), raw.folder / "imagesTr" / "wrong.mha")
    shutil.copyfile(raw.labels("b"), raw.labels("f"))
    splits = [{"train": ["a", "b", "d"], "val": ["c", "f"]}]
    (raw.folder / "splits_final.json").write_text(json.dumps(splits))
    report = fix(raw.folder)
    left_out = [(change.case_id, change.file) for change in report.changes if change.what.startswith("left out: ")]
    assert left_out == [
        (None, "imagesTr/wrong.mha"),
        ("d", None),
        ("e", "imagesTr"),
        ("f", "labelsTr/f.mha"),
    ]
    stored, left = (change for change in report.changes if change.case_id in ("a", "d"))
    assert (stored.case_id, stored.file) == ("a", "labelsTr/a.mha")
    assert left.what.endswith(" case a")
    (folds,) = [change.what for change in report.changes if change.file == "splits_final.json"]
    assert folds.endswith(" d, f")
    assert json.loads((report.copy / "splits_final.json").read_text()) == [{"train": ["a", "b"], "val": ["c"]}]
    assert sorted(path.name for path in (report.copy / "labelsTr").iterdir()) == ["a.mha", "b.mha", "c.mha"]
    assert report.num_cases == 3
    assert check(report.copy).ok


def test_a_fold_of_copies_has_the_cases_that_they_were_copies_of(raw, fix) -> None:
    for source in (raw.image("a", 0), raw.image("a", 1), raw.labels("a")):
        for name in "de":
            shutil.copyfile(source, source.with_name(source.name.replace("a", name, 1)))
    splits = [
        {"train": ["d"], "val": ["b"]},
        {"train": ["b", "d", "e"], "val": ["c"]},
        {"train": ["b", "d"], "val": ["a", "e"]},
        {"train": ["d"], "val": ["a"]},
        {"train": ["d", "b"], "val": ["e"]},
    ]
    (raw.folder / "splits_final.json").write_text(json.dumps(splits))
    report = fix(raw.folder)
    assert json.loads((report.copy / "splits_final.json").read_text()) == [
        {"train": ["a"], "val": ["b"]},
        {"train": ["b", "a"], "val": ["c"]},
        {"train": ["b"], "val": ["a"]},
        *splits[3:],
    ]
    assert [re.findall(r"^splits_final\.json: (fold \d), key '(\w+)'", change.text) for change in report.unfixed] == [
        [("fold 3", "train")],
        [("fold 4", "val")],
    ]


def test_a_fixed_fold_passes_the_check(raw, fix) -> None:
    for source in (raw.image("a", 0), raw.image("a", 1), raw.labels("a")):
        shutil.copyfile(source, source.with_name(source.name.replace("a", "d", 1)))
    (raw.folder / "splits_final.json").write_text(json.dumps([{"train": ["d"], "val": ["b", "c"]}]))
    report = fix(raw.folder)
    (folds,) = [change.what for change in report.changes if change.file == "splits_final.json"]
    assert re.search(r" d\b.* a$", folds)
    assert check(report.copy).ok


@pytest.mark.parametrize("number", [7, "three", None])
def test_the_number_of_cases_is_fixed(raw, fix, number: Any) -> None:
    raw.describe(numTraining=number)
    report = fix(raw.folder)
    assert told(report) == [f"dataset.json: numTraining: {number} -> 3."]
    assert description_of(report) == {**raw.description, "numTraining": 3}


def test_a_damaged_case_is_copied_and_named(raw, fix) -> None:
    whole = raw.image("b", 1).read_bytes()
    raw.image("b", 1).write_bytes(whole[: len(whole) // 2])
    report = fix(raw.folder)
    assert told(report) == []
    assert [(change.case_id, change.file) for change in report.unfixed] == [("b", "imagesTr/b_0001.mha")]
    assert contents(report.copy) == contents(raw.folder)


def test_a_channel_on_another_grid_is_named(raw, fix) -> None:
    raw.write_image("b", 1, np.zeros((4, 6, 4)))
    (change,) = fix(raw.folder).unfixed
    assert change.text.startswith("case b, imagesTr/b_0001.mha: ")
    assert "b_0000.mha" in change.text


def test_a_case_whose_worker_fails_is_copied_and_named(raw, fix, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr("segwright.doctor.case_fix.place_on_image", fail)
    report = fix(raw.folder)
    assert [change.case_id for change in report.unfixed] == ["a", "b", "c"]
    assert contents(report.copy) == contents(raw.folder)


def test_nothing_is_left_of_a_copy_that_was_broken_off(raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    monkeypatch.setattr("segwright.doctor.fix._drop_copies", stop)
    with pytest.raises(KeyboardInterrupt):
        fix_dataset(raw.folder, tmp_path / "fixed")
    assert set(tmp_path.iterdir()) == before


def test_workers_give_the_same_copy(raw, tmp_path: Path) -> None:
    for case_id in raw.case_ids:
        raw.write_labels(case_id, np.array([0, 128, 255], np.uint8)[VALUES])
    one, two = (fix_dataset(raw.folder, tmp_path / f"by{workers}", workers=workers) for workers in (1, 2))
    assert one.changes == two.changes
    assert contents(one.copy) == contents(two.copy)


def test_a_list_of_files_becomes_a_data_set_of_its_own(raw, tmp_path: Path) -> None:
    elsewhere = tmp_path / "scans"
    for folder in ("imagesTr", "labelsTr"):
        shutil.move(raw.folder / folder, elsewhere / folder)
    entry = {
        case_id: {
            "images": [f"$SCANS/imagesTr/{case_id}_{channel:04d}.mha" for channel in range(2)],
            "label": f"$SCANS/labelsTr/{case_id}.mha",
        }
        for case_id in ("a", "b", "c")
    }
    raw.describe(dataset={**entry, "../c": entry["c"]})
    with pytest.raises(DatasetError, match=r"key 'dataset'.*\.\./c"):
        fix_dataset(raw.folder, tmp_path / "fixed", environ={"SCANS": str(elsewhere)})
    assert not (tmp_path / "fixed").exists()
    raw.describe(dataset=entry)
    report = fix_dataset(raw.folder, tmp_path / "fixed", environ={"SCANS": str(elsewhere)})
    assert "dataset" not in description_of(report)
    assert sorted(path.name for path in (report.copy / "imagesTr").iterdir()) == [
        f"{case_id}_{channel:04d}.mha" for case_id in "abc" for channel in range(2)
    ]
    assert check(report.copy).ok


def test_a_listed_case_of_too_few_channels_is_left_out_at_once(raw, tmp_path: Path) -> None:
    entry = {
        case_id: {
            "images": [f"imagesTr/{case_id}_{channel:04d}.mha" for channel in range(1 if case_id == "a" else 2)],
            "label": f"labelsTr/{case_id}.mha",
        }
        for case_id in raw.case_ids
    }
    raw.describe(dataset=entry)
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert [change.file for change in report.changes if change.case_id == "a"] == ["dataset.json"]
    again = fix_dataset(report.copy, tmp_path / "again")
    assert (again.changes, again.unfixed, again.num_cases) == ((), (), 2)


def test_a_listed_file_of_four_dimensions_stands_for_all_channels(raw, tmp_path: Path) -> None:
    entry = {}
    for case_id in raw.case_ids:
        channels = [sitk.ReadImage(str(raw.image(case_id, channel))) for channel in range(2)]
        sitk.WriteImage(sitk.JoinSeries(channels), str(raw.folder / f"{case_id}.mha"))
        entry[case_id] = {"images": [f"{case_id}.mha"], "label": f"labelsTr/{case_id}.mha"}
    raw.describe(dataset=entry)
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert (report.num_cases, report.unfixed) == (3, ())
    assert check(report.copy).ok


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("Dataset007_Test", "Dataset007_Test"),
        ("Dataset007_Test/imagesTr/../", "Dataset007_Test"),
        ("Dataset007_Test/fixed", "Dataset007_Test/fixed"),
        (".", ""),
        ("full", "full"),
        ("file", "file"),
        ("file/below/it", "file/below/it"),
        ("M\udcfcller", "UTF-8"),
    ],
)
def test_a_folder_in_use_is_refused(raw, tmp_path: Path, output: str, said: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    before = contents(tmp_path)
    with pytest.raises(SettingsError, match=rf"--fix .*{said}"):
        fix_dataset(raw.folder, tmp_path / output)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_told_by_its_name(raw, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    before = set(tmp_path.iterdir())
    for output in (tmp_path / ("x" * 300), tmp_path / "loop", Path("/proc/segwright")):
        with pytest.raises(WriteError, match=rf"{output}: "):
            fix_dataset(raw.folder, output)
    assert set(tmp_path.iterdir()) == before


def test_an_empty_folder_is_taken(raw, tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir()
    assert fix_dataset(raw.folder, tmp_path / "fixed").num_cases == 3


def test_a_link_to_an_empty_folder_is_taken(raw, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "fixed").symlink_to(tmp_path / "disk")
    assert fix_dataset(raw.folder, tmp_path / "fixed").num_cases == 3
    assert contents(tmp_path / "disk") == contents(raw.folder)


def test_folders_that_are_links_are_copied(raw, tmp_path: Path) -> None:
    for folder in ("imagesTr", "imagesTs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text(folder)
    for path in (raw.folder / "imagesTr").iterdir():
        shutil.move(path, tmp_path / "imagesTr" / path.name)
    (raw.folder / "imagesTr").rmdir()
    for folder in ("imagesTr", "imagesTs"):
        (raw.folder / folder).symlink_to(tmp_path / folder)
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert (report.changes, report.unfixed) == ((), ())
    assert (report.copy / "imagesTs" / "notes.txt").read_text() == "imagesTs"
    assert contents(report.copy / "imagesTr") == contents(tmp_path / "imagesTr")


def test_a_case_whose_file_cannot_be_read_is_left_out(raw, tmp_path: Path) -> None:
    raw.labels("b").unlink()
    raw.labels("b").symlink_to(tmp_path / "gone.mha")
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert told(report) == [
        "dataset.json: numTraining: 3 -> 2.",
        "case b: left out: expected files that can be read, got labelsTr/b.mha.",
    ]
    assert check(report.copy).ok


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_left_out_instead_of_read_for_ever(raw, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        shutil.copytree(raw.folder / f"{folder}Tr", raw.folder / f"{folder}Ts")
    for path in (raw.image("b", 1), raw.folder / "imagesTs" / "b_0001.mha"):
        path.unlink()
        os.mkfifo(path)
    for path in (raw.labels("c"), raw.folder / "imagesTs" / "c_0000.mha"):
        path.unlink()
        path.symlink_to("/dev/zero")
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert told(report)[1:] == [
        "case b: left out: expected files that can be read, got imagesTr/b_0001.mha.",
        "case c: left out: expected files that can be read, got labelsTr/c.mha.",
    ]
    assert sorted(path.name for path in (report.copy / "imagesTr").iterdir()) == ["a_0000.mha", "a_0001.mha"]
    assert not (report.copy / "imagesTs" / "b_0001.mha").exists()


def rename(path: Path, name: bytes) -> Path:
    """Give a file a name of any bytes, if the disk takes it."""
    new = path.with_name(os.fsdecode(name))
    try:
        return path.rename(new)
    except OSError as error:
        pytest.skip(f"needs a disk that takes any name: {error}")


def test_a_case_whose_name_is_not_utf8_is_left_out_and_does_not_stop_the_others(raw, tmp_path: Path) -> None:
    for channel in range(2):
        rename(raw.image("c", channel), b"M\xfcller_%04d.mha" % channel)
    rename(raw.labels("c"), b"M\xfcller.mha")
    raw.write_labels("a", VALUES.astype(np.float32))
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert {change.case_id for change in report.changes} == {None, "a", "M\udcfcller"}
    assert report.unfixed == ()
    assert {problem.case_id for problem in check(raw.folder).errors} == {None, "M\udcfcller"}
    assert check(report.copy).errors == ()


def test_a_link_to_itself_is_told_of_its_case_alone(raw, tmp_path: Path) -> None:
    path = raw.image("b", 1)
    path.unlink()
    path.symlink_to(path.name)
    (problem,) = [problem for problem in check(raw.folder).errors if problem.kind == "unreadable"]
    assert (problem.case_id, problem.file) == ("b", "imagesTr/b_0001.mha")
    assert "link" in problem.what
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert [(change.case_id, "imagesTr/b_0001.mha" in change.what) for change in report.changes[1:]] == [("b", True)]


def test_another_file_that_cannot_be_read_is_told_as_such(raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw.folder / "notes.txt").touch()
    opened = Path.open

    def refuse(path: Path, *words: Any, **options: Any) -> Any:
        if path.name == "notes.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *words, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DatasetError, match=r"notes\.txt: .*Permission denied"):
        fix_dataset(raw.folder, tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_a_folder_that_cannot_be_looked_into_is_told(raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "shut", ".hidden/shut"):
        (raw.folder / "notes" / name).mkdir(parents=True)
        (raw.folder / "notes" / name / "readme.txt").touch()
    listed = os.scandir

    def refuse(path: Any = ".") -> Any:
        if str(path).endswith("shut"):  # a number where a folder is removed
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = fix_dataset(raw.folder, tmp_path / "fixed")
    assert [(change.file, "Permission denied" in change.what) for change in report.changes] == [("notes/shut", True)]
    assert [path.name for path in (report.copy / "notes").iterdir()] == ["open"]


def test_what_leaves_nothing_to_copy_is_told(raw, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        fix_dataset(tmp_path / "none", tmp_path / "fixed")
    raw.describe(channel_names={"0": "T1", "1": "T2", "2": "FLAIR"})
    with pytest.raises(DatasetError, match=r"case a, .*a_0002\.mha"):
        fix_dataset(raw.folder, tmp_path / "fixed")
    raw.describe(labels={"one": 1})
    with pytest.raises(DatasetError, match="background"):
        fix_dataset(raw.folder, tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def make_nifti(folder: Path, ending: str, **keys: Any) -> Path:
    """Two cases of random voxels with a text in their header, and label maps of 0 and 1."""
    rng = np.random.default_rng(0)
    affine = np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 40], [0, 0, 3, -50], [0, 0, 0, 1]])
    for case_id in "ab":
        for name, voxels in (
            (f"imagesTr/{case_id}_0000", rng.integers(-500, 500, (5, 6, 4)).astype(np.float32)),
            (f"labelsTr/{case_id}", rng.integers(0, 2, (5, 6, 4)).astype(np.uint8)),
        ):
            path = folder / f"{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(voxels, affine)
            image.header["descrip"] = b"made by a test"
            nibabel.save(image, path)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "one": 1},
        "numTraining": 2,
        "file_ending": ending,
        **keys,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine, image.header), path)


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_a_nifti_image_keeps_its_header(tmp_path: Path, fix, reader: str) -> None:
    folder = make_nifti(tmp_path / "raw", ".nii.gz", overwrite_image_reader_writer=reader)
    path = folder / "imagesTr" / "a_0000.nii.gz"

    def damage(voxels: np.ndarray) -> np.ndarray:
        return np.where(voxels > 400, np.nan, voxels).astype(np.float32)

    rewrite(path, damage)
    rewrite(folder / "labelsTr" / "b.nii.gz", lambda voxels: (voxels * 255).astype(np.uint8))
    rewrite(folder / "labelsTr" / "a.nii.gz", lambda voxels: (voxels * 255).astype(np.uint8))
    report = fix(folder)
    assert report.unfixed == ()
    before, after = nibabel.load(path), nibabel.load(report.copy / "imagesTr" / "a_0000.nii.gz")
    voxels = np.asanyarray(before.dataobj)
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.where(np.isnan(voxels), np.nanmin(voxels), voxels))
    assert after.header == before.header
    before, after = (nibabel.load(root / "labelsTr" / "b.nii.gz") for root in (folder, report.copy))
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj) // 255)
    np.testing.assert_allclose(after.affine, before.affine)
    assert check(report.copy).ok


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_fourth_dimension_of_size_1_is_taken_away(tmp_path: Path, fix, ending: str) -> None:
    folder = make_nifti(tmp_path / "raw", ending, overwrite_image_reader_writer="NibabelIO")
    for path in (folder / "imagesTr" / f"a_0000{ending}", folder / "labelsTr" / f"b{ending}"):
        rewrite(path, lambda voxels: voxels[..., None])
    report = fix(folder)
    assert told(report) == [
        f"case a, imagesTr/a_0000{ending}: the fourth dimension, of size 1, was removed.",
        f"case b, labelsTr/b{ending}: the fourth dimension, of size 1, was removed.",
    ]
    for name in (f"imagesTr/a_0000{ending}", f"labelsTr/b{ending}"):
        before, after = nibabel.load(folder / name), nibabel.load(report.copy / name)
        np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj)[..., 0])
        np.testing.assert_allclose(after.affine, before.affine)
    assert check(report.copy).ok


def test_a_mirrored_label_map_is_stored_as_its_image(tmp_path: Path, fix) -> None:
    folder = make_nifti(tmp_path / "raw", ".nii.gz")
    path = folder / "labelsTr" / "a.nii.gz"
    image = nibabel.load(path)
    voxels = np.asanyarray(image.dataobj)
    nibabel.save(image.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])), path)
    report = fix(folder)
    assert [change.case_id for change in report.changes] == ["a"]
    fixed = nibabel.load(report.copy / "labelsTr" / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(fixed.dataobj), voxels)
    np.testing.assert_allclose(fixed.affine, image.affine)
    assert check(report.copy).problems == check(make_nifti(tmp_path / "sound", ".nii.gz")).problems


def test_a_label_map_gets_its_images_header_even_where_the_fields_of_that_disagree(tmp_path: Path, fix) -> None:
    folder = make_nifti(tmp_path / "raw", ".nii")
    path = folder / "imagesTr" / "a_0000.nii"
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 88, 5.0)  # the spacing of the third axis, where the affine says 3 mm
    path.write_bytes(content)
    report = fix(folder)
    assert [change.case_id for change in report.changes] == ["a"]
    written = (report.copy / "labelsTr" / "a.nii").read_bytes()
    assert written[76:108] == content[76:108]
    assert written[252:328] == content[252:328]
    assert report.unfixed == ()


def test_coloured_label_pictures_become_grey(picture_folder, tmp_path: Path) -> None:
    folder = picture_folder(
        {
            "channel_names": {"0": "R", "1": "G", "2": "B"},
            "labels": {"background": 0, "one": 1},
            "numTraining": 2,
            "file_ending": ".png",
        }
    )
    wanted = imageio.imread(folder / "labelsTr" / "p.png")
    imageio.imwrite(folder / "labelsTr" / "p.png", np.stack([wanted * 255] * 3, axis=-1))
    imageio.imwrite(folder / "labelsTr" / "q.png", wanted * 255)
    imageio.imwrite(folder / "imagesTr" / "q_0000.png", np.full((8, 9, 3), 9, np.uint8))
    report = fix_dataset(folder, tmp_path / "fixed")
    assert told(report) == [
        "case p, labelsTr/p.png: red, green and blue, which were the same, were made one grey channel.",
        "case p, labelsTr/p.png: label values: 255 -> 1.",
        "case q, labelsTr/q.png: label values: 255 -> 1.",
    ]
    np.testing.assert_array_equal(imageio.imread(report.copy / "labelsTr" / "p.png"), wanted)
    assert check(report.copy).ok


def test_tiff_stacks_keep_their_spacing(tmp_path: Path, fix) -> None:
    folder = tmp_path / "raw"
    write = reader_named("Tiff3DIO").write_labels
    for case_id in "ab":
        (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
        spacing = {"spacing": [3.0, 0.5, 0.5]}
        write(np.concatenate([VALUES, VALUES]) + ord(case_id), folder / "imagesTr" / f"{case_id}_0000.tif", spacing)
        (folder / "imagesTr" / f"{case_id}_0000.json").rename(folder / "imagesTr" / f"{case_id}.json")
        (folder / "labelsTr").mkdir(exist_ok=True)
        write(np.concatenate([VALUES, VALUES]) * 10, folder / "labelsTr" / f"{case_id}.tif", {"spacing": [1, 1, 1]})
    description = {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "one": 1, "two": 2},
        "numTraining": 2,
        "file_ending": ".tif",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    report = fix(folder)
    assert report.unfixed == ()
    assert json.loads((report.copy / "labelsTr" / "a.json").read_text()) == {"spacing": [3.0, 0.5, 0.5]}
    assert json.loads((report.copy / "imagesTr" / "a.json").read_text()) == {"spacing": [3.0, 0.5, 0.5]}
    assert check(report.copy).ok
