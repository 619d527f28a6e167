"""Errors in a command are reported before hours of work, and an error that its author can fix is not called a bug."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segwright.explain import fit
from tiny_datasets import TRAIN


def refused(outcome, *told: str) -> None:
    assert outcome.code == 2, outcome
    assert sum(line.startswith("Error: ") for line in outcome.err.splitlines()) == 1, outcome.err
    assert all(words in outcome.err for words in told), outcome.err
    assert "Traceback" not in outcome.err
    assert not re.search(r"\bbug\b", outcome.err)
    assert outcome.out == ""


def test_a_current_folder_that_was_deleted_is_no_bug(segwright, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(segwright("check", "1"), "folder")
    refused(segwright("plan", "1", "--workspace", "here"), "folder")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--fold", "first"), ("FOLD", "first")),
        (("--fold", "5"), ("fold", "0, 1, 2, 3, 4, or all", "got 5")),
        (("--epochs", "0"), ("num_epochs", "got 0")),
        (("--recipe", "fast"), ("recipe", "fast")),
        (("--workers", "100000"), ("workers", "100000")),
        (("--seed", str(1 << 64)), ("seed", str(1 << 64))),
        (("--epochs", "1000000000000"), ("num_epochs", "1000000000000")),
        (("--iterations-per-epoch", "9" * 5000), ("--iterations-per-epoch",)),
        (("--device", "abacus"), ("--device", "abacus")),
        (("--trainer", "missing.py:Mine"), ("missing.py",)),
    ],
)
def test_run_looks_at_the_whole_command_before_it_begins(
    segwright, raw: Path, tmp_path: Path, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    refused(segwright("run", raw, "--workspace", tmp_path, "--workers", 1, *words), *told)
    assert not (tmp_path / "preprocessed").exists()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("place", ["command line", "plan"])
def test_a_batch_that_cannot_fit_is_refused_before_training(segwright, workspace: Path, place: str) -> None:
    words = ["train", 1, "3d_fullres", 0, *TRAIN, "--workspace", workspace]
    if place == "plan":
        path = workspace / "preprocessed" / "Dataset001_Balls" / "nnUNetPlans.json"
        raw = json.loads(path.read_text())
        raw["configurations"]["3d_fullres"]["batch_size"] = 1_000_000_000
        path.write_text(json.dumps(raw))
    else:
        words += ["--batch-size", 1_000_000]
    folds = sorted((workspace / "results").rglob("checkpoint_*"))
    refused(segwright(*words), "batch_size", place, "--force")
    assert sorted((workspace / "results").rglob("checkpoint_*")) == folds


def test_a_batch_that_cannot_fit_can_be_tried(segwright, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "available_memory_bytes", lambda: 1000)
    words = ("train", 1, "3d_fullres", 0, *TRAIN, "--epochs", 1, "--workspace", workspace)
    refused(segwright(*words), "batch_size", "plan")
    assert segwright(*words, "--force").code == 0


def test_run_names_the_configurations_before_it_preprocesses(segwright, workspace: Path) -> None:
    refused(segwright("run", 1, "-c", "3d_medium", "--workspace", workspace, "--workers", 1), "3d_medium", "3d_fullres")
    assert not (workspace / "preprocessed" / "Dataset001_Balls" / "nnUNetPlans_2d").exists()


def test_run_takes_the_folds_of_a_splits_file(segwright, workspace: Path) -> None:
    splits = workspace / "raw" / "Dataset001_Balls" / "splits_final.json"
    (workspace / "preprocessed" / "Dataset001_Balls" / "splits_final.json").unlink()
    splits.write_text('[{"train": ["ballTr_000"], "val": ["ballTr_001"]}]')
    refused(segwright("run", 1, "--fold", 1, "--workspace", workspace, "--workers", 1), "one of 0, or all", "got 1")


@pytest.mark.parametrize("device", ["cpu:0", "cpu:x", "cuda:99", "", "CPU"])
def test_a_device_that_is_not_there(segwright, trained: Path, device: str) -> None:
    words = ("train", 1, "3d_fullres", 0, *TRAIN, "--workspace", trained, "--device", device)
    refused(segwright(*words), "--device", repr(device))


TRAINER_FILE = """\
from segwright import Trainer

class Narrow(Trainer):
    def __init__(self, plans):
        ...

class Torn(Trainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1 / 0

class Hooked(Trainer):
    num_epochs = 1

    def on_train_start(self):
        super().on_train_start()
        self.nothing_of_this_name()

class Zero(Trainer):
    num_epochs = 0
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Narrow", ("mine.py:Narrow", "dataset_json, device")),
        ("Torn", ("mine.py, line 10", "ZeroDivisionError", "--debug")),
        ("Hooked", ("mine.py, line 17", "AttributeError", "nothing_of_this_name")),
        ("Zero", ("num_epochs", "trainer class", " 0")),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_errors_of_ones_own_trainer_are_told_with_their_line(
    segwright, workspace: Path, tmp_path: Path, name: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "mine.py").write_text(TRAINER_FILE)
    words = ("train", 1, "3d_fullres", 1, *TRAIN, "--workspace", workspace)
    outcome = segwright(*words, "--trainer", f"{tmp_path / 'mine.py'}:{name}")
    if name != "Hooked":
        refused(outcome, *told)
    else:
        assert outcome.code == 2
        assert all(words in outcome.err for words in told), outcome.err
        assert not re.search(r"\bbug\b", outcome.err)


def test_plan_takes_a_data_set_or_files_not_both(segwright, raw: Path, tmp_path: Path) -> None:
    place = (raw, "--workspace", tmp_path, "--workers", 1)
    refused(segwright("plan", *place, "--output", tmp_path / "P.json"), "DATASET", "--output")
    refused(segwright("plan", "--dataset-json", raw / "dataset.json"), "--dataset-json")
    assert not (tmp_path / "preprocessed").exists()


def test_a_report_of_what_was_not_trained(segwright, trained: Path) -> None:
    place = (1, "--workspace", trained)
    refused(segwright("report", *place, "-c", "2d"), "'2d'", " 3d_fullres", "segwright train")
    refused(segwright("report", *place, "--fold", 3), "fold 3", " 0")


def test_a_report_takes_the_fold_that_was_trained(segwright, workspace: Path, tmp_path: Path) -> None:
    model = workspace / "results" / "Dataset001_Balls" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (model / "fold_0").rename(model / "fold_all")
    (model.with_name("nnUNetTrainer__nnUNetPlans__2d")).mkdir()  # newer, but nothing was trained in it
    outcome = segwright("report", 1, "--workspace", workspace)
    assert outcome.code == 0, outcome.err
    assert "segwright train Dataset001_Balls" not in (model / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "4", "2d", "0"], "segwright train 4 2d 0 --continue"),
        (["train", "4", "2d", "0", "--continue"], "segwright train 4 2d 0 --continue"),
        (["preprocess", "4"], "command"),
    ],
)
def test_ctrl_c_anywhere_says_how_to_go_on(segwright, monkeypatch, words: list[str], told: str) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segwright.cli.train.locate", stop)
    monkeypatch.setattr("segwright.cli.preprocess.locate", stop)
    outcome = segwright(*words)
    assert outcome.code == 130
    assert told in outcome.err


def test_a_bug_is_told_even_where_no_file_can_be_written(segwright, monkeypatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise KeyError("gone")

    monkeypatch.setattr("segwright.cli.check.locate", fail)
    monkeypatch.setattr("segwright.cli.main.tempfile.gettempdir", lambda: str(tmp_path / "nowhere"))
    outcome = segwright("check", 1)
    assert outcome.code == 1
    assert "bug" in outcome.err
    assert "--debug" in outcome.err


def test_predictions_do_not_go_among_the_images(segwright, model: Path, raw: Path) -> None:
    images = raw / "imagesTs"
    before = sorted(images.iterdir())
    refused(segwright("predict", images, images / ".." / "imagesTs", "--model", model), "OUTPUT", "INPUT")
    assert sorted(images.iterdir()) == before


def test_a_model_folder_of_the_wrong_level_is_put_right(segwright, model: Path, raw: Path, tmp_path: Path) -> None:
    words = ("predict", raw / "imagesTs", tmp_path / "out", "--model")
    refused(segwright(*words, model.parent), "--model", f"{model}")
    refused(segwright(*words, model / "fold_0"), "--model", f"{model}.")
    refused(segwright(*words, raw), "--model", "plans.json")
    image = raw / "imagesTs" / "ballTs_000_0000.nii.gz"
    refused(segwright("predict", image, tmp_path / "out", "--model", model), image.name)


def test_a_terminal_without_the_characters_gets_their_codes(trained: Path) -> None:
    words = [sys.executable, "-m", "segwright", "explain", "1", "-c", "2d", "--workspace", str(trained)]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert rb"\xd7" in done.stdout


class Exploit:
    """A pickle that would run a command when it is opened freely."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.touched}",)


def test_a_tampered_checkpoint_runs_nothing(segwright, workspace: Path, tmp_path: Path) -> None:
    model = workspace / "results" / "Dataset001_Balls" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for path in (model / "fold_0").glob("*.pth"):
        torch.save({**torch.load(path, weights_only=False), "more": Exploit(tmp_path / "touched")}, path)
    images = workspace / "raw" / "Dataset001_Balls" / "imagesTs"
    refused(segwright("predict", images, tmp_path / "out", "--model", model), "checkpoint_final.pth", "posix.system")
    words = ("train", 1, "3d_fullres", 0, *TRAIN, "--workspace", workspace, "--continue")
    refused(segwright(*words), "checkpoint_final.pth", "posix.system")
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "out").exists()


def test_what_a_loading_process_refuses_is_told_without_its_traceback(
    segwright, workspace: Path, tmp_path: Path
) -> None:
    store = workspace / "preprocessed" / "Dataset001_Balls" / "nnUNetPlans_3d_fullres"
    for path in store.glob("*.pkl"):
        path.write_bytes(pickle.dumps(Exploit(tmp_path / "touched")))
    words = [*map(str, TRAIN), "--workspace", workspace]
    words[words.index("--workers") + 1] = "1"
    outcome = segwright("train", 1, "3d_fullres", 1, *words)
    assert outcome.code == 2
    (told,) = [line for line in outcome.err.splitlines() if line.startswith("Error: ")]
    assert told.startswith(f"Error: {store}")
    assert outcome.err.endswith(f"{told}\n")
    # Python waits at its exit for processes that are left, and these ignore the signal to end.
    assert multiprocessing.active_children() == []
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "touched").exists()


def test_a_damaged_plan_or_fingerprint_does_not_block_planning(segwright, workspace: Path) -> None:
    folder = workspace / "preprocessed" / "Dataset001_Balls"
    words = ("plan", 1, "--workspace", workspace, "--workers", 1)
    (folder / "nnUNetPlans.json").write_text("[")
    refused(segwright(*words), "nnUNetPlans.json", "delete the file to plan")
    (folder / "nnUNetPlans.json").unlink()
    (folder / "dataset_fingerprint.json").write_text("{}")
    assert segwright(*words).code == 0
    assert (folder / "nnUNetPlans.json").is_file()
