"""Every kind of bad input gets one clear error that names the place, exit code 2, and never a traceback."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from segwright.cli.main import main
from tiny_datasets import TRAIN, write_description, write_volume

CASE = "ballTr_002"
IMAGE, LABELS = f"imagesTr/{CASE}_0000.nii.gz", f"labelsTr/{CASE}.nii.gz"
PLANS = "preprocessed/Dataset001_Balls/nnUNetPlans.json"


def array_of(path: Path) -> Any:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def without_description(raw: Path) -> None:
    (raw / "dataset.json").unlink()


def without_key(raw: Path) -> None:
    description = json.loads((raw / "dataset.json").read_text())
    del description["labels"]
    (raw / "dataset.json").write_text(json.dumps(description))


def with_key_of_wrong_type(raw: Path) -> None:
    write_description(raw, numTraining="six")


def with_broken_json(raw: Path) -> None:
    (raw / "dataset.json").write_text('{"labels": ')


def without_label(raw: Path) -> None:
    (raw / LABELS).unlink()


def without_channel(raw: Path) -> None:
    write_description(raw, channel_names={"0": "T1", "1": "T2"})
    for image in sorted((raw / "imagesTr").iterdir()):
        shutil.copy(image, str(image).replace("_0000", "_0001"))
    (raw / IMAGE.replace("_0000", "_0001")).unlink()


def with_channels_of_different_shapes(raw: Path) -> None:
    without_channel(raw)
    write_volume(raw / IMAGE.replace("_0000", "_0001"), np.zeros((20, 24, 21), np.float32))


def with_labels_of_another_shape(raw: Path) -> None:
    write_volume(raw / LABELS, np.ones((20, 24, 21), np.uint8))


def with_labels_of_another_spacing(raw: Path) -> None:
    write_volume(raw / LABELS, array_of(raw / LABELS), (1.0, 1.0, 2.0))


def with_undeclared_label(raw: Path) -> None:
    label_map = array_of(raw / LABELS)
    label_map[0, 0, 0] = 7
    write_volume(raw / LABELS, label_map)


def with_nan(raw: Path) -> None:
    image = array_of(raw / IMAGE)
    image[3, 4, 5] = np.nan
    write_volume(raw / IMAGE, image)


def unreadable(raw: Path) -> None:
    (raw / IMAGE).write_bytes(b"this is no image")


def truncated(raw: Path) -> None:
    content = gzip.decompress((raw / IMAGE).read_bytes())
    (raw / IMAGE).write_bytes(gzip.compress(content[: len(content) // 2]))


def cut_off(raw: Path) -> None:
    content = (raw / IMAGE).read_bytes()
    (raw / IMAGE).write_bytes(content[: len(content) // 2])


DAMAGES: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (without_description, ("dataset.json",)),
    (without_key, ("dataset.json", "'labels'")),
    (with_key_of_wrong_type, ("dataset.json", "'numTraining'", "'six'")),
    (with_broken_json, ("dataset.json", "JSON")),
    (without_label, (CASE, "label")),
    (without_channel, (CASE, "_0001")),
    (with_channels_of_different_shapes, (CASE, "22", "21")),
    (with_labels_of_another_shape, (CASE, "22", "21")),
    (with_labels_of_another_spacing, (CASE, "2.0")),
    (with_undeclared_label, (CASE, "7")),
    (with_nan, (CASE, "NaN")),
    (unreadable, (CASE,)),
    (truncated, (CASE,)),
    (cut_off, (CASE,)),
]


@pytest.mark.parametrize("verb", ["check", "plan"])
@pytest.mark.parametrize(("damage", "told"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_bad_data(segwright, raw: Path, tmp_path: Path, verb: str, damage, told: tuple[str, ...]) -> None:
    damage(raw)
    outcome = segwright(verb, raw, "--workspace", tmp_path, "--workers", 1)
    text = outcome.err + (outcome.out if verb == "check" else "")
    assert outcome.code == 2, text
    assert all(words in text for words in told), text
    assert "Traceback" not in text
    assert "bug" not in text
    if verb == "plan":
        assert text.count("Error: ") == 1
        assert not list((tmp_path / "preprocessed").rglob("*Plans.json"))


def test_check_tells_every_problem_of_every_case(segwright, raw: Path) -> None:
    with_key_of_wrong_type(raw)
    write_description(raw, numTraining=99)
    with_nan(raw)
    (raw / "labelsTr" / "ballTr_000.nii.gz").unlink()
    (raw / "imagesTr" / "ballTr_001_0000.nii.gz").write_bytes(b"no image")
    label_map = array_of(raw / "labelsTr" / "ballTr_003.nii.gz")
    label_map[0, 0, 0] = 9
    write_volume(raw / "labelsTr" / "ballTr_003.nii.gz", label_map, (1.0, 1.0, 3.0))
    outcome = segwright("check", raw, "--json", "--workers", 1)
    assert outcome.code == 2
    problems = json.loads(outcome.out)["problems"]
    errors = [problem for problem in problems if problem["severity"] == "error"]
    assert {problem["case_id"] for problem in errors} == {None, "ballTr_000", "ballTr_001", CASE, "ballTr_003"}
    assert sum(problem["case_id"] == "ballTr_003" for problem in errors) == 2
    assert all(problem["what"] for problem in problems)


def edit_plan(workspace: Path, **entries: Any) -> None:
    plans = json.loads((workspace / PLANS).read_text())
    plans["configurations"]["3d_fullres"].update(entries)
    (workspace / PLANS).write_text(json.dumps(plans))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"batch_size": 0}, ("'batch_size'", "0")),
        ({"batch_size": "two"}, ("'batch_size'", "two")),
        ({"patch_size": [21, 24, 24]}, ("'patch_size'", "21")),
        ({"spacing": [1.0, 1.0]}, ("'spacing'",)),
        ({"patch_size": None}, ("'patch_size'",)),
    ],
)
@pytest.mark.parametrize("verb", ["preprocess", "train", "explain"])
def test_bad_plan(segwright, workspace: Path, verb: str, entries: dict[str, Any], told: tuple[str, ...]) -> None:
    edit_plan(workspace, **entries)
    words = {
        "preprocess": ("preprocess", 1, "-c", "3d_fullres", "--workers", 1),
        "train": ("train", 1, "3d_fullres", 0, *TRAIN),
        "explain": ("explain", 1, "-c", "3d_fullres"),
    }[verb]
    refused(segwright(*words, "--workspace", workspace), "nnUNetPlans.json", "3d_fullres", *told)


def refused(outcome, *told: str) -> None:
    assert outcome.code == 2, outcome
    assert sum(line.startswith("Error: ") for line in outcome.err.splitlines()) == 1, outcome.err
    assert all(words in outcome.err for words in told), outcome.err
    assert "Traceback" not in outcome.err
    assert "bug" not in outcome.err


TRAINERS = {
    "missing.py:Mine": ("missing.py",),
    "plain.py:Missing": ("plain.py", "Missing", "Mine"),
    "plain.py:Other": ("plain.py", "Other"),
    "broken.py:Mine": ("broken.py", "line 1"),
    "Mine": ("FILE.py:CLASS",),
    "no_such_module:Mine": ("no_such_module",),
}


@pytest.mark.parametrize("spec", TRAINERS)
def test_unknown_trainer(segwright, trained: Path, tmp_path: Path, monkeypatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.py").write_text("from segwright import Trainer\nclass Mine(Trainer): ...\nclass Other: ...\n")
    Path("broken.py").write_text("class Mine(\n")
    words = ("train", 1, "3d_fullres", 0, *TRAIN, "--workspace", trained, "--trainer", spec)
    refused(segwright(*words), *TRAINERS[spec])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("3d_fullres", "5"), ("fold", "5")),
        (("3d_fullres", "-1"), ("FOLD", "-1")),
        (("3d_fullres", "first"), ("FOLD", "first")),
        (("3d_medium", "0"), ("3d_medium", "3d_fullres")),
        (("2d", "0"), ("segwright preprocess", "2d")),
        (("3d_fullres", "0", "--plans", "Other"), ("Other.json", "nnUNetPlans")),
        (("3d_fullres", "0", "--epochs", "0"), ("num_epochs", "0")),
        (("3d_fullres", "0", "--lr", "-1"), ("initial_lr", "-1")),
        (("3d_fullres", "0", "--batch-size", "0"), ("batch_size", "0")),
        (("3d_fullres", "0", "--recipe", "fast"), ("recipe", "fast", "short")),
        (("3d_fullres", "0", "--device", "abacus"), ("--device", "abacus")),
    ],
)
def test_bad_training(segwright, trained: Path, words: tuple[str, ...], told: tuple[str, ...]) -> None:
    refused(segwright("train", 1, *TRAIN, *words, "--workspace", trained), *told)


def test_a_refused_training_leaves_an_earlier_one_in_its_place(segwright, workspace: Path) -> None:
    results = workspace / "results"
    before = sorted(path.relative_to(results) for path in results.rglob("*"))
    refused(segwright("train", 1, "3d_fullres", 0, *TRAIN, "--lr", 0, "--workspace", workspace), "initial_lr")
    assert sorted(path.relative_to(results) for path in results.rglob("*")) == before


def test_training_before_planning_and_an_unknown_data_set(segwright, raw: Path, tmp_path: Path) -> None:
    refused(segwright("train", raw, "3d_fullres", 0, "--workspace", tmp_path), "nnUNetPlans.json", "segwright plan")
    mine = segwright("preprocess", raw, "--plans", "nnUNetResEncUNetLPlans", "--workspace", tmp_path)
    refused(mine, "nnUNetResEncUNetLPlans.json", "segwright plan")
    refused(segwright("explain", raw, "--workspace", tmp_path), "nnUNetPlans.json", "segwright plan")
    refused(segwright("check", 99, "--workspace", tmp_path), "99", "Dataset001_Balls")
    refused(segwright("plan", "Dataset099_None", "--workspace", tmp_path), "Dataset099_None")
    refused(segwright("plan", tmp_path / "nowhere", "--workspace", tmp_path), "nowhere")


def test_bad_planning(segwright, raw: Path, tmp_path: Path) -> None:
    place = (raw, "--workspace", tmp_path, "--workers", 1)
    refused(segwright("plan", *place, "--planner", "MyPlanner"), "MyPlanner", "ExperimentPlanner")
    refused(segwright("plan", *place, "--gpu-memory", -3), "-3")
    refused(segwright("plan", *place, "--overwrite-target-spacing", 1, 1), "spacing")
    refused(segwright("plan"), "DATASET", "--fingerprint")
    refused(segwright("plan", "--fingerprint", tmp_path / "f.json", "--output", tmp_path / "p.json"), "--dataset-json")
    missing = ("--fingerprint", tmp_path / "f.json", "--dataset-json", raw / "dataset.json")
    refused(segwright("plan", *missing, "--output", tmp_path / "p.json"), "f.json")


def test_a_model_folder_without_checkpoints(segwright, model: Path, raw: Path, tmp_path: Path) -> None:
    empty = tmp_path / "model"
    empty.mkdir()
    place = (raw / "imagesTs", tmp_path / "out", "--device", "cpu", "--model")
    refused(segwright("predict", *place, tmp_path / "nowhere"), "nowhere")
    refused(segwright("predict", *place, empty), str(empty))
    for name in ("plans.json", "dataset.json"):
        shutil.copy(model / name, empty / name)
    refused(segwright("predict", *place, empty), str(empty), "checkpoint_final.pth")
    refused(segwright("predict", *place, model, "--folds", 0, 3), "fold_3")
    (empty / "fold_0").mkdir()
    (empty / "fold_0" / "checkpoint_final.pth").write_bytes(b"torn")
    refused(segwright("predict", *place, empty), "fold_0/checkpoint_final.pth")
    assert not (tmp_path / "out").exists()


def test_an_input_folder_with_no_images(segwright, model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "scans"
    place = (tmp_path / "out", "--device", "cpu", "--model", model)
    refused(segwright("predict", empty, *place), "scans")
    empty.mkdir()
    refused(segwright("predict", empty, *place), "scans", ".nii.gz")
    (empty / "notes.txt").write_text("none")
    refused(segwright("predict", empty, *place), "scans", ".nii.gz")
    (empty / "a_0000.nii.gz").write_bytes(b"no image")
    refused(segwright("predict", empty, *place), "a")


def test_a_bad_case_does_not_stop_the_others(segwright, model: Path, raw: Path, tmp_path: Path) -> None:
    (raw / "imagesTs" / "bad_0000.nii.gz").write_bytes(b"no image")
    words = ("predict", raw / "imagesTs", tmp_path / "out", "--model", model, "--device", "cpu", "--json")
    outcome = segwright(*words)
    assert outcome.code == 1
    assert "bad:" in outcome.err
    answer = json.loads(outcome.out)
    assert answer["done"] == ["ballTs_000", "ballTs_001"]
    assert set(answer["failures"]) == {"bad"}
    assert json.loads(segwright(*words).out)["skipped"] == ["ballTs_000", "ballTs_001"]


def test_a_case_that_spoils_does_not_stop_preprocessing(segwright, workspace: Path) -> None:
    with_nan(workspace / "raw" / "Dataset001_Balls")
    outcome = segwright("preprocess", 1, "-c", "3d_fullres", "--overwrite", "--workspace", workspace, "--workers", 1)
    assert outcome.code == 1
    assert f"{CASE}: " in outcome.err
    store = workspace / "preprocessed" / "Dataset001_Balls" / "nnUNetPlans_3d_fullres"
    assert len(list(store.glob("ballTr_00?.b2nd"))) == 5


def test_bad_evaluation(segwright, raw: Path, tmp_path: Path) -> None:
    predictions = Path(shutil.copytree(raw / "labelsTs", tmp_path / "predictions"))
    refused(segwright("evaluate", predictions, tmp_path / "nowhere"), "nowhere")
    refused(segwright("evaluate", tmp_path / "nowhere", raw / "labelsTs"), "nowhere")
    write_volume(predictions / "ballTs_000.nii.gz", np.zeros((20, 24, 21), np.uint8))
    refused(segwright("evaluate", predictions, raw / "labelsTs", "--workers", 1), "ballTs_000", "21")
    (predictions / "ballTs_000.nii.gz").unlink()
    refused(segwright("evaluate", predictions, raw / "labelsTs"), "ballTs_000")
    assert not (predictions / "summary.json").exists()


def test_a_report_of_a_fold_that_is_no_fold(segwright, trained: Path) -> None:
    refused(segwright("report", 1, "--fold", "x", "--workspace", trained), "FOLD", "'x'")


def test_a_folder_that_cannot_be_written(segwright, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "preprocessed").write_text("a file where a folder is needed")
    refused(segwright("plan", raw, "--workspace", tmp_path, "--workers", 1), "preprocessed")


def test_main_never_raises(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "\0", "\0"]) in (1, 2)
    capsys.readouterr()
