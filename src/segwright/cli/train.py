"""`segwright train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import (
    DEFAULT_PLANS,
    BatchSizeOption,
    DatasetArgument,
    DeviceOption,
    EpochsOption,
    Fold,
    IterationsOption,
    LearningRateOption,
    PlansOption,
    RecipeOption,
    SeedOption,
    TrainerOption,
    ValIterationsOption,
    WorkspaceOption,
    choose_device,
    locate,
    parse_fold,
    read_plan,
    trainer_class_of,
)

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation
    from segwright.planning import Plan
    from segwright.training.run import TrainingOutcome

INTERRUPTED = 130


def train(
    dataset: DatasetArgument,
    configuration: Annotated[
        str, typer.Argument(metavar="CONFIGURATION", help="Configuration of the plan, such as 3d_fullres.")
    ],
    fold: Annotated[str, typer.Argument(metavar="FOLD", help="Number of the split to hold out, or all.")],
    plans: PlansOption = DEFAULT_PLANS,
    trainer: TrainerOption = None,
    epochs: EpochsOption = None,
    iterations_per_epoch: IterationsOption = None,
    val_iterations_per_epoch: ValIterationsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    recipe: RecipeOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    resume: Annotated[bool, typer.Option("--continue", help="Go on from the last checkpoint.")] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=0, help="Processes that load batches. Default: as the cores allow."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> int:
    """Train one configuration on one fold, and validate it.

    Ctrl-C saves everything; the same command with --continue goes on. What the command line does not set comes from
    the trainer class, then the plan, then nnU-Net's defaults.

    \b
    Examples:
      segwright train 4 3d_fullres 0
      segwright train 4 3d_fullres 0 --epochs 100 --batch-size 4
      segwright train 4 3d_fullres 0 --trainer my_trainer.py:MyTrainer
      segwright train 4 3d_fullres 0 --continue
    """
    terminal = Terminal.open()
    location = locate(dataset, workspace)
    outcome = train_fold(
        terminal,
        location,
        read_plan(location, plans),
        configuration,
        parse_fold(fold),
        trainer=trainer,
        flags=training_flags(
            epochs, iterations_per_epoch, val_iterations_per_epoch, batch_size, lr, seed=seed, recipe=recipe
        ),
        device=device,
        resume=resume,
        workers=workers,
    )
    return finish(terminal, outcome, again=[*(word for word in sys.argv[1:] if word != "--continue"), "--continue"])


def training_flags(
    epochs: int | None,
    iterations_per_epoch: int | None,
    val_iterations_per_epoch: int | None,
    batch_size: int | None,
    lr: float | None,
    *,
    seed: int | None = None,
    recipe: str | None = None,
) -> dict[str, Any]:
    """Settings by their names; None was not given."""
    return {
        "num_epochs": epochs,
        "num_iterations_per_epoch": iterations_per_epoch,
        "num_val_iterations_per_epoch": val_iterations_per_epoch,
        "batch_size": batch_size,
        "initial_lr": lr,
        "seed": seed,
        "recipe": recipe,
    }


def train_fold(
    terminal: Terminal,
    location: DatasetLocation,
    plan: Plan,
    configuration: str,
    fold: Fold,
    *,
    trainer: str | None = None,
    flags: Mapping[str, Any],
    device: str | None = None,
    resume: bool = False,
    workers: int | None = None,
) -> TrainingOutcome:
    """Train, showing how it goes."""
    plan.configuration(configuration)
    from segwright.cli.training_view import TrainingView
    from segwright.dataset import DatasetDescription
    from segwright.training.run import train as run_training

    labels = DatasetDescription.read(location.preprocessed / "dataset.json").labels
    trainer_class = trainer_class_of(trainer)
    with TrainingView(terminal, [labels.name_of(value) for value in labels.classes]) as view:
        return run_training(
            plan,
            configuration,
            fold,
            preprocessed_folder=location.preprocessed,
            results_folder=location.results,
            trainer_class=trainer_class,
            flags=flags,
            device=choose_device(device),
            resume=resume,
            monitor=view,
            loader_workers=workers,
        )


def finish(terminal: Terminal, outcome: TrainingOutcome, *, again: Sequence[str]) -> int:
    """Say how it ended; `again` are the words of the command that goes on after Ctrl-C."""
    if not outcome.finished or outcome.summary is None:
        terminal.note(f"Stopped; everything is saved. Go on with: segwright {shlex.join(again)}")
        return INTERRUPTED
    dice = outcome.summary.foreground_mean["Dice"]
    terminal.answer(f"Model: {outcome.model_folder}")
    terminal.answer(f"mean foreground Dice {dice:.4f} on {len(outcome.summary.metric_per_case)} validation cases")
    return 0
