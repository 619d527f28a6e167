"""`segwright train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import (
    DEFAULT_PLANS,
    AcceptPlanOption,
    BatchSizeOption,
    DatasetArgument,
    DeviceOption,
    EpochsOption,
    ForceOption,
    IterationsOption,
    LearningRateOption,
    LoaderWorkersOption,
    PlansOption,
    RecipeOption,
    SeedOption,
    TrainerOption,
    ValIterationsOption,
    WorkspaceOption,
    choose_device,
    locate,
    read_plan,
    trainer_class_of,
)
from segwright.cli.watch import TerminalWatch
from segwright.results import parse_fold

if TYPE_CHECKING:
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
    resume: Annotated[bool, typer.Option("--continue", help="Continue from the last checkpoint.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Continue from this checkpoint of the same fold."),
    ] = None,
    accept_plan: AcceptPlanOption = False,
    workers: LoaderWorkersOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> int:
    """Train one configuration on one fold, and validate it.

    Ctrl-C saves a checkpoint; run the same command with --continue to resume. Settings not given on the command line
    come from the trainer class, then the plan, then nnU-Net's defaults.

    \b
    Examples:
      segwright train 4 3d_fullres 0
      segwright train 4 3d_fullres 0 --epochs 100 --batch-size 4
      segwright train 4 3d_fullres 0 --trainer my_trainer.py:MyTrainer
      segwright train 4 3d_fullres 0 --continue
    """
    terminal = Terminal.open()
    location = locate(dataset, workspace)
    plan = read_plan(location, plans)
    plan.configuration(configuration)
    from segwright.steps.train import train_fold

    outcome = train_fold(
        location,
        plan,
        configuration,
        parse_fold(fold),
        trainer_class=trainer_class_of(trainer),
        flags=training_flags(
            epochs, iterations_per_epoch, val_iterations_per_epoch, batch_size, lr, seed=seed, recipe=recipe
        ),
        device=choose_device(device),
        resume=resume,
        checkpoint=checkpoint,
        accept_plan=accept_plan,
        workers=workers,
        force=force,
        watch=TerminalWatch(terminal),
    )
    return finish(terminal, outcome, again=_words_to_go_on(sys.argv[1:]))


def _words_to_go_on(words: Sequence[str]) -> list[str]:
    """The same command with --continue, which resumes from the newest checkpoint instead of the one given."""
    named = [word == "--checkpoint" for word in ["", *words]]
    return [
        *(
            word
            for word, is_file in zip(words, named, strict=False)
            if not is_file and word not in ("--continue", "--checkpoint") and not word.startswith("--checkpoint=")
        ),
        "--continue",
    ]


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
    """Settings by name; None means not given."""
    return {
        "num_epochs": epochs,
        "num_iterations_per_epoch": iterations_per_epoch,
        "num_val_iterations_per_epoch": val_iterations_per_epoch,
        "batch_size": batch_size,
        "initial_lr": lr,
        "seed": seed,
        "recipe": recipe,
    }


def finish(terminal: Terminal, outcome: TrainingOutcome, *, again: Sequence[str]) -> int:
    """Print the outcome; `again` is the command that resumes after Ctrl-C."""
    if not outcome.finished or outcome.summary is None:
        terminal.note(f"Stopped; a checkpoint is saved. Continue with: segwright {shlex.join(again)}")
        return INTERRUPTED
    dice = outcome.summary.foreground_mean["Dice"]
    terminal.answer(f"Model: {outcome.model_folder}")
    terminal.answer(f"mean foreground Dice {dice:.4f} on {len(outcome.summary.metric_per_case)} validation cases")
    return 0
