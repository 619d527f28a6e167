"""Names in files of others: none leads out of its folder, none acts on the terminal, and none is two cases' at once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tiny_datasets import TRAIN

NAME = "Dataset001_Balls"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def refused(outcome, *named: str) -> None:
    assert outcome.code == 2, outcome  # a bug has 1
    assert all(word in outcome.err + outcome.out for word in named), outcome
    assert not CONTROL.search(outcome.out + outcome.err)


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def describe(raw: Path, **keys: Any) -> None:
    path = raw / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def rename_case(raw: Path, old: str, new: str) -> None:
    for path in [*(raw / "imagesTr").glob(f"{old}_*"), *(raw / "labelsTr").glob(f"{old}.*")]:
        path.rename(path.with_name(path.name.replace(old, new)))


def listed(raw: Path, case_id: str) -> None:
    """Have dataset.json list a case by its files, the first under another id."""
    files = sorted(path.name for path in (raw / "labelsTr").iterdir())
    ids = [case_id, *(name.removesuffix(".nii.gz") for name in files[1:])]
    entries = {
        entry: {"images": [f"imagesTr/{name.replace('.nii.gz', '_0000.nii.gz')}"], "label": f"labelsTr/{name}"}
        for entry, name in zip(ids, files, strict=True)
    }
    describe(raw, dataset=entries)


@pytest.mark.parametrize("case_id", ["{here}/victim", "../../../esc", "a/b", "..", ".a", f"x{ESCAPE}"])
def test_a_case_id_that_leads_elsewhere_is_refused_by_every_verb(
    segwright, raw: Path, tmp_path: Path, case_id: str
) -> None:
    listed(raw, case_id.format(here=tmp_path) if "{" in case_id else case_id)
    (tmp_path / "victim.nii.gz").write_text("not yours")
    before = files_below(tmp_path)
    place = ("--workspace", tmp_path, "--workers", 1)
    for words in (("check", raw), ("check", raw, "--fix", tmp_path / "copy"), ("plan", raw), ("preprocess", raw)):
        refused(segwright(*words, *place), "'dataset'")
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("identifier", ["../../../mine", "{here}/mine"])
def test_a_foreign_plan_deletes_and_writes_nothing_elsewhere(segwright, workspace: Path, identifier: str) -> None:
    mine = workspace.parent / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    path = workspace / "preprocessed" / NAME / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_fullres"]["data_identifier"] = identifier.format(here=workspace.parent)
    path.write_text(json.dumps(plans))
    before = files_below(workspace.parent)
    for words in (("preprocess",), ("preprocess", "--overwrite")):
        refused(
            segwright(words[0], 1, "-c", "3d_fullres", *words[1:], "--workspace", workspace, "--workers", 1),
            "data_identifier",
        )
    refused(segwright("train", 1, "3d_fullres", 0, "--workspace", workspace, "--device", "cpu"), "data_identifier")
    assert files_below(workspace.parent) == before


@pytest.mark.parametrize("name", ["../nnUNetPlans", "/nnUNetPlans", ".", "", ESCAPE, "x" * 5000])
def test_a_plans_name_that_leads_elsewhere_is_refused(segwright, trained: Path, name: str) -> None:
    place = ("--workspace", trained, "--plans", name)
    for words in (("train", 1, "3d_fullres", 0), ("preprocess", 1), ("explain", 1), ("report", 1)):
        refused(segwright(*words, *place), "--plans")


@pytest.mark.parametrize("name", ["dataset", "Splits_Final", "dataset_fingerprint"])
def test_a_plan_takes_the_place_of_no_other_file(segwright, workspace: Path, name: str) -> None:
    before = files_below(workspace)
    refused(segwright("plan", 1, "--workspace", workspace, "--workers", 1, "--plans-name", name), "--plans-name")
    assert files_below(workspace) == before


@pytest.mark.parametrize("name", ["../fold_0/checkpoint_final.pth", "/etc/passwd", "x" * 5000, f"{ESCAPE}.pth"])
def test_a_checkpoint_elsewhere_is_refused(segwright, model: Path, raw: Path, tmp_path: Path, name: str) -> None:
    place = (raw / "imagesTs", tmp_path / "out", "--model", model, "--device", "cpu")
    refused(segwright("predict", *place, "--checkpoint", name), "checkpoint")
    refused(segwright("predict", *place, "--folds", "9" * 5000), "FOLD")


def test_a_data_set_whose_folder_has_no_name_for_files_is_refused(segwright, raw: Path, tmp_path: Path) -> None:
    for name in (".hidden", f"Dataset002_{ESCAPE}"):
        folder = Path(shutil.copytree(raw, tmp_path / name))
        refused(segwright("plan", folder, "--workspace", tmp_path / "w", "--workers", 1), "data set")
    assert not (tmp_path / "w").exists()


def test_a_path_that_no_disk_takes_is_no_bug(segwright, model: Path, tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for path in ("x" * 5000, circle):
        refused(segwright("check", path))
        refused(segwright("train", path, "3d_fullres", 0))
        refused(segwright("predict", path, tmp_path / "out", "--model", model, "--device", "cpu"))
        refused(segwright("predict", tmp_path, tmp_path / "out", "--model", path, "--device", "cpu"))
        refused(segwright("evaluate", path, path))


def test_control_characters_of_files_names_and_contents_do_not_reach_the_terminal(
    segwright, raw: Path, model: Path, tmp_path: Path
) -> None:
    rename_case(raw, "ballTr_000", f"ball{ESCAPE}")
    path = next((raw / "imagesTs").glob("ballTs_000_*"))
    path.rename(path.with_name(f"ball{ESCAPE}_0000.nii.gz"))
    refused(segwright("check", raw, "--workers", 1), "imagesTr/ball\\x1b")
    answer = segwright("check", raw, "--workers", 1, "--json")
    assert not CONTROL.search(answer.out)
    assert f"ball{ESCAPE}" in {problem["case_id"] for problem in json.loads(answer.out)["problems"]}
    outcome = segwright("predict", raw / "imagesTs", tmp_path / "out", "--model", model, "--device", "cpu")
    assert outcome.code == 1
    assert "ball\\x1b" in outcome.err
    assert not CONTROL.search(outcome.out + outcome.err)
    describe(raw, labels={"background": 0, ESCAPE: "one"})
    refused(segwright("check", raw, "--workers", 1), "\\x1b")
    refused(segwright("check", raw, "--workers", 1, "--debug", f"--{ESCAPE}"), "\\x1b")


@pytest.mark.parametrize(
    ("new", "remedy"), [("ballTr_000_seg", "ballTr_000-seg"), ("ballTr_000_0000", "ballTr_000-0000")]
)
def test_cases_that_collide_are_refused_with_the_rename_to_make(
    segwright, raw: Path, tmp_path: Path, new: str, remedy: str
) -> None:
    rename_case(raw, "ballTr_001", new)
    place = ("--workspace", tmp_path, "--workers", 1)
    refused(segwright("check", raw, *place), new, "ballTr_000", remedy)
    refused(segwright("preprocess", raw, *place), new, "ballTr_000", remedy)
    assert not (tmp_path / "preprocessed").exists()
    fixed = tmp_path / "copy"
    outcome = segwright("check", raw, *place, "--fix", fixed)
    assert outcome.code == 0, outcome
    assert sorted(path.name for path in (fixed / "labelsTr").iterdir()) == sorted(
        path.name for path in (raw / "labelsTr").iterdir() if path.name != f"{new}.nii.gz"
    )


def test_a_fix_writes_to_no_image_of_a_list(segwright, raw: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.move(raw / "imagesTr", tmp_path / "elsewhere"))
    entries = {
        name: {"images": [str(elsewhere / f"{name}_0000.nii.gz")], "label": f"labelsTr/{name}.nii.gz"}
        for name in sorted(path.name.removesuffix(".nii.gz") for path in (raw / "labelsTr").iterdir())
    }
    describe(raw, dataset=entries, numTraining=1)
    before = files_below(raw) | files_below(elsewhere)
    segwright("check", raw, "--workspace", tmp_path, "--workers", 1, "--fix", tmp_path / "copy")
    assert len(list((tmp_path / "copy" / "imagesTr").iterdir())) == len(entries)
    assert files_below(raw) | files_below(elsewhere) == before


def test_a_training_writes_through_no_link(segwright, workspace: Path) -> None:
    mine = workspace.parent / "thesis.txt"
    mine.write_text("years of work")
    model = workspace / "results" / NAME / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    words = ("train", 1, "3d_fullres", 1, "--epochs", 1, "--workspace", workspace, *TRAIN)
    (model / "dataset_fingerprint.json").unlink()
    (model / "dataset_fingerprint.json").symlink_to(mine)
    assert segwright(*words).code == 0
    assert not (model / "dataset_fingerprint.json").is_symlink()
    for name in ("fold_1/training_log.jsonl", ".fold_1.lock"):
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(mine)
        refused(segwright(*words, "--continue"))
        (model / name).unlink()
    assert mine.read_text() == "years of work"
