from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK

from segwright.dataset import Case, RawDataset, find_cases
from segwright.dataset.cases import expand_variables
from segwright.errors import DatasetError, GeometryError, MissingFileError

if TYPE_CHECKING:
    from raw_folder import RawFolder

RGB = {
    "channel_names": {"0": "R", "1": "G", "2": "B"},
    "labels": {"background": 0, "x": 1},
    "numTraining": 2,
    "file_ending": ".png",
}


def test_a_data_set_is_opened_with_its_cases_in_order(raw: RawFolder) -> None:
    dataset = RawDataset.open(raw.folder)
    assert dataset.name == "Dataset007_Test"
    assert [case.case_id for case in dataset.cases] == ["a", "b", "c"]
    assert dataset.cases[0] == Case("a", (raw.image("a", 0), raw.image("a", 1)), raw.labels("a"))
    reader = dataset.reader()
    assert reader.name == "SimpleITKIO"
    assert dataset.read_image(dataset.cases[0], reader).array.shape == (2, 4, 6, 5)


def test_files_that_are_not_meant_are_passed_over(raw: RawFolder) -> None:
    (raw.folder / "imagesTr" / "notes.txt").write_text("x")
    (raw.folder / "imagesTr" / "._a_0000.mha").write_text("x")
    (raw.folder / "labelsTr" / "a.json").write_text("{}")
    (raw.folder / "imagesTr" / ".segwright-abc").mkdir()
    assert len(RawDataset.open(raw.folder).cases) == 3


def test_ids_with_underscores_digits_and_regex_signs_are_kept(tmp_path: Path) -> None:
    names = ["case_0001_0000.png", "case_0001_0001.png", "x+(1)_0000.png", "x+(1)_0001.png"]
    for name in names:
        (tmp_path / name).write_text("")
    assert [case.case_id for case in find_cases(tmp_path, ".png", 2)] == ["case_0001", "x+(1)"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: raw.image("b", 1).unlink(), r"case b, imagesTr.*2 channels.*b_0001\.mha"),
        (lambda raw: raw.image("b", 0).unlink(), r"case b, imagesTr.*2 channels.*b_0000\.mha"),
        (
            lambda raw: shutil.copy(raw.image("b", 1), raw.image("b", 2)),
            r"case b, imagesTr.*2 channels.*b_0002\.mha",
        ),
        (lambda raw: raw.labels("c").unlink(), r"case c, labelsTr/c\.mha"),
        (
            lambda raw: shutil.copy(raw.labels("c"), raw.labels("d")),
            r"case d, labelsTr/d\.mha.*imagesTr",
        ),
        (
            lambda raw: raw.image("a", 0).rename(raw.image("a", 0).with_name("a.mha")),
            r"imagesTr/a\.mha.*a_0000\.mha",
        ),
        (lambda raw: raw.describe(labels={"background": 0, "x": 255}), r"0, 255\. .* 255 -> 1"),
        (lambda raw: raw.describe(numTraining="3"), r"dataset\.json, key 'numTraining'"),
    ],
)
def test_the_first_problem_is_raised(raw: RawFolder, spoil: Callable[[RawFolder], Any], said: str) -> None:
    spoil(raw)
    with pytest.raises(DatasetError, match=said):
        RawDataset.open(raw.folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda raw: shutil.rmtree(raw.folder),
            "Dataset007_Test",
        ),
        (
            lambda raw: (raw.folder / "dataset.json").unlink(),
            r"dataset\.json",
        ),
        (
            lambda raw: shutil.rmtree(raw.folder / "imagesTr"),
            "imagesTr",
        ),
        (
            lambda raw: shutil.rmtree(raw.folder / "labelsTr"),
            "labelsTr",
        ),
        (
            lambda raw: raw.describe(file_ending=".nii.gz"),
            r"imagesTr.*\.nii\.gz.*6 of \.mha",
        ),
    ],
)
def test_what_is_missing_is_named(raw: RawFolder, spoil: Callable[[RawFolder], Any], said: str) -> None:
    spoil(raw)
    with pytest.raises(MissingFileError, match=said):
        RawDataset.open(raw.folder)


def test_an_empty_input_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=rf"{tmp_path.name}.*\.png"):
        find_cases(tmp_path, ".png", 1)


def test_colour_pictures_hold_all_channels_in_one_file(picture_folder: Callable[..., Path]) -> None:
    dataset = RawDataset.open(picture_folder(RGB))
    image = dataset.read_image(dataset.cases[0], dataset.reader())
    assert image.array.shape == (3, 1, 8, 9)


def test_a_picture_with_other_channels_than_declared_is_refused(picture_folder: Callable[..., Path]) -> None:
    dataset = RawDataset.open(picture_folder(RGB, (8, 9)))
    with pytest.raises(GeometryError, match=r"imagesTr/p_0000\.png.*3 channels.* 1\b"):
        dataset.read_image(dataset.cases[0], dataset.reader())


def test_a_4d_image_holds_all_channels_in_one_file(tmp_path: Path) -> None:
    volumes = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 5), np.float32), isVector=False)
    SimpleITK.WriteImage(volumes, str(tmp_path / "a_0000.nii.gz"))
    (case,) = find_cases(tmp_path, ".nii.gz", 2)
    assert case.image_paths == (tmp_path / "a_0000.nii.gz",)


def test_a_damaged_image_is_no_excuse_for_a_missing_channel(tmp_path: Path) -> None:
    (tmp_path / "a_0000.nii.gz").write_text("rubbish")
    with pytest.raises(DatasetError, match=r"a_0001\.nii\.gz"):
        find_cases(tmp_path, ".nii.gz", 2)


def test_an_explicit_list_of_files_needs_no_folders(raw: RawFolder) -> None:
    elsewhere = raw.folder.parent / "elsewhere"
    shutil.move(raw.folder / "imagesTr", elsewhere)
    raw.describe(
        dataset={
            "second": {"images": ["${DATA}/b_0000.mha", "$DATA/b_0001.mha"], "label": "labelsTr/b.mha"},
            "first": {"images": [str(elsewhere / "a_0000.mha"), "../elsewhere/a_0001.mha"], "label": "labelsTr/a.mha"},
        },
    )
    dataset = RawDataset.open(raw.folder, environ={"DATA": str(elsewhere)})
    assert [case.case_id for case in dataset.cases] == ["second", "first"]
    assert dataset.cases[0].image_paths == (elsewhere / "b_0000.mha", elsewhere / "b_0001.mha")
    assert dataset.read_image(dataset.cases[0], dataset.reader()).array.shape == (2, 4, 6, 5)
    with pytest.raises(DatasetError, match="case second"):
        RawDataset.open(raw.folder)


def test_an_explicit_list_with_a_channel_missing_is_refused(raw: RawFolder) -> None:
    three = {"0": "a", "1": "b", "2": "c"}
    entry = {"images": ["imagesTr/a_0000.mha", "imagesTr/a_0001.mha"], "label": "labelsTr/a.mha"}
    raw.describe(channel_names=three, dataset={"a": entry})
    with pytest.raises(DatasetError, match=r"case a, dataset\.json.*3 images.* 2\b"):
        RawDataset.open(raw.folder)


@pytest.mark.parametrize("case_id", ["../../a", "/a", "a/b", "a\x1b", ""])
def test_a_case_has_an_id_that_names_files(case_id: str) -> None:
    with pytest.raises(DatasetError, match="case id"):
        Case(case_id, (), None)


def test_variables_are_expanded_as_the_standard_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("SEGWRIGHT_TEST", "/data")
    for text in ("$SEGWRIGHT_TEST/a", "${SEGWRIGHT_TEST}b", "$UNSET_x/$", "a$$b", "${UNSET_x}", "plain"):
        assert expand_variables(text, {"SEGWRIGHT_TEST": "/data"}) == os.path.expandvars(text)


def test_an_unreadable_image_is_left_to_its_readers_and_an_unknown_reader_is_told(raw: RawFolder) -> None:
    raw.image("a", 0).write_text("rubbish")
    assert RawDataset.open(raw.folder).reader().name == "SimpleITKIO"
    raw.describe(overwrite_image_reader_writer="MyIO")
    with pytest.raises(DatasetError, match="'MyIO'"):
        RawDataset.open(raw.folder).reader()


@pytest.mark.parametrize("listed", ["x" * 5000, "a\0b", "\ud800", "nothing/there"])
def test_a_listed_path_that_no_system_knows_is_told_as_missing(raw: RawFolder, listed: str) -> None:
    raw.describe(dataset={"a": {"images": [listed, listed], "label": listed}})
    with pytest.raises(DatasetError, match="case a"):
        RawDataset.open(raw.folder)
