"""`segwright run`: every step, one after the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal, in_words
from segwright.cli.evaluate import show_scores
from segwright.cli.options import (
    BatchSizeOption,
    DatasetArgument,
    DeviceOption,
    EpochsOption,
    ForceOption,
    GroupByOption,
    IterationsOption,
    LearningRateOption,
    RecipeOption,
    SeedOption,
    TrainerOption,
    ValIterationsOption,
    WorkersOption,
    WorkspaceOption,
    choose_device,
    locate,
    refuse_bad_settings,
    trainer_class_of,
)
from segwright.cli.plan import GpuMemoryOption, PlannerOption
from segwright.cli.train import finish, training_flags
from segwright.cli.watch import TerminalWatch
from segwright.results import parse_fold

if TYPE_CHECKING:
    from segwright.report import StepTime


def run(
    dataset: DatasetArgument,
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", "-c", metavar="NAME", help="Default: 3d_fullres if planned, otherwise 2d."),
    ] = None,
    fold: Annotated[
        str, typer.Option("--fold", "-f", metavar="FOLD", help="Number of the split to hold out, or all.")
    ] = "0",
    planner: PlannerOption = "ExperimentPlanner",
    gpu_memory: GpuMemoryOption = None,
    group_by: GroupByOption = None,
    trainer: TrainerOption = None,
    epochs: EpochsOption = None,
    iterations_per_epoch: IterationsOption = None,
    val_iterations_per_epoch: ValIterationsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    recipe: RecipeOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
) -> int:
    """Run every step, from check to report.

    If there is an imagesTs, it is predicted as well, and evaluated if there is a labelsTs.

    Finished steps are skipped, and an interrupted training continues.

    \b
    Examples:
      segwright run Dataset004_Hippocampus
      segwright run 4 -c 2d --epochs 50
      segwright run 27 --group-by '(patient[0-9]+)'
    """
    terminal = Terminal.open()
    location = locate(dataset, workspace)
    flags = training_flags(
        epochs, iterations_per_epoch, val_iterations_per_epoch, batch_size, lr, seed=seed, recipe=recipe
    )
    # Errors in the command are reported now, not after hours of preprocessing.
    chosen_fold = parse_fold(fold)
    refuse_bad_settings(flags)
    trainer_class, chosen_device = trainer_class_of(trainer), choose_device(device)
    from segwright.dataset import DatasetDescription
    from segwright.steps.run import run_dataset

    outcome = run_dataset(
        location,
        configuration=configuration,
        fold=chosen_fold,
        planner=planner,
        gpu_memory_gb=gpu_memory,
        group_by=group_by,
        trainer_class=trainer_class,
        flags=flags,
        device=chosen_device,
        workers=workers,
        force=force,
        environ=os.environ,
        watch=TerminalWatch(terminal),
    )
    if outcome.training.summary is None:
        return finish(terminal, outcome.training, again=sys.argv[1:])
    labels = DatasetDescription.read(location.raw / "dataset.json").labels
    terminal.answer(f"Validation cases of fold {fold}:")
    show_scores(terminal, outcome.training.summary, labels)
    if outcome.test is not None:
        terminal.answer("Test cases:")
        show_scores(terminal, outcome.test, labels)
    show_times(terminal, outcome.times)
    terminal.answer(f"Model: {outcome.model.path}")
    terminal.answer(f"Report: {outcome.page}")
    return 0


def show_times(terminal: Terminal, times: Sequence[StepTime]) -> None:
    """Print the time of each step."""
    terminal.table(["step", "time"], [[step.name, in_words(step.seconds)] for step in times], answer=True)
