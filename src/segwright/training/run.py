"""Train one configuration on one fold, from folders to folders."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from segwright.dataset import DatasetDescription, Split, create_splits, read_splits, split_for_fold, write_splits
from segwright.dataset.problems import some
from segwright.errors import CheckpointError, LockedError, MissingFileError, TrainerError, message
from segwright.evaluation import Summary
from segwright.interop.checkpoint import NNUNET_TRAINER, Checkpoint
from segwright.io import reader_named
from segwright.io.atomic import write_json_atomic
from segwright.io.kept_folder import kept_folder
from segwright.io.leftovers import sweep_once
from segwright.parallel import available_cores, refuse_too_many_workers
from segwright.planning.plan import Plan
from segwright.preprocessing.store import PreprocessedStore
from segwright.training.checkpoint import FINAL, newest_checkpoint, restore
from segwright.training.interrupts import StopRequest, stop_on_signals
from segwright.training.monitor import LOG_FILE, JsonLinesMonitor, Monitor, MonitorGroup, SilentMonitor
from segwright.training.trainer import Trainer
from segwright.training.validation import require_usable_cases, validate

Fold = int | Literal["all"]
SETTINGS_FILE = "settings.json"
MAX_LOADER_WORKERS = 12


@dataclass(frozen=True)
class TrainingOutcome:
    """Where a training was written; `finished` is False after Ctrl-C, and `summary` is the final validation's."""

    fold_folder: Path
    model_folder: Path
    finished: bool
    summary: Summary | None


def model_folder_name(trainer_class: type[Trainer], plan: Plan, configuration_name: str) -> str:
    """Name of a model's folder, as nnU-Net builds it; `Trainer` goes by nnU-Net's name, so that both tools find it."""
    trainer = NNUNET_TRAINER if trainer_class is Trainer else trainer_class.__name__
    return f"{trainer}__{plan.plans_name}__{configuration_name}"


def train(
    plan: Plan,
    configuration: str,
    fold: Fold,
    *,
    preprocessed_folder: Path,
    results_folder: Path,
    trainer_class: type[Trainer] = Trainer,
    flags: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    monitor: Monitor | None = None,
    loader_workers: int | None = None,
) -> TrainingOutcome:
    """Train, validate and write everything that nnU-Net's users expect in the fold's folder.

    Args:
        plan: of the data set.
        configuration: name in the plan, such as `3d_fullres`.
        fold: number of a split, or "all" to train and validate on every case.
        preprocessed_folder: of the data set (`preprocessed/DatasetXXX_Name`).
        results_folder: of the data set (`results/DatasetXXX_Name`).
        trainer_class: `Trainer` or a class that inherits it.
        flags: settings that overrule class and plan, by the names of `planning.budget.SETTING_NAMES`, and `recipe`.
        device: to train on; the CPU by default.
        resume: go on from the newest checkpoint of the fold. Without it an earlier training is moved aside.
        monitor: receives the events.
        loader_workers: processes that load batches; by default as the cores allow.

    Raises:
        MissingFileError: the configuration is not preprocessed.
        LockedError: another process trains the same fold.
        SettingsError, PlanError, DatasetError, CheckpointError, TrainingError: as their messages say.
    """
    device = device or torch.device("cpu")
    refuse_too_many_workers(loader_workers or 0)
    entry = plan.configuration(configuration)
    description = DatasetDescription.read(preprocessed_folder / "dataset.json")
    store = _open_store(preprocessed_folder / entry.data_identifier, configuration)
    split = _split(preprocessed_folder / "splits_final.json", fold, store)
    reader = reader_named(plan.image_reader_writer)
    require_usable_cases(store, split.val, reader=reader, file_ending=description.file_ending)
    trainer = _make_trainer(trainer_class, plan, configuration, fold, description, device)
    model_folder = results_folder / model_folder_name(trainer_class, plan, configuration)
    fold_folder = model_folder / f"fold_{fold}"
    model_folder.mkdir(parents=True, exist_ok=True)
    with _locked(model_folder / f".fold_{fold}.lock", fold_folder):
        start_from = newest_checkpoint(fold_folder) if resume else None
        checkpoint = None if start_from is None else _read(start_from, configuration)
        moved = _move_aside(fold_folder) if start_from is None else None
        fold_folder.mkdir(exist_ok=True)
        monitors = MonitorGroup([monitor or SilentMonitor(), JsonLinesMonitor(fold_folder / LOG_FILE)])
        with _put_back_if_refused(moved, fold_folder):
            trainer.prepare(
                store=store,
                split=split,
                output_folder=fold_folder,
                flags=flags,
                resumed=None if checkpoint is None else checkpoint.settings,
                monitor=monitors,
                loader_workers=_loader_workers(device) if loader_workers is None else loader_workers,
            )
            if checkpoint is not None:
                restore(trainer, checkpoint)
        _write_model_files(trainer, preprocessed_folder, model_folder)
        _announce(trainer, start_from=start_from, moved=moved)
        if fold != "all" and split.overlap:
            trainer.monitor.event("message", {"text": _warning_of_overlap(split)})
        with kept_folder(fold_folder), stop_on_signals() as stop:
            return _run(trainer, model_folder, preprocessed_folder / "gt_segmentations", start_from, stop)


def _read(path: Path, configuration: str) -> Checkpoint:
    """Read a checkpoint to go on from, and see that it belongs to this configuration."""
    checkpoint = Checkpoint.read(path)
    if checkpoint.configuration != configuration:
        raise CheckpointError(
            message(
                path,
                expected=f"a checkpoint of configuration '{configuration}'",
                got=f"one of '{checkpoint.configuration}'",
                remedy="Name the configuration it was trained with, or start anew without --continue.",
            )
        )
    return checkpoint


def _run(
    trainer: Trainer, model_folder: Path, references: Path, start_from: Path | None, stop: StopRequest
) -> TrainingOutcome:
    fold_folder = trainer.output_folder
    trained = start_from is not None and start_from.name == FINAL and trainer.current_epoch >= trainer.num_epochs
    if not trained and not trainer.run_training(stop):
        return TrainingOutcome(fold_folder, model_folder, finished=False, summary=None)
    summary = validate(trainer, reference_folder=references, stop=stop)
    if summary is None:
        return TrainingOutcome(fold_folder, model_folder, finished=False, summary=None)
    trainer.monitor.event("end", {"foreground_mean_dice": summary.foreground_mean["Dice"]})
    return TrainingOutcome(fold_folder, model_folder, finished=True, summary=summary)


def _make_trainer(
    trainer_class: type[Trainer],
    plan: Plan,
    configuration: str,
    fold: Fold,
    description: DatasetDescription,
    device: torch.device,
) -> Trainer:
    try:
        return trainer_class(plan.raw, configuration, fold, description.raw, device=device)
    except TypeError as error:
        raise TrainerError(
            message(
                f"trainer class {trainer_class.__name__}",
                expected="an __init__(self, plans, configuration, fold, dataset_json, device) that passes these on",
                got=str(error),
                remedy="Leave __init__ out and set class attributes (num_epochs = 100), or give it these arguments.",
            )
        ) from error


def _open_store(folder: Path, configuration: str) -> PreprocessedStore:
    store = PreprocessedStore(folder) if folder.is_dir() else None
    if store is None or not store.case_ids():
        raise MissingFileError(
            message(
                folder,
                expected=f"the preprocessed cases of configuration '{configuration}'",
                got="no such folder" if store is None else "no cases in it",
                remedy=f"Run `segwright preprocess DATASET -c {configuration}` first.",
            )
        )
    return store


def _split(path: Path, fold: Fold, store: PreprocessedStore) -> Split:
    case_ids = store.case_ids()
    if fold == "all":
        return split_for_fold([], fold, case_ids)
    if not path.is_file():
        write_splits(path, create_splits(case_ids))
    return split_for_fold(read_splits(path), fold, case_ids)


def _warning_of_overlap(split: Split) -> str:
    """nnU-Net allows it and so only warns, as some hold cases back for no more than watching the loss."""
    overlap = split.overlap
    return (
        f"Warning: {len(overlap)} of {len(split.val)} validation cases are trained on as well ({some(overlap)}), so "
        "their scores say little about unseen cases. Take them out of 'train' or 'val' of this fold in "
        "splits_final.json."
    )


@contextmanager
def _locked(lock_file: Path, fold_folder: Path) -> Iterator[None]:
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockedError(
            message(
                fold_folder,
                expected="a fold that no other process trains",
                got=f"a lock on {lock_file} that another process holds",
                remedy="Wait for it to end, or stop it; the lock goes with the process.",
            )
        ) from error
    try:
        yield
    finally:
        lock.release()


def _move_aside(fold_folder: Path) -> Path | None:
    """Keep an earlier training of this fold under another name, one that nnU-Net does not take for a fold."""
    if newest_checkpoint(fold_folder) is None:
        (fold_folder / LOG_FILE).unlink(missing_ok=True)
        return None
    sweep_once(fold_folder.absolute())
    now = datetime.now().strftime("%Y%m%d_%H%M%S_%f")
    return fold_folder.rename(fold_folder.with_name(f"earlier_{fold_folder.name}_{now}"))


@contextmanager
def _put_back_if_refused(moved: Path | None, fold_folder: Path) -> Iterator[None]:
    """Give an earlier training its place again where the new one cannot begin: a mistyped setting costs nothing."""
    try:
        yield
    except Exception:
        if moved is not None:
            shutil.rmtree(fold_folder)
            moved.rename(fold_folder)
        raise


def _loader_workers(device: torch.device) -> int:
    cores = available_cores()
    # On the CPU the network needs the cores itself; one worker hides the time of loading.
    return min(cores - 1, 1) if device.type == "cpu" else min(cores, MAX_LOADER_WORKERS)


def _write_model_files(trainer: Trainer, preprocessed_folder: Path, model_folder: Path) -> None:
    trainer.plan.write(model_folder / "plans.json")
    trainer.description.write(model_folder / "dataset.json")
    fingerprint = preprocessed_folder / "dataset_fingerprint.json"
    if fingerprint.is_file():
        shutil.copyfile(fingerprint, model_folder / fingerprint.name)
    settings = {**trainer.budget.to_json(len(trainer.split.train)), "environment": _environment(trainer)}
    write_json_atomic(trainer.output_folder / SETTINGS_FILE, settings)
    public = {name: str(value) for name, value in vars(trainer).items() if not name.startswith("_")}
    public.pop("plan", None)
    write_json_atomic(trainer.output_folder / "debug.json", {**public, **_environment(trainer)})


def _environment(trainer: Trainer) -> dict[str, Any]:
    from segwright import __version__

    device = trainer.device
    return {
        "segwright": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "loader_workers": trainer.loader_workers,
        "trainer": type(trainer).__name__,
    }


def _announce(trainer: Trainer, *, start_from: Path | None, moved: Path | None) -> None:
    budget = trainer.budget
    trainer.monitor.event(
        "start" if start_from is None else "resume",
        {
            "configuration": trainer.configuration_name,
            "fold": trainer.fold,
            "folder": str(trainer.output_folder),
            "device": str(trainer.device),
            "rows": budget.rows(),
            **budget.to_json(len(trainer.split.train)),
            "validation_cases": len(trainer.split.val),
            "epoch": trainer.current_epoch,
            "step": trainer.state.step,
            "from_checkpoint": None if start_from is None else str(start_from),
            "earlier_training_moved_to": None if moved is None else str(moved),
        },
    )
