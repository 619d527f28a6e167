from __future__ import annotations

import re
from pathlib import Path

import pytest

from segwright.dataset import DatasetLocation, Workspace
from segwright.errors import DatasetError, MissingFileError


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace.resolve(tmp_path / "space", {}, tmp_path)
    for folder in (
        found.raw / "Dataset004_Hippocampus",
        found.preprocessed / "Dataset004_Hippocampus",
        found.preprocessed / "Dataset027_ACDC",
        found.results / "Dataset040_Kidney",
        found.results / "Dataset041_Kidney",
        found.raw / ".hidden",
    ):
        folder.mkdir(parents=True)
    for folder in (found.raw, found.preprocessed):
        (folder / "Dataset004_Hippocampus" / "dataset.json").write_text("{}")
    return found


def test_a_workspace_that_was_asked_for_wins_over_everything(tmp_path: Path) -> None:
    workspace = Workspace.resolve(tmp_path / "w", {"nnUNet_raw": "/elsewhere"}, tmp_path)
    assert workspace == Workspace(tmp_path / "w" / "raw", tmp_path / "w" / "preprocessed", tmp_path / "w" / "results")


def test_nnunets_variables_are_honoured_each_for_its_own_root(tmp_path: Path) -> None:
    workspace = Workspace.resolve(None, {"nnUNet_raw": "/r", "nnUNet_results": ""}, tmp_path)
    expected = Workspace(Path("/r"), tmp_path / "segwright" / "preprocessed", tmp_path / "segwright" / "results")
    assert workspace == expected


@pytest.mark.parametrize("wanted", ["4", "04", "004", "Dataset004", "Dataset004_Hippocampus", "Hippocampus"])
def test_a_data_set_is_found_by_id_and_by_name(workspace: Workspace, wanted: str) -> None:
    name = "Dataset004_Hippocampus"
    expected = DatasetLocation(name, workspace.raw / name, workspace.preprocessed / name, workspace.results / name)
    assert workspace.find_dataset(wanted) == expected


@pytest.mark.parametrize(("wanted", "name"), [("27", "Dataset027_ACDC"), ("41", "Dataset041_Kidney")])
def test_preprocessed_data_and_results_are_looked_through_as_well(workspace: Workspace, wanted: str, name: str) -> None:
    assert workspace.find_dataset(wanted).name == name


def test_a_path_outside_the_workspace_is_taken_with_its_folders_name(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "Spleens"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    location = workspace.find_dataset(str(folder))
    assert location == DatasetLocation(
        "Spleens", folder, workspace.preprocessed / "Spleens", workspace.results / "Spleens"
    )


def test_a_relative_path_and_a_dot_get_the_folders_name(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Spleens").mkdir()
    (tmp_path / "Spleens" / "dataset.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert workspace.find_dataset("Spleens").raw == Path("Spleens")
    monkeypatch.chdir(tmp_path / "Spleens")
    assert workspace.find_dataset(".").name == "Spleens"


def test_the_path_of_preprocessed_data_means_its_data_set(workspace: Workspace) -> None:
    location = workspace.find_dataset(str(workspace.preprocessed / "Dataset004_Hippocampus"))
    assert location.raw == workspace.raw / "Dataset004_Hippocampus"


def test_raw_data_below_the_results_are_still_raw(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "raw", tmp_path / "pre", tmp_path)
    folder = workspace.raw / "Dataset001_A"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    assert workspace.find_dataset(str(folder)).raw == folder


def test_none_lists_what_there_is_and_where_it_was_sought(workspace: Workspace) -> None:
    with pytest.raises(MissingFileError) as caught:
        workspace.find_dataset("5")
    text = str(caught.value)
    assert "Dataset004_Hippocampus, Dataset027_ACDC, Dataset040_Kidney, Dataset041_Kidney" in text
    assert all(str(root) in text for root in (workspace.raw, workspace.preprocessed, workspace.results))


def test_an_empty_workspace_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=re.escape(str(tmp_path))):
        Workspace.resolve(tmp_path, {}, tmp_path).find_dataset("4")


def test_several_are_listed(workspace: Workspace) -> None:
    with pytest.raises(DatasetError, match="Dataset040_Kidney, Dataset041_Kidney"):
        workspace.find_dataset("Kidney")
    (workspace.results / "Dataset004_Other").mkdir()
    with pytest.raises(DatasetError, match="Dataset004_Hippocampus, Dataset004_Other"):
        workspace.find_dataset("4")
    assert workspace.find_dataset("Dataset004_Other").name == "Dataset004_Other"


def test_a_path_without_a_data_set_is_not_guessed_from_its_last_part(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="gone/Dataset004_Hippocampus"):
        workspace.find_dataset(str(tmp_path / "gone" / "Dataset004_Hippocampus"))
    with pytest.raises(MissingFileError, match=r"space\b.*dataset\.json"):
        workspace.find_dataset(str(tmp_path / "space"))
