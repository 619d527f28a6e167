"""The checkpoint that a training continues from, which must be undamaged and have been made with the current plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segwright.dataset import DatasetDescription
from segwright.errors import CheckpointError, message
from segwright.interop.checkpoint import Checkpoint
from segwright.interop.plan_changes import PlanChange, changes_since, plan_changes, refuse_changes
from segwright.planning.plan import Plan
from segwright.results import Fold, FoldFolder, ModelFolder
from segwright.task import Task


@dataclass(frozen=True)
class Start:
    """The checkpoint that a training continues from.

    `in_place` says whether the fold's folder is kept, which it is not if a checkpoint other than the newest was chosen.
    `damaged` describes the damage of newer ones that were skipped.
    """

    path: Path
    checkpoint: Checkpoint
    in_place: bool = True
    damaged: tuple[str, ...] = ()


def choose_start(folder: FoldFolder, configuration: str, *, resume: bool, chosen: Path | None) -> Start | None:
    """Read the chosen checkpoint, or to `resume` the newest undamaged one; None starts from scratch.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged (all of them, if there are several), holds no training, or another one.
    """
    start = _chosen(folder, chosen) if chosen is not None else _newest_whole(folder) if resume else None
    if start is not None:
        _refuse_foreign(start.checkpoint, configuration=configuration, fold=folder.fold)
    return start


def _chosen(folder: FoldFolder, path: Path) -> Start:
    checkpoint = _read(path)
    newest = next(iter(folder.checkpoints()), None)
    if newest is not None and newest.samefile(path):
        return Start(newest, checkpoint)
    return Start(path, checkpoint, in_place=False)


def _newest_whole(folder: FoldFolder) -> Start | None:
    damaged: list[str] = []
    for path in folder.checkpoints():
        try:
            return Start(path, _read(path), damaged=tuple(damaged))
        except CheckpointError as error:
            damaged.append(str(error))
    if damaged:
        raise CheckpointError(
            message(
                folder.path,
                expected="a checkpoint to continue from",
                got=" ".join(damaged),
                remedy="Restore one from a backup, give one with --checkpoint, or start again without --continue.",
            )
        )
    return None


def _read(path: Path) -> Checkpoint:
    checkpoint = Checkpoint.read(path)
    _ = checkpoint.progress  # raises if it holds no training state
    return checkpoint


def _refuse_foreign(checkpoint: Checkpoint, *, configuration: str, fold: Fold) -> None:
    """Check that a checkpoint is of this configuration and fold: another one was trained on the validation cases."""
    trained = (checkpoint.configuration, checkpoint.fold or str(fold))
    if trained != (configuration, str(fold)):
        raise CheckpointError(
            message(
                checkpoint.where,
                expected=f"a checkpoint of configuration '{configuration}', fold {fold}",
                got=f"one of '{trained[0]}', fold {trained[1]}",
                remedy="Give the configuration and fold it was trained with, or start from scratch without --continue.",
            )
        )


def refuse_other_plan(
    task: Task,
    *,
    model: ModelFolder,
    fold: Fold,
    start: Start | None,
    accept: bool,
) -> tuple[PlanChange, ...]:
    """Compare the plan with that of the checkpoint and of the other folds, whose plans.json will be replaced.

    With `accept`, changes that do not affect the meaning of the weights are returned.

    Raises:
        PlanError: naming the keys that differ.
    """
    found: list[PlanChange] = []

    def compare(changes: tuple[PlanChange, ...], made: str) -> None:
        where = f"{task.plan.where}, configuration '{task.configuration.name}'"
        _refuse(changes, where=where, made=made, accept=accept)
        found.extend(change for change in changes if change not in found)

    if start is not None:
        compare(changes_since(start.checkpoint, task), str(start.path))
    others = [other for other in model.folds() if other.fold != fold and other.checkpoints()]
    if others and model.plans.is_file() and model.dataset.is_file():
        trained = Task.of(Plan.read(model.plans), task.configuration.name, DatasetDescription.read(model.dataset))
        compare(plan_changes(trained, task), f"{others[0].path} of the same model")
    return tuple(found)


def _refuse(changes: tuple[PlanChange, ...], *, where: str, made: str, accept: bool) -> None:
    harmless = all(change.is_harmless for change in changes)
    if accept and harmless:
        return
    remedies = "Restore the values, or give the plans file another name and 'plans_name' to train a separate model."
    if harmless:
        remedies += " The weights fit both: to continue with the new values, add --accept-plan."
    refuse_changes(changes, where=where, made=made, remedies=remedies)
