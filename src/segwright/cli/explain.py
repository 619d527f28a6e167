"""`segwright explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import (
    DEFAULT_PLANS,
    BatchSizeOption,
    DatasetArgument,
    EpochsOption,
    IterationsOption,
    JsonOption,
    LearningRateOption,
    PlansOption,
    RecipeOption,
    TrainerOption,
    ValIterationsOption,
    WorkspaceOption,
    locate,
    read_plan,
    trainer_class_of,
)
from segwright.cli.train import training_flags
from segwright.errors import MissingFileError, message

if TYPE_CHECKING:
    from segwright.planning import Plan
    from segwright.planning.budget import Budget


def explain(
    dataset: DatasetArgument,
    configurations: Annotated[
        list[str] | None,
        typer.Option("--configuration", "-c", metavar="NAME", help="May be given several times. Default: all."),
    ] = None,
    plans: PlansOption = DEFAULT_PLANS,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", metavar="GB", help="GPU memory that was planned for.")
    ] = None,
    trainer: TrainerOption = None,
    epochs: EpochsOption = None,
    iterations_per_epoch: IterationsOption = None,
    val_iterations_per_epoch: ValIterationsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    recipe: RecipeOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say why the plan is as it is, and what training would be.

    Tells of spacing, patch, depth, batch size and the memory they need, and of iterations, patches and passes over
    the cases. Takes the settings of train.

    \b
    Examples:
      segwright explain 4
      segwright explain 4 -c 3d_fullres --epochs 100 --batch-size 4
    """
    from segwright.dataset import DatasetDescription
    from segwright.fingerprint import FILE_NAME, Fingerprint
    from segwright.planning import explain_plan
    from segwright.planning.budget import resolve_budget

    terminal = Terminal.open()
    location = locate(dataset, workspace)
    plan = read_plan(location, plans)
    fingerprint = Fingerprint.read(_existing(location.preprocessed / FILE_NAME))
    description = DatasetDescription.read(_existing(location.preprocessed / "dataset.json"))
    flags = training_flags(epochs, iterations_per_epoch, val_iterations_per_epoch, batch_size, lr, recipe=recipe)
    answers = []
    for name in configurations or plan.configuration_names:
        explanation = explain_plan(plan, fingerprint, description, name, gpu_memory_gb=gpu_memory)
        budget = resolve_budget(
            plan=plan.configuration(name).raw,
            trainer=_class_settings(trainer, plan, name, description.raw),
            flags=flags,
        )
        cases = training_cases(location.preprocessed, len(fingerprint.spacings_mm))
        if as_json:
            answers.append({**explanation.to_json(), "budget": budget.to_json(cases)})
            continue
        terminal.answer(f"\n{name}\n{'=' * len(name)}")
        for paragraph in explanation.paragraphs:
            terminal.answer(f"{paragraph.topic}: {paragraph.text}")
        for difference in explanation.differences:
            terminal.answer(
                f"Edited: {difference.key} is {difference.in_plan}; the planner would say {difference.planned}."
            )
        show_budget(terminal, budget, cases)
    if as_json:
        terminal.json(answers)
    return 0


def training_cases(preprocessed: Path, num_cases: int) -> int:
    """Training cases of the first fold: of the splits file, or of the five folds that would be made."""
    from segwright.dataset import read_splits

    path = preprocessed / "splits_final.json"
    if path.is_file():
        return len(read_splits(path)[0].train)
    return num_cases - -(-num_cases // 5) if num_cases >= 5 else num_cases


def show_budget(terminal: Terminal, budget: Budget, cases: int) -> None:
    """Print the budget as a table, and in a sentence what it means."""
    terminal.table(["setting", "value", "from"], [list(row) for row in budget.rows()], title="Budget", answer=True)
    terminal.answer(
        f"An epoch is {budget.value('num_iterations_per_epoch'):,} iterations, whatever the size of the data set, so "
        f"the training is {budget.total_iterations:,} iterations: {budget.samples:,} patches, as many as "
        f"{budget.passes_over(cases):,.1f} passes over the {cases} training cases."
    )


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    raise MissingFileError(
        message(
            path, expected="a file that `segwright plan` writes", got="no such file", remedy="Plan the data set first."
        )
    )


def _class_settings(trainer: str | None, plan: Plan, configuration: str, dataset_json: Any) -> dict[str, Any]:
    if trainer is None:
        return {}
    import torch

    trainer_class = trainer_class_of(trainer)
    return trainer_class(plan.raw, configuration, 0, dataset_json, device=torch.device("cpu")).user_settings()
