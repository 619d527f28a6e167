"""Each verb does its step, says what it did, and does not do it twice."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tiny_datasets import TRAIN, case_ids, make_3d

NAME = "Dataset001_Balls"


def json_of(outcome) -> object:
    """The answer for a program, which is all of stdout."""
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out, parse_constant=pytest.fail)


def test_check_of_a_sound_data_set(segwright, raw: Path, tmp_path: Path) -> None:
    outcome = segwright("check", raw, "--workers", 1)
    assert outcome.code == 0
    assert "6 cases" in outcome.out
    answer = json_of(segwright("check", 1, "--workspace", tmp_path, "--json", "--workers", 1))
    assert answer["ok"] is True
    assert answer["num_cases"] == 6


@pytest.mark.parametrize("wanted", ["1", "001", NAME, "Balls"])
def test_data_sets_go_by_id_and_by_name(segwright, trained: Path, wanted: str) -> None:
    assert NAME in segwright("check", wanted, "--workspace", trained, "--workers", 1).out


def test_nnunet_variables_and_the_current_folder_are_the_workspace(segwright, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink(trained, tmp_path / "segwright")
    assert segwright("explain", 1, "-c", "2d").code == 0
    for root in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{root}", str(tmp_path / "nnunet" / root))
    assert segwright("explain", 1, "-c", "2d").code == 2
    make_3d(tmp_path / "nnunet" / "raw" / "Dataset005_Other")
    assert "Dataset005_Other" in segwright("check", 5, "--workers", 1).out
    assert segwright("explain", 1, "-c", "2d", "--workspace", trained).code == 0


def test_plan_writes_nnunets_files_and_keeps_hand_made_configurations(segwright, workspace: Path) -> None:
    folder = workspace / "preprocessed" / NAME
    path = folder / "nnUNetPlans.json"
    first = json.loads(path.read_text())
    assert (folder / "dataset_fingerprint.json").is_file()
    assert (folder / "dataset.json").is_file()
    first["configurations"]["3d_mine"] = {"inherits_from": "3d_fullres", "batch_size": 3}
    first["configurations"]["3d_fullres"]["batch_size"] = 77
    path.write_text(json.dumps(first))
    measured_at = (folder / "dataset_fingerprint.json").stat().st_mtime_ns
    outcome = segwright("plan", 1, "--workspace", workspace, "--workers", 1)
    assert outcome.code == 0
    assert "3d_mine" in outcome.out
    again = json.loads(path.read_text())["configurations"]
    assert again["3d_mine"] == {"inherits_from": "3d_fullres", "batch_size": 3}
    assert again["3d_fullres"]["batch_size"] == 2
    assert (folder / "dataset_fingerprint.json").stat().st_mtime_ns == measured_at
    assert segwright("plan", 1, "--workspace", workspace, "--workers", 1, "--clean").code == 0
    assert (folder / "dataset_fingerprint.json").stat().st_mtime_ns > measured_at


def test_a_changed_case_is_checked_and_measured_again(segwright, workspace: Path) -> None:
    image = workspace / "raw" / NAME / "imagesTr" / "ballTr_000_0000.nii.gz"
    fingerprint = workspace / "preprocessed" / NAME / "dataset_fingerprint.json"
    before = fingerprint.read_text()
    shutil.copyfile(image.with_name("ballTr_001_0000.nii.gz"), image)
    outcome = segwright("plan", 1, "--workspace", workspace, "--workers", 1)
    assert outcome.code == 0
    assert "6 cases" in outcome.err
    assert fingerprint.read_text() != before


def test_a_case_replaced_by_an_older_file_is_measured_again(segwright, workspace: Path) -> None:
    image = workspace / "raw" / NAME / "imagesTr" / "ballTr_000_0000.nii.gz"
    fingerprint = workspace / "preprocessed" / NAME / "dataset_fingerprint.json"
    assert segwright("plan", 1, "--workspace", workspace, "--workers", 1, "--clean").code == 0
    before = fingerprint.read_text()
    shutil.copyfile(image.with_name("ballTr_001_0000.nii.gz"), image)
    os.utime(image, (1, 1))
    assert segwright("plan", 1, "--workspace", workspace, "--workers", 1).code == 0
    assert fingerprint.read_text() != before


def test_another_reader_measures_again(segwright, workspace: Path) -> None:
    path = workspace / "raw" / NAME / "dataset.json"
    fingerprint = workspace / "preprocessed" / NAME / "dataset_fingerprint.json"
    words = ("plan", 1, "--workspace", workspace, "--workers", 1)
    assert segwright(*words, "--clean").code == 0
    measured_at = fingerprint.stat().st_mtime_ns
    assert segwright(*words).code == 0
    assert fingerprint.stat().st_mtime_ns == measured_at
    path.write_text(json.dumps({**json.loads(path.read_text()), "overwrite_image_reader_writer": "NibabelIO"}))
    assert segwright(*words).code == 0
    assert fingerprint.stat().st_mtime_ns > measured_at


@pytest.mark.parametrize("name", ["../../mine", "a/b", "", ".hidden"])
def test_a_plans_name_that_leads_elsewhere_is_refused(segwright, workspace: Path, name: str) -> None:
    outcome = segwright("plan", 1, "--workspace", workspace, "--workers", 1, "--plans-name", name)
    assert outcome.code == 2
    assert "--plans-name" in outcome.err


def test_plan_options(segwright, workspace: Path) -> None:
    words = ("plan", 1, "--workspace", workspace, "--workers", 1, "--json")
    plans = json_of(segwright(*words, "--planner", "nnUNetPlannerResEncM", "--plans-name", "Mine"))
    assert plans["plans_name"] == "Mine"
    assert plans["experiment_planner_used"] == "nnUNetPlannerResEncM"
    assert (workspace / "preprocessed" / NAME / "Mine.json").is_file()
    plans = json_of(segwright(*words, "--overwrite-target-spacing", "2", "1", "1.5", "--gpu-memory", "4"))
    assert sorted(plans["configurations"]["3d_fullres"]["spacing"]) == [1.0, 1.5, 2.0]


def test_plan_without_images(segwright, trained: Path, tmp_path: Path) -> None:
    folder = trained / "preprocessed" / NAME
    output = tmp_path / "P.json"
    files = ("--fingerprint", folder / "dataset_fingerprint.json", "--dataset-json", folder / "dataset.json")
    assert segwright("plan", *files, "--output", output).code == 0
    assert output.read_text() == (folder / "nnUNetPlans.json").read_text()


def test_explain_says_what_training_would_be(segwright, trained: Path, tmp_path: Path) -> None:
    words = ("explain", 1, "--workspace", trained, "-c", "3d_fullres")
    told = segwright(*words).out
    assert "250,000 iterations" in told
    assert "500,000 patches" in told
    (tmp_path / "mine.py").write_text("from segwright import Trainer\nclass Mine(Trainer):\n    num_epochs = 10\n")
    flags = ("--trainer", f"{tmp_path / 'mine.py'}:Mine", "--iterations-per-epoch", 20, "--batch-size", 4, "--json")
    (answer,) = json_of(segwright(*words, *flags))
    budget = answer["budget"]
    assert budget["settings"]["num_epochs"] == {"value": 10, "source": "trainer class"}
    assert budget["settings"]["num_iterations_per_epoch"] == {"value": 20, "source": "command line"}
    assert budget["settings"]["num_val_iterations_per_epoch"]["source"] == "default"
    assert budget["totals"] == {
        "iterations": 200,
        "samples": 800,
        "training_cases": 4,
        "passes_over_training_cases": 200.0,
    }
    assert len(json_of(segwright("explain", 1, "--workspace", trained, "-c", "2d", "3d_fullres", "--json"))) == 2


def test_preprocess_makes_what_is_asked_for_once(segwright, workspace: Path) -> None:
    folder = workspace / "preprocessed" / NAME
    words = ("preprocess", 1, "--workspace", workspace, "--workers", 1)
    assert re.search(r"\b0 cases .*\b6 ", segwright(*words, "-c", "3d_fullres").err)
    assert not (folder / "nnUNetPlans_2d").exists()
    assert "6 cases" in segwright(*words, "-c", "2d", "3d_fullres").err
    arrays = {path: path.stat().st_mtime_ns for path in (folder / "nnUNetPlans_2d").glob("*.b2nd")}
    assert len(arrays) == 2 * 6
    assert segwright(*words).code == 0
    assert {path: path.stat().st_mtime_ns for path in arrays} == arrays


def test_preprocess_plans_what_has_no_plans_and_nothing_else(segwright, raw: Path, tmp_path: Path) -> None:
    words = ("preprocess", raw, "-c", "3d_fullres", "--workspace", tmp_path, "--workers", 1)
    outcome = segwright(*words)
    assert outcome.code == 0, outcome.err
    assert "3d_fullres" in outcome.out
    assert "6 cases" in outcome.err
    folder = tmp_path / "preprocessed" / NAME
    alone = tmp_path / "alone"
    assert segwright("plan", raw, "--workspace", alone, "--workers", 1).code == 0
    for name in ("nnUNetPlans.json", "dataset_fingerprint.json", "dataset.json"):
        assert (folder / name).read_bytes() == (alone / "preprocessed" / NAME / name).read_bytes()
    assert re.search(r"\b0 cases .*\b6 ", segwright(*words).err)
    (folder / "nnUNetPlans.json").rename(folder / "nnUNetOtherPlans.json")
    outcome = segwright(*words)
    assert outcome.code == 2
    assert "nnUNetOtherPlans" in outcome.err


def test_training_shows_its_budget_and_writes_it(segwright, workspace: Path) -> None:
    words = ("train", 1, "3d_fullres", 1, "--workspace", workspace, *TRAIN, "--epochs", 2, "--lr", 0.001, "--seed", 5)
    outcome = segwright(*words)
    assert outcome.code == 0, outcome.err
    for row in (("num_epochs", "2", "command"), ("batch_size", "2", "plan"), ("initial_lr", "0.001", "command")):
        assert any(line.split()[: len(row)] == list(row) for line in outcome.err.splitlines()), row
    assert "epoch 1: loss" in outcome.err
    assert "Dice" in outcome.out
    fold = workspace / "results" / NAME / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_1"
    settings = json.loads((fold / "settings.json").read_text())
    assert settings["totals"]["iterations"] == 4
    assert (fold / "checkpoint_final.pth").is_file()
    assert (fold / "validation" / "summary.json").is_file()


def test_continue_trains_on(segwright, workspace: Path) -> None:
    words = ("train", 1, "3d_fullres", 0, "--workspace", workspace, *TRAIN, "--continue")
    assert "epoch 0: loss" not in segwright(*words).err
    outcome = segwright(*words, "--epochs", 2)
    assert outcome.code == 0
    assert "checkpoint_final.pth" in outcome.err
    assert "epoch 0: loss" not in outcome.err
    assert "epoch 1: loss" in outcome.err


def test_a_users_own_trainer(segwright, workspace: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from segwright import Trainer\n"
        "class Mine(Trainer):\n"
        "    num_iterations_per_epoch = 1\n"
        "    def __init__(self, plans, configuration, fold, dataset_json, device):\n"
        "        super().__init__(plans, configuration, fold, dataset_json, device)\n"
        "        self.num_epochs = 2\n"
        "        self.num_val_iterations_per_epoch = 1\n"
    )
    place = ("--workspace", workspace, "--trainer", "mine.py:Mine", "--workers", 0, "--device", "cpu")
    outcome = segwright("train", 1, "3d_fullres", "all", *place)
    assert outcome.code == 0, outcome.err
    fold = workspace / "results" / NAME / "Mine__nnUNetPlans__3d_fullres" / "fold_all"
    settings = json.loads((fold / "settings.json").read_text())["settings"]
    assert settings["num_epochs"] == {"value": 2, "source": "trainer class"}
    assert settings["num_iterations_per_epoch"] == {"value": 1, "source": "trainer class"}


def test_predict_and_evaluate(segwright, trained: Path, model: Path, tmp_path: Path) -> None:
    raw, masks = trained / "raw" / NAME, tmp_path / "masks"
    words = ("predict", raw / "imagesTs", masks, "--model", model, "--folds", 0, "--step-size", 0.5, "--device", "cpu")
    # the model was trained without mirroring, so this setting changes nothing
    outcome = segwright(*words, "--no-mirroring")
    assert outcome.code == 0, outcome.err
    assert re.search(r"\b2 cases .*\b0 ", outcome.out)
    made = {path: path.stat().st_mtime_ns for path in masks.glob("*.nii.gz")}
    assert sorted(path.name for path in made) == [f"{case}.nii.gz" for case in case_ids("ballTs", 2)]
    none: dict[str, object] = {"done": [], "skipped": [], "shared": [], "foreign": [], "remade": {}, "failures": {}}
    assert json_of(segwright(*words, "--json")) == none | {"skipped": case_ids("ballTs", 2)}
    assert {path: path.stat().st_mtime_ns for path in made} == made
    answer = json_of(segwright(*words[:-3], 0.75, *words[-2:], "--json"))
    assert answer["remade"] == dict.fromkeys(case_ids("ballTs", 2), "settings")
    assert json_of(segwright(*words, "--json", "--overwrite"))["done"] == case_ids("ballTs", 2)

    outcome = segwright("evaluate", masks, raw / "labelsTs", "--workers", 1)
    assert outcome.code == 0
    assert "shell" in outcome.out
    assert "on 2 cases" in outcome.out
    answer = json_of(segwright("evaluate", masks, raw / "labelsTs", "--workers", 1, "--json"))
    summary = json.loads((masks / "summary.json").read_text())
    assert answer["foreground_mean"]["Dice"] == summary["foreground_mean"]["Dice"]
    assert len(answer["metric_per_case"]) == 2


def test_report_is_one_page(segwright, trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    outcome = segwright("report", 1, "-c", "3d_fullres", "-f", 0, "--workspace", trained, "--output", page)
    assert outcome.code == 0, outcome.err
    text = page.read_text()
    assert NAME in text
    assert "shell" in text
    assert 'src="http' not in text
