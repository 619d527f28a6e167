"""A whole training on a tiny data set: files, resume, precedence, refusals."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from segwright.errors import (
    DatasetError,
    ImageError,
    LockedError,
    MissingFileError,
    PlanError,
    SettingsError,
    TrainerError,
    TrainingError,
)
from segwright.interop.checkpoint_file import read_checkpoint
from segwright.training.monitor import read_log
from segwright.training.run import TrainingOutcome, train
from segwright.training.trainer import Trainer

FLAGS = {"num_epochs": 3, "num_iterations_per_epoch": 4, "num_val_iterations_per_epoch": 2}


def run(tiny: Any, results: Path, flags: Mapping[str, Any] | None = None, **kwargs: Any) -> TrainingOutcome:
    """Train the tiny configuration on fold 0."""
    arguments: dict[str, Any] = {"loader_workers": 0, **kwargs}
    return train(
        tiny.plan,
        tiny.configuration,
        arguments.pop("fold", 0),
        preprocessed_folder=tiny.preprocessed,
        results_folder=results,
        flags={**FLAGS, **(flags or {})},
        **arguments,
    )


class StopAt:
    """Sends this process a signal after some number of iterations, as Ctrl-C would."""

    def __init__(self, iterations: int, number: int = signal.SIGINT) -> None:
        self.left = iterations
        self.number = number
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        self.events.append((name, values))
        if name == "iteration":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)


def weights(outcome: TrainingOutcome, name: str = "checkpoint_final.pth") -> dict[str, torch.Tensor]:
    return read_checkpoint(outcome.fold_folder / name)["network_weights"]


def assert_equal_weights(first: TrainingOutcome, second: TrainingOutcome) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    return run(tiny, tmp_path_factory.mktemp("finished"))


def test_a_training_leaves_nnunets_files(tiny: Any, finished: TrainingOutcome) -> None:
    assert finished.finished
    assert finished.model_folder.name == "nnUNetTrainer__nnUNetPlans__tiny"
    assert {path.name for path in finished.model_folder.iterdir()} >= {"plans.json", "dataset.json", "fold_0"}
    assert {path.name for path in finished.fold_folder.iterdir()} == {
        "checkpoint_final.pth",
        "checkpoint_best.pth",
        "debug.json",
        "progress.png",
        "settings.json",
        "training_log.jsonl",
        "validation",
    }
    held_out = json.loads((tiny.preprocessed / "splits_final.json").read_text())[0]["val"]
    written = sorted(path.name for path in (finished.fold_folder / "validation").glob("*.nii.gz"))
    assert written == [f"{case_id}.nii.gz" for case_id in held_out]
    assert finished.summary is not None
    assert len(finished.summary.metric_per_case) == len(held_out)


def test_the_checkpoint_has_nnunets_keys_and_the_resolved_settings(finished: TrainingOutcome) -> None:
    checkpoint = read_checkpoint(finished.fold_folder / "checkpoint_final.pth")
    assert set(checkpoint) == {
        "network_weights",
        "optimizer_state",
        "grad_scaler_state",
        "logging",
        "_best_ema",
        "current_epoch",
        "init_args",
        "trainer_name",
        "inference_allowed_mirroring_axes",
        "segwright",
    }
    assert checkpoint["current_epoch"] == 3
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert all(len(values) == 3 for values in checkpoint["logging"].values())
    stored = checkpoint["segwright"]["budget"]
    assert stored["settings"]["num_epochs"] == {"value": 3, "source": "command line"}
    assert stored["totals"]["samples"] == 3 * 4 * 2
    beside = json.loads((finished.fold_folder / "settings.json").read_text())
    assert {key: beside[key] for key in stored} == stored


def test_the_log_has_every_epoch(finished: TrainingOutcome) -> None:
    events = read_log(finished.fold_folder / "training_log.jsonl")
    assert [event["event"] for event in events] == ["start", "epoch", "epoch", "epoch", "end"]
    assert [event["epoch"] for event in events[1:4]] == [0, 1, 2]
    assert len(events[1]["pseudo_dice"]) == 2


def test_loss_falls(tiny: Any, tmp_path: Path) -> None:
    outcome = run(tiny, tmp_path, {"num_epochs": 4, "num_iterations_per_epoch": 20})
    losses = read_checkpoint(outcome.fold_folder / "checkpoint_final.pth")["logging"]["train_losses"]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_interrupted_and_continued_equals_never_interrupted(
    tiny: Any, tmp_path: Path, finished: TrainingOutcome, stop_after: int
) -> None:
    stopped = run(tiny, tmp_path, monitor=StopAt(stop_after))
    assert not stopped.finished
    assert (stopped.fold_folder / "checkpoint_latest.pth").is_file()
    # the settings of the first start are remembered: only --continue is given
    again = run(tiny, tmp_path, dict.fromkeys(FLAGS), resume=True)
    assert again.finished
    assert_equal_weights(again, finished)
    assert not (again.fold_folder / "checkpoint_latest.pth").exists()


def test_sigterm_saves_as_well(tiny: Any, tmp_path: Path) -> None:
    monitor = StopAt(5, signal.SIGTERM)
    stopped = run(tiny, tmp_path, monitor=monitor)
    assert not stopped.finished
    assert monitor.events[-1][0] == "interrupted"
    assert monitor.events[-1][1]["signal"] == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_batches_do_not_depend_on_workers(tiny: Any, tmp_path: Path, finished: TrainingOutcome) -> None:
    assert_equal_weights(run(tiny, tmp_path, loader_workers=2), finished)


def test_another_seed_is_another_run(tiny: Any, tmp_path: Path, finished: TrainingOutcome) -> None:
    other = weights(run(tiny, tmp_path, {"seed": 1}))
    assert any(not torch.equal(other[key], value) for key, value in weights(finished).items())


def test_a_finished_training_continues_with_nothing_to_do(tiny: Any, finished: TrainingOutcome) -> None:
    before = (finished.fold_folder / "checkpoint_final.pth").stat().st_mtime_ns
    again = train(
        tiny.plan,
        tiny.configuration,
        0,
        preprocessed_folder=tiny.preprocessed,
        results_folder=finished.model_folder.parent,
        resume=True,
        loader_workers=0,
    )
    assert again.finished
    assert (again.fold_folder / "checkpoint_final.pth").stat().st_mtime_ns == before


def test_starting_anew_moves_the_earlier_training_aside(tiny: Any, tmp_path: Path) -> None:
    flags = {"num_epochs": 1, "num_iterations_per_epoch": 1}
    first = run(tiny, tmp_path, flags)
    run(tiny, tmp_path, flags)
    earlier = list(first.model_folder.glob("earlier_fold_0_*/checkpoint_final.pth"))
    assert len(earlier) == 1


class ClassAttributes(Trainer):
    """Sets what nnU-Net's users set, as class attributes."""

    num_epochs = 2
    num_iterations_per_epoch = 3
    batch_size = 1


class InInit(Trainer):
    """Sets the same in `__init__`, as nnU-Net's users write it."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 2
        self.num_iterations_per_epoch = 3
        self.batch_size = 1


@pytest.mark.parametrize("trainer_class", [ClassAttributes, InInit])
def test_the_users_class_sets_the_budget(tiny: Any, tmp_path: Path, trainer_class: type[Trainer]) -> None:
    flags = {"num_epochs": None, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}
    outcome = run(tiny, tmp_path, flags, trainer_class=trainer_class)
    assert outcome.model_folder.name == f"{trainer_class.__name__}__nnUNetPlans__tiny"
    settings = json.loads((outcome.fold_folder / "settings.json").read_text())["settings"]
    assert settings["num_epochs"] == {"value": 2, "source": "trainer class"}
    assert settings["num_iterations_per_epoch"] == {"value": 2, "source": "command line"}
    assert settings["batch_size"] == {"value": 1, "source": "trainer class"}
    assert read_checkpoint(outcome.fold_folder / "checkpoint_final.pth")["current_epoch"] == 2


def test_the_plan_sets_the_budget(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan.with_configuration("longer", {"inherits_from": "tiny", "num_epochs": 2, "batch_size": 3})
    outcome = train(
        plan,
        "longer",
        0,
        preprocessed_folder=tiny.preprocessed,
        results_folder=tmp_path,
        flags={"num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 1},
        loader_workers=0,
    )
    settings = json.loads((outcome.fold_folder / "settings.json").read_text())["settings"]
    assert settings["num_epochs"] == {"value": 2, "source": "plan"}
    assert settings["batch_size"] == {"value": 3, "source": "plan"}


def test_both_recipes_train(tiny: Any, tmp_path: Path) -> None:
    for recipe in ("nnunet", "short"):
        outcome = run(tiny, tmp_path / recipe, {"recipe": recipe, "num_epochs": 1})
        axes = read_checkpoint(outcome.fold_folder / "checkpoint_final.pth")["inference_allowed_mirroring_axes"]
        assert axes == ((0, 1, 2) if recipe == "nnunet" else None)


def test_slices_train(tiny: Any, tmp_path: Path) -> None:
    flags = {**FLAGS, "num_epochs": 1, "batch_size": 2}
    outcome = train(
        tiny.plan,
        "2d",
        0,
        preprocessed_folder=tiny.preprocessed,
        results_folder=tmp_path,
        flags=flags,
        loader_workers=0,
    )
    assert outcome.summary is not None


def test_fold_all_trains_and_validates_on_everything(tiny: Any, tmp_path: Path) -> None:
    outcome = run(tiny, tmp_path, {"num_epochs": 1}, fold="all")
    assert outcome.summary is not None
    assert len(outcome.summary.metric_per_case) == 6


def test_refusals(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fold"):
        run(tiny, tmp_path, fold=7)
    with pytest.raises(PlanError, match="no_such"):
        train(tiny.plan, "no_such", 0, preprocessed_folder=tiny.preprocessed, results_folder=tmp_path)
    elsewhere = tiny.plan.with_configuration("elsewhere", {"inherits_from": "2d", "data_identifier": "elsewhere"})
    with pytest.raises(MissingFileError, match="segwright preprocess"):
        train(elsewhere, "elsewhere", 0, preprocessed_folder=tiny.preprocessed, results_folder=tmp_path)
    with pytest.raises(SettingsError, match="batch_size"):
        run(tiny, tmp_path, {"batch_size": 0})


def with_split(tiny: Any, tmp_path: Path, split: dict[str, list[str]]) -> Any:
    """A copy of the preprocessed data with one fold."""
    copy = shutil.copytree(tiny.preprocessed, tmp_path / "preprocessed")
    (copy / "splits_final.json").write_text(json.dumps([split]))
    return replace(tiny, preprocessed=copy)


def test_validation_cases_that_are_trained_on_are_named_at_the_start(tiny: Any, tmp_path: Path) -> None:
    ids = sorted(path.stem for path in (tiny.preprocessed / "nnUNetPlans_3d_fullres").glob("*.pkl"))
    mixed = with_split(tiny, tmp_path, {"train": ids[1:], "val": ids[:2]})
    outcome = run(mixed, tmp_path, {"num_epochs": 1})
    (warning,) = [event["text"] for event in read_log(outcome.fold_folder / "training_log.jsonl") if "text" in event]
    assert ids[1] in warning
    assert ids[0] not in warning


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spacing", None),
        ("spacing", [1, 1, 0]),
        ("spacing", "abc"),
        ("shape_before_cropping", [1e9, 1e9, 1e9]),
        ("bbox_used_for_cropping", [[0, 10**4]] * 3),
        ("shape_after_cropping_and_before_resampling", (1, 2, 3)),
        ("class_locations", {1: "x"}),
        ("sitk_stuff", None),
        ("sitk_stuff", {"spacing": "x"}),
    ],
)
def test_properties_that_lead_nowhere_are_refused_before_training(
    tiny: Any, tmp_path: Path, key: str, value: object
) -> None:
    store = tiny.preprocessed / "nnUNetPlans_3d_fullres"
    ids = sorted(path.stem for path in store.glob("*.pkl"))
    damaged = with_split(tiny, tmp_path, {"train": ids[2:], "val": ids[:2]})
    path = damaged.preprocessed / store.name / f"{ids[1]}.pkl"
    properties = pickle.loads(path.read_bytes())
    properties.pop(key)
    path.write_bytes(pickle.dumps(properties if value is None else {**properties, key: value}))
    with pytest.raises(ImageError, match=rf"{ids[1]}\.pkl.*{key}"):
        run(damaged, tmp_path, {"num_epochs": 1})
    assert not list(tmp_path.glob("nnUNetTrainer__*"))


def test_a_second_process_is_told_no(tiny: Any, tmp_path: Path) -> None:
    model_folder = tmp_path / "nnUNetTrainer__nnUNetPlans__tiny"
    model_folder.mkdir()
    with FileLock(model_folder / ".fold_0.lock"), pytest.raises(LockedError, match="nnUNetTrainer__nnUNetPlans__tiny"):
        run(tiny, tmp_path)


class OfAnotherAge(Trainer):
    """Has the argument that nnU-Net dropped in version 2.6."""

    def __init__(self, plans, configuration, fold, dataset_json, unpack_dataset, device):
        super().__init__(plans, configuration, fold, dataset_json, device)


def test_a_foreign_init_is_told_what_to_take(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"OfAnotherAge.*__init__.*unpack_dataset"):
        run(tiny, tmp_path, trainer_class=OfAnotherAge)


def test_a_class_whose_name_is_no_folders_is_refused(tiny: Any, tmp_path: Path) -> None:
    for name in ("../../esc", "T" * 300):
        with pytest.raises(SettingsError):
            run(tiny, tmp_path / "results", trainer_class=type(name, (Trainer,), {}))
    assert not list(tmp_path.rglob("*esc*"))


def test_a_start_that_left_no_checkpoint_leaves_no_clutter(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        run(tiny, tmp_path, trainer_class=Diverging)
    with pytest.raises(TrainingError):
        run(tiny, tmp_path, trainer_class=Diverging, resume=True)
    model_folder = tmp_path / "Diverging__nnUNetPlans__tiny"
    assert [path.name for path in model_folder.iterdir() if path.is_dir()] == ["fold_0"]
    assert [event["event"] for event in read_log(model_folder / "fold_0" / "training_log.jsonl")] == ["start"]


class Diverging(Trainer):
    """Returns a loss that is no number."""

    def train_step(self, batch: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": float("nan")}


def test_a_loss_that_is_no_number_names_the_cases(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"epoch 0, iteration 0, cases ballTr_00\d, ballTr_00\d"):
        run(tiny, tmp_path, trainer_class=Diverging)


class Deleting:
    """Deletes or replaces the fold's folder at an event, as somebody who tidies up the disk."""

    def __init__(self, folder: Path, at: str, replace: bool) -> None:
        self.folder, self.at, self.replace = folder, at, replace

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        if name == self.at and self.folder.exists():
            shutil.rmtree(self.folder)
            if self.replace:
                self.folder.mkdir()


@pytest.mark.parametrize("at", ["iteration", "epoch", "validation", "end"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_deleted_during_training_is_an_error(tiny: Any, tmp_path: Path, at: str, replace: bool) -> None:
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__tiny" / "fold_0"
    flags = {"num_epochs": 1, "num_iterations_per_epoch": 1, "num_val_iterations_per_epoch": 1}
    with pytest.raises(MissingFileError, match="fold_0"):
        run(tiny, tmp_path, flags, monitor=Deleting(folder, at, replace))
    assert not folder.exists() or list(folder.iterdir()) == []


class DeletedBeforeSaving(Trainer):
    """Its folder is deleted during the epoch's validation."""

    def on_validation_epoch_end(self, outputs: list[dict[str, Any]]) -> None:
        super().on_validation_epoch_end(outputs)
        shutil.rmtree(self.output_folder)


def test_a_checkpoint_does_not_make_a_deleted_folder_again(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="fold_0"):
        run(tiny, tmp_path, trainer_class=DeletedBeforeSaving)
    assert not list(tmp_path.glob("*/fold_0"))
