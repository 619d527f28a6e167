"""Train one configuration on one fold of a preprocessed data set."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from segwright.dataset import DatasetDescription, Split, create_splits, read_splits, split_for_fold, write_splits
from segwright.dataset.problems import some
from segwright.errors import LockedError, MissingFileError, TrainerError, message
from segwright.evaluation import Summary
from segwright.interop.checkpoint import NNUNET_TRAINER
from segwright.interop.plan_changes import PlanChange
from segwright.io import reader_named
from segwright.io.atomic import atomic_path, write_json_atomic
from segwright.io.kept_folder import kept_folder
from segwright.io.leftovers import sweep_once
from segwright.parallel import available_cores, refuse_too_many_workers
from segwright.planning.plan import Plan
from segwright.preprocessing.record import refuse_other_preprocessing
from segwright.preprocessing.store import PreprocessedStore
from segwright.results import FINAL, LATEST, Fold, FoldFolder, ModelFolder
from segwright.task import Task
from segwright.training.continuation import Start, choose_start, refuse_other_plan
from segwright.training.interrupts import StopRequest, stop_on_signals
from segwright.training.loop import run_training
from segwright.training.monitor import JsonLinesMonitor, Monitor, MonitorGroup, SilentMonitor
from segwright.training.trainer import Trainer
from segwright.training.validation import require_usable_cases, validate

MAX_LOADER_WORKERS = 12


@dataclass(frozen=True)
class TrainingOutcome:
    """The folders of a training; `finished` is False after Ctrl-C, and `summary` is the final validation's."""

    fold_folder: Path
    model_folder: Path
    finished: bool
    summary: Summary | None


def model_folder_of(results_folder: Path, trainer_class: type[Trainer], plan: Plan, configuration: str) -> ModelFolder:
    """The model folder as nnU-Net names it; for `Trainer` nnU-Net's name is used, so that both tools find it."""
    trainer = NNUNET_TRAINER if trainer_class is Trainer else trainer_class.__name__
    return ModelFolder.named(results_folder, trainer=trainer, plans=plan.plans_name, configuration=configuration)


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
    checkpoint: Path | None = None,
    accept_plan: bool = False,
    monitor: Monitor | None = None,
    loader_workers: int | None = None,
    force: bool = False,
) -> TrainingOutcome:
    """Train, validate and write nnU-Net's files into the fold's folder.

    Args:
        plan: of the data set.
        configuration: name in the plan, such as `3d_fullres`.
        fold: number of the split, or "all" to train and validate on every case.
        preprocessed_folder: of the data set (`preprocessed/DatasetXXX_Name`).
        results_folder: of the data set (`results/DatasetXXX_Name`).
        trainer_class: `Trainer` or a class that inherits it.
        flags: settings that override class and plan, by the names of `planning.budget.SETTING_NAMES`, and `recipe`.
        device: to train on; the CPU by default.
        resume: continue from the newest undamaged checkpoint of the fold. Otherwise an earlier training is moved
            aside.
        checkpoint: file of this configuration and fold to continue from instead. Newer files are moved aside.
        accept_plan: continue although the plan has changed, if the weights still fit it (patch size, ...).
        monitor: receives the events.
        loader_workers: processes that load batches; by default chosen from the number of cores.
        force: try a batch that cannot fit the memory that there is.

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
    trainer = _make_trainer(trainer_class, plan, configuration, fold, description, device)
    plan = replace(trainer.plan, where=plan.where)  # a user's class may have changed it
    task = Task(plan, plan.configuration(configuration), description)
    refuse_other_preprocessing(store.folder, task)
    reader = reader_named(plan.image_reader_writer)
    require_usable_cases(store, split.val, reader=reader, file_ending=description.file_ending)
    model = model_folder_of(results_folder, trainer_class, plan, configuration)
    model.path.mkdir(parents=True, exist_ok=True)
    folder = model.fold(fold)
    with _locked(model.lock_file(fold), folder.path):
        start = choose_start(folder, configuration, resume=resume, chosen=checkpoint)
        accepted = refuse_other_plan(task, model=model, fold=fold, start=start, accept=accept_plan)
        moved = None if start is not None and start.in_place else _move_aside(folder)
        folder.path.mkdir(exist_ok=moved is None)  # only this may be replaced when the earlier training is restored
        with _put_back_if_refused(moved, folder.path):
            trainer.prepare(
                store=store,
                split=split,
                output_folder=folder.path,
                flags=flags,
                resumed=None if start is None else start.checkpoint.settings,
                monitor=MonitorGroup([monitor or SilentMonitor(), JsonLinesMonitor(folder.log)]),
                loader_workers=_loader_workers(device) if loader_workers is None else loader_workers,
                force=force,
            )
            if start is not None:
                _go_on_from(start, trainer)
        _write_model_files(trainer, preprocessed_folder, model)
        _announce(trainer, start=start, moved=moved, accepted=accepted)
        start_from = None if start is None else start.path
        del start  # the trainer has its weights and optimizer state now
        with kept_folder(folder.path), stop_on_signals() as stop:
            return _run(trainer, model.path, preprocessed_folder / "gt_segmentations", start_from, stop)


def _go_on_from(start: Start, trainer: Trainer) -> None:
    trainer.restore(start.checkpoint)
    if not start.in_place:
        start.checkpoint.write(trainer.output_folder / LATEST)


def _run(
    trainer: Trainer, model_folder: Path, references: Path, start_from: Path | None, stop: StopRequest
) -> TrainingOutcome:
    fold_folder = trainer.output_folder
    trained = start_from == fold_folder / FINAL and trainer.current_epoch >= trainer.num_epochs
    if not trained and not run_training(trainer, stop):
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
                expected=f"preprocessed cases of configuration '{configuration}'",
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
    """nnU-Net only warns, too, as some users hold cases out only to monitor the loss."""
    overlap = split.overlap
    return (
        f"Warning: {len(overlap)} of {len(split.val)} validation cases are also training cases ({some(overlap)}), so "
        "their scores do not measure generalisation. Remove them from 'train' or 'val' of this fold in "
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
                expected="a fold that no other process is training",
                got=f"a lock on {lock_file} that another process holds",
                remedy="Wait for it to end, or stop it; that releases the lock.",
            )
        ) from error
    try:
        yield
    finally:
        lock.release()


def _move_aside(folder: FoldFolder) -> Path | None:
    """Rename the folder of an earlier training of this fold."""
    if not folder.checkpoints():
        folder.log.unlink(missing_ok=True)
        return None
    sweep_once(folder.path.absolute())
    return folder.path.rename(folder.name_if_moved_aside())


@contextmanager
def _put_back_if_refused(moved: Path | None, fold_folder: Path) -> Iterator[None]:
    """Restore an earlier training if the new one cannot start: a mistyped setting costs nothing."""
    try:
        yield
    except Exception:
        if moved is not None:
            shutil.rmtree(fold_folder)
            moved.rename(fold_folder)
        raise


def _loader_workers(device: torch.device) -> int:
    cores = available_cores()
    # On the CPU the network needs the cores itself; one worker hides the loading time.
    return min(cores - 1, 1) if device.type == "cpu" else min(cores, MAX_LOADER_WORKERS)


def _write_model_files(trainer: Trainer, preprocessed_folder: Path, model: ModelFolder) -> None:
    trainer.plan.write(model.plans)
    trainer.description.write(model.dataset)
    fingerprint = preprocessed_folder / "dataset_fingerprint.json"
    if fingerprint.is_file():
        with atomic_path(model.path / fingerprint.name) as copy:
            shutil.copyfile(fingerprint, copy)
    settings = {**trainer.budget.to_json(len(trainer.split.train)), "environment": _environment(trainer)}
    write_json_atomic(model.fold(trainer.fold).settings, settings)
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


def _announce(trainer: Trainer, *, start: Start | None, moved: Path | None, accepted: Sequence[PlanChange]) -> None:
    budget = trainer.budget
    for problem in () if start is None else start.damaged:
        trainer.monitor.event("damaged_checkpoint", {"problem": problem})
    trainer.monitor.event(
        "start" if start is None else "resume",
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
            "from_checkpoint": None if start is None else str(start.path),
            "accepted_plan_changes": [str(change) for change in accepted],
            "earlier_training_moved_to": None if moved is None else str(moved),
        },
    )
    if trainer.fold != "all" and trainer.split.overlap:
        trainer.monitor.event("message", {"text": _warning_of_overlap(trainer.split)})
