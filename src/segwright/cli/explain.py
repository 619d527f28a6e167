"""`segwright explain`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.console import Terminal
from segwright.cli.explain_trials import Asked, Tried, try_out
from segwright.cli.options import (
    DEFAULT_PLANS,
    BatchSizeOption,
    DatasetArgument,
    DeviceOption,
    EpochsOption,
    IterationsOption,
    JsonOption,
    LearningRateOption,
    PlansOption,
    RecipeOption,
    TrainerOption,
    ValIterationsOption,
    WorkspaceOption,
    choose_device,
    locate,
    read_plan,
)
from segwright.cli.train import training_flags
from segwright.errors import MissingFileError, PlanError, SettingsError, message

if TYPE_CHECKING:
    from segwright.explain.edits import Edited
    from segwright.explain.explanation import Explanation
    from segwright.explain.what_if import WhatIf
    from segwright.planning import Plan
    from segwright.planning.budget import Budget
    from segwright.task import Task


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
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What would this edit of the plan do? May be given several times; needs one -c. Changes nothing.",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="NAME", help="Add what --set makes to the plans file, as a new configuration."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Add a paragraph on each decision below its table.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Take real training steps on the device: memory and seconds.")
    ] = False,
    max_batch: Annotated[
        bool, typer.Option("--max-batch", help="Search the largest batch size that fits the device, by real steps.")
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", metavar="GB", min=0.1, max=1e6, help="Memory to stay within. Default: what is free there."
        ),
    ] = None,
    device: DeviceOption = None,
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
    """Say why the plan is as it is, what training would be, and what an edit of the plan would do.

    A table for each configuration: spacing, patch, depth, features, batch size, normalisation and low resolution, each
    with its reason; then the budget and the memory of a training step. Takes the settings of train. With --set it says
    instead what other values would do: memory, hours, passes over the data, and what else to change.

    \b
    Examples:
      segwright explain 4
      segwright explain 4 -c 3d_fullres --epochs 100 --batch-size 4
      segwright explain 4 -c 3d_fullres --measure
      segwright explain 4 -c 3d_fullres --max-batch --memory 8
      segwright explain 4 -c 3d_fullres --set batch_size=4 --set patch_size=96,96,96
      segwright explain 4 -c 3d_fullres --set features_per_stage=16 --save 3d_small
    """
    from segwright.dataset import DatasetDescription
    from segwright.fingerprint import FILE_NAME, Fingerprint

    terminal = Terminal.open()
    if not (measure or max_batch):
        _refuse_limits_of_nothing(memory=memory, device=device)
    location = locate(dataset, workspace)
    plan = read_plan(location, plans)
    asked = Asked(
        terminal=terminal,
        location=location,
        plan=plan,
        fingerprint=Fingerprint.read(_existing(location.preprocessed / FILE_NAME)),
        description=DatasetDescription.read(_existing(location.preprocessed / "dataset.json")),
        gpu_memory_gb=gpu_memory,
        flags=training_flags(epochs, iterations_per_epoch, val_iterations_per_epoch, batch_size, lr, recipe=recipe),
        trainer=trainer,
        measure=measure,
        max_batch=max_batch,
        memory_bytes=None if memory is None else int(memory * (1 << 30)),
        device=str(choose_device(device)) if measure or max_batch else None,
    )
    names = list(configurations or _all_configurations(plan))
    if edits:
        answers = [_answer_edit(asked, names, edits, save, as_json=as_json)]
    else:
        _refuse_save_alone(save)
        answers = _explain_all(asked, names, verbose=verbose, as_json=as_json)
    if as_json:
        terminal.json(answers)
    return 0


def _all_configurations(plan: Plan) -> Sequence[str]:
    if plan.configuration_names:
        return plan.configuration_names
    raise PlanError(
        message(
            f"{plan.where}, key 'configurations'",
            expected="a configuration to explain",
            got="none",
            remedy="Let the planner write the file again: segwright plan.",
        )
    )


def _explain_all(asked: Asked, names: Sequence[str], *, verbose: bool, as_json: bool) -> list[dict[str, Any]]:
    """Explain each configuration. The memory of a step comes last, as torch has to be imported for it."""
    from segwright.explain.explanation import explain_decisions

    answers: list[dict[str, Any]] = []
    explained: list[tuple[Task, Explanation, Budget]] = []
    said: dict[tuple[str, str], str] = {}
    for name in names:
        task = asked.task(name)
        explanation = explain_decisions(task, asked.fingerprint, gpu_memory_gb=asked.gpu_memory_gb)
        budget = asked.budget(task)
        if not as_json:
            _show(asked, explanation, budget, said, like=explained[0][-1] if explained else None, verbose=verbose)
        explained.append((task, explanation, budget))
        answers.append(_tried(asked, task, budget, as_json=as_json))
    with_memory = _count_memory(asked, explained, said, verbose=verbose, as_json=as_json)
    return [{**whole, **answer} for whole, answer in zip(with_memory, answers, strict=True)]


def _show(
    asked: Asked,
    explanation: Explanation,
    budget: Budget,
    said: dict[tuple[str, str], str],
    *,
    like: Budget | None,
    verbose: bool,
) -> None:
    """Print the decisions of a configuration and its budget; `like` is that of the first, which was printed."""
    from segwright.cli.explain_view import show_budget, show_paragraphs, show_rows

    data = explanation.paragraphs[0]
    if (data.topic, data.text) not in said:
        asked.terminal.answer(f"{explanation.dataset_name}: {data.text}\n")
        said[data.topic, data.text] = explanation.configuration
    show_rows(asked.terminal, explanation)
    if verbose:
        show_paragraphs(asked.terminal, replace(explanation, paragraphs=explanation.paragraphs[1:]), said)
    show_budget(asked.terminal, budget, asked.cases, like=like)
    asked.terminal.answer("")


def _tried(asked: Asked, task: Task, budget: Budget, *, as_json: bool) -> dict[str, Any]:
    """Take the real steps that were asked for, and say how long the training would take."""
    from segwright.explain.cost import batch_work
    from segwright.planning.wording import duration

    tried = try_out(asked, task, budget)
    speed = tried.speed
    hours = None if speed is None else speed.hours(batch_work(task, int(budget.value("batch_size"))), budget)
    if not as_json:
        tried.show(asked.terminal, asked.cases)
        if speed is not None and hours is not None:
            asked.terminal.answer(f"Time: the training takes about {duration(hours)} ({speed.source}).\n")
    return {
        "budget": budget.to_json(asked.cases),
        **tried.to_json(asked.cases),
        "speed": None if speed is None else speed.to_json(),
        "hours": hours,
    }


def _count_memory(
    asked: Asked,
    explained: Sequence[tuple[Task, Explanation, Budget]],
    said: dict[tuple[str, str], str],
    *,
    verbose: bool,
    as_json: bool,
) -> list[dict[str, Any]]:
    """Count what the steps hold, print it in a table, and return the whole explanations for programs."""
    if all(explanation.size is None for _, explanation, _ in explained):
        return [explanation.to_json() for _, explanation, _ in explained]
    from segwright.cli.explain_view import fits_here, show_paragraphs
    from segwright.explain.cost import step_flags
    from segwright.explain.explanation import with_step_memory
    from segwright.explain.fit import memory_here, refuse_absurd
    from segwright.planning.wording import gigabytes

    here = memory_here()
    full = [with_step_memory(explanation, task, flags=step_flags(budget)) for task, explanation, budget in explained]
    counted = [each for each in full if each.steps]
    if not as_json:
        rows = [
            [
                each.configuration,
                *(gigabytes(each.steps[device].total) for device in ("cuda", "cpu")),
                fits_here(each.steps, here, each.numbers["gpu_memory_gb"]),
            ]
            for each in counted
        ]
        columns = ["configuration", "GPU, mixed precision", "CPU", ""]
        asked.terminal.table(columns, rows, title="Memory of a training step", answer=True)
        for each, (_, before, _) in zip(full, explained, strict=True):
            if verbose:
                new = each.paragraphs[len(before.paragraphs) :]
                show_paragraphs(asked.terminal, replace(each, paragraphs=new), said)
    for each, (_, _, budget) in zip(full, explained, strict=True):
        if each.steps:
            needed = each.steps["cuda"].total
            refuse_absurd(needed, f"batch_size {budget.value('batch_size')} of '{each.configuration}'")
    return [
        {**each.to_json(), "fits_here": {device: each.steps[device].total <= there for device, there in here.items()}}
        if each.steps
        else each.to_json()
        for each in full
    ]


def _answer_edit(
    asked: Asked, names: Sequence[str], texts: Sequence[str], save: str | None, *, as_json: bool
) -> dict[str, Any]:
    from segwright.explain.edits import apply_edits, parse_edits
    from segwright.explain.fit import refuse_absurd
    from segwright.explain.what_if import what_if

    edits = parse_edits(texts)
    if len(names) != 1:
        raise SettingsError(
            message(
                "--set",
                expected="one configuration to edit",
                got=f"{len(names)}: {', '.join(names)}",
                remedy=f"Name one with -c, such as -c {names[-1]}.",
            )
        )
    (name,) = names
    if save is not None:
        _check_name(asked.plan, save)
    edited = apply_edits(
        asked.task(name), edits, asked.fingerprint, name=_free_name(asked.plan, name) if save is None else save
    )
    budgets = asked.budget(edited.before), asked.budget(edited.after)
    _refuse_overruled(edited, budgets[1])
    tried = try_out(asked, edited.after, budgets[1], inherits_from=edited.before)
    answer = what_if(
        edited,
        asked.fingerprint,
        budgets=budgets,
        num_training_cases=asked.cases,
        gpu_memory_gb=asked.gpu_memory_gb,
        speed=tried.speed,
    )
    refuse_absurd(answer.then.step_cuda.total, f"--set, {', '.join(texts)}")
    path = _save(asked, edited) if save is not None else None
    if not as_json:
        _show_edit(asked, answer, tried, path)
    return {
        "configuration": name,
        "what_if": answer.to_json(),
        "budget": budgets[1].to_json(asked.cases),
        **tried.to_json(asked.cases),
        "saved_to": None if path is None else str(path),
    }


def _show_edit(asked: Asked, answer: WhatIf, tried: Tried, saved_to: Path | None) -> None:
    from segwright.cli.explain_view import show_snippet, show_what_if

    show_what_if(asked.terminal, answer)
    tried.show(asked.terminal, asked.cases)
    if saved_to is None:
        show_snippet(asked.terminal, answer)
    else:
        asked.terminal.answer(f"\nSaved as configuration {answer.edited.after.configuration.name} in {saved_to}.")


def _refuse_save_alone(save: str | None) -> None:
    if save is not None:
        raise SettingsError(
            message("--save", expected="edits to save", got="no --set", remedy="Give --set KEY=VALUE with it.")
        )


def _refuse_limits_of_nothing(**given: object) -> None:
    """Refuse an option that says where or how to take steps when none are asked for."""
    for option, value in given.items():
        if value is not None:
            raise SettingsError(
                message(
                    f"--{option}",
                    expected="steps to take on the device",
                    got="neither --measure nor --max-batch",
                    remedy="Give one of them with it.",
                )
            )


def _refuse_overruled(edited: Edited, budget: Budget) -> None:
    """Refuse an edit of a setting that something else decides: its answer would be that of another value."""
    sources = {setting.name: setting.source for setting in budget.settings.values()}
    for key, source in {**sources, "recipe": budget.recipe_source}.items():
        if key in edited.edits and source != "plan":
            raise SettingsError(
                message(
                    f"--set, key '{key}'",
                    expected="a setting that is not given elsewhere too",
                    got=f"another value from the {source}, which overrules the plan",
                    remedy="Leave one of them out.",
                )
            )


def _free_name(plan: Plan, name: str) -> str:
    """A name for the edited configuration that the plans file does not have, where an earlier answer was pasted."""
    names = (f"{name}_edited{number}" for number in ("", *range(2, len(plan.configuration_names) + 2)))
    return next(free for free in names if free not in plan.configuration_names)


def _check_name(plan: Plan, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise SettingsError(
            message(
                "--save",
                expected="a name of letters, digits, '_', '-' and '.', as folders are named by it",
                got=repr(name),
                remedy="Try --save 3d_small.",
            )
        )
    if name in plan.configuration_names:
        raise SettingsError(
            message(
                "--save",
                expected="a name that the plans file does not have yet",
                got=repr(name),
                remedy="Choose another; what is there is never overwritten.",
            )
        )


def _save(asked: Asked, edited: Edited) -> Path:
    path = Path(asked.plan.where)
    edited.after.plan.write(path)
    return path


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    raise MissingFileError(
        message(
            path, expected="a file that `segwright plan` writes", got="no such file", remedy="Plan the data set first."
        )
    )
