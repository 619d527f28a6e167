"""`segwright explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.console import Terminal
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
    trainer_class_of,
)
from segwright.cli.train import training_flags
from segwright.errors import MissingFileError, SettingsError, message

if TYPE_CHECKING:
    from segwright.dataset import DatasetDescription, DatasetLocation
    from segwright.fingerprint import Fingerprint
    from segwright.planning import Explanation, Plan
    from segwright.planning.budget import Budget
    from segwright.planning.edits import Edited
    from segwright.planning.step_memory import StepMemory
    from segwright.planning.what_if import Speed, WhatIf
    from segwright.training.max_batch import LargestBatch
    from segwright.training.step_measurement import StepMeasurement

# of the memory that a step holds, a process takes this much: what the allocators of CPU and CUDA keep
KEPT_BY_ALLOCATOR = {"cpu": 1.4, "cuda": 1.1, "mps": 1.1}
LIBRARIES_BYTES = 350 << 20


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
    measure: Annotated[
        bool, typer.Option("--measure", help="Take real training steps on the device: memory and seconds.")
    ] = False,
    max_batch: Annotated[
        bool, typer.Option("--max-batch", help="Search the largest batch size that fits the device, by real steps.")
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option("--memory", metavar="GB", min=0.1, help="Memory to stay within. Default: what is free there."),
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

    Tells of spacing, patch, depth, features, batch size and the memory they need, and of iterations, patches and passes
    over the cases. Takes the settings of train. With --set it says instead what other values would do: fits or not,
    hours, passes, and what else to change.

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
    location = locate(dataset, workspace)
    plan = read_plan(location, plans)
    asked = _Asked(
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
    names = list(configurations or plan.configuration_names)
    if edits:
        answers = [_answer_edit(asked, names, edits, save, as_json=as_json)]
    else:
        _refuse_save_alone(save)
        answers = _explain_all(asked, names, as_json=as_json)
    if as_json:
        terminal.json(answers)
    return 0


@dataclass(frozen=True)
class _Asked:
    """What was asked, and the files that it is about. `device` is None where nothing is measured."""

    terminal: Terminal
    location: DatasetLocation
    plan: Plan
    fingerprint: Fingerprint
    description: DatasetDescription
    gpu_memory_gb: float | None
    flags: Mapping[str, Any]
    trainer: str | None
    measure: bool
    max_batch: bool
    memory_bytes: int | None
    device: str | None

    @property
    def cases(self) -> int:
        """Training cases of the first fold."""
        return training_cases(self.location.preprocessed, len(self.fingerprint.spacings_mm))

    def budget(self, plan: Plan, name: str, flags: Mapping[str, Any] | None = None) -> Budget:
        """The budget of a configuration."""
        from segwright.planning.budget import resolve_budget

        return resolve_budget(
            plan=plan.configuration(name).raw,
            trainer=_class_settings(self.trainer, plan, name, self.description.raw),
            flags=self.flags if flags is None else flags,
        )


def _explain_all(asked: _Asked, names: Sequence[str], *, as_json: bool) -> list[dict[str, Any]]:
    from segwright.planning import explain_plan

    answers: list[dict[str, Any]] = []
    told: dict[tuple[str, str], str] = {}
    for name in names:
        explanation = explain_plan(
            asked.plan, asked.fingerprint, asked.description, name, gpu_memory_gb=asked.gpu_memory_gb
        )
        budget = asked.budget(asked.plan, name)
        if not as_json:
            _show_paragraphs(asked.terminal, explanation, told)
            show_budget(asked.terminal, budget, asked.cases)
        measured, largest, speed = _try_out(asked, asked.plan, name, budget, as_json=as_json)
        hours = None if speed is None else speed.hours(_work(asked, asked.plan, name, budget), budget)
        if not as_json and speed is not None and hours is not None:
            from segwright.cli.explain_view import show_time

            show_time(asked.terminal, speed, hours)
        answers.append(
            {
                **explanation.to_json(),
                "budget": budget.to_json(asked.cases),
                "measurement": None if measured is None else measured.to_json(),
                "max_batch": None if largest is None else largest.to_json(),
                "speed": None if speed is None else speed.to_json(),
                "hours": hours,
            }
        )
    return answers


def _show_paragraphs(terminal: Terminal, explanation: Explanation, told: dict[tuple[str, str], str]) -> None:
    """Print an explanation, less what was said in the same words of a configuration before it."""
    name = explanation.configuration
    terminal.answer(f"\n{name}\n{'=' * len(name)}")
    same: dict[str, list[str]] = {}
    for paragraph in explanation.paragraphs:
        before = told.setdefault((paragraph.topic, paragraph.text), name)
        if before == name:
            terminal.answer(f"{paragraph.topic}: {paragraph.text}")
        else:
            same.setdefault(before, []).append(paragraph.topic)
    for before, topics in same.items():
        terminal.answer(f"As for {before}: {', '.join(topics)}.")


def _answer_edit(
    asked: _Asked, names: Sequence[str], texts: Sequence[str], save: str | None, *, as_json: bool
) -> dict[str, Any]:
    from segwright.planning.edits import apply_edits, parse_edits
    from segwright.planning.what_if import what_if

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
    edited = apply_edits(asked.plan, name, edits, name=save or f"{name}_edited")
    budgets = asked.budget(edited.plan, name), asked.budget(edited.plan, edited.name)
    if save is not None:
        _refuse_known_name(asked.plan, save)
    tried = _try_out(asked, edited.plan, edited.name, budgets[1], inherits_from=name, as_json=as_json)
    measured, largest, speed = tried
    answer = what_if(
        edited,
        asked.fingerprint,
        asked.description,
        budgets=budgets,
        num_training_cases=asked.cases,
        gpu_memory_gb=asked.gpu_memory_gb,
        speed=speed,
    )
    path = _save(asked, edited) if save is not None else None
    if not as_json:
        _show_edit(asked.terminal, answer, path)
    return {
        "configuration": name,
        "what_if": answer.to_json(),
        "budget": budgets[1].to_json(asked.cases),
        "measurement": None if measured is None else measured.to_json(),
        "max_batch": None if largest is None else largest.to_json(),
        "saved_to": None if path is None else str(path),
    }


def _show_edit(terminal: Terminal, answer: WhatIf, path: Path | None) -> None:
    from segwright.cli.explain_view import show_what_if

    show_what_if(terminal, answer, saved=path is not None)
    if path is not None:
        terminal.answer(f"\nSaved as configuration {answer.edited.name} in {path}.")


def _refuse_save_alone(save: str | None) -> None:
    if save is not None:
        raise SettingsError(
            message("--save", expected="edits to save", got="no --set", remedy="Give --set KEY=VALUE with it.")
        )


def _refuse_known_name(plan: Plan, name: str) -> None:
    if name in plan.configuration_names:
        raise SettingsError(
            message(
                "--save",
                expected="a name that the plans file does not have yet",
                got=repr(name),
                remedy="Choose another; what is there is never overwritten.",
            )
        )


def _save(asked: _Asked, edited: Edited) -> Path:
    path = Path(asked.plan.where)
    edited.plan.write(path)
    return path


# ---------------------------------------------------------------------- real steps and their speed


def _try_out(
    asked: _Asked,
    plan: Plan,
    name: str,
    budget: Budget,
    *,
    inherits_from: str | None = None,
    as_json: bool,
) -> tuple[StepMeasurement | None, LargestBatch | None, Speed | None]:
    """Measure and search as asked; the speed is the measured one, else that of an earlier training."""
    measured = _measure(asked, plan, name, budget, as_json=as_json) if asked.measure else None
    largest = _search(asked, plan, name, budget, as_json=as_json) if asked.max_batch else None
    if measured is not None and measured.seconds_per_iteration is not None:
        return measured, largest, _measured_speed(asked, plan, name, measured)
    return measured, largest, _recorded_speed(asked, inherits_from or name)


def _measure(asked: _Asked, plan: Plan, name: str, budget: Budget, *, as_json: bool) -> StepMeasurement:
    from segwright.training.step_measurement import measure_step

    asked.terminal.note(f"Taking training steps of {name} on {asked.device} ...")
    measured = measure_step(
        plan,
        name,
        asked.description,
        device=str(asked.device),
        flags=asked.flags,
        trainer=asked.trainer,
        memory_limit_bytes=asked.memory_bytes,
    )
    if not as_json:
        from segwright.cli.explain_view import show_measurement

        model = _model(asked, plan, name, budget, measured.batch_size)
        show_measurement(asked.terminal, measured, None if model is None else model.total)
    return measured


def _search(asked: _Asked, plan: Plan, name: str, budget: Budget, *, as_json: bool) -> LargestBatch:
    from segwright.cli.explain_view import show_largest_batch, show_trial
    from segwright.training.max_batch import largest_batch
    from segwright.training.step_measurement import measure_step

    def try_batch(batch_size: int) -> StepMeasurement:
        return measure_step(
            plan,
            name,
            asked.description,
            device=str(asked.device),
            flags={**asked.flags, "batch_size": batch_size},
            trainer=asked.trainer,
            memory_limit_bytes=asked.memory_bytes,
            held_memory=False,
        )

    asked.terminal.note(f"Searching the largest batch of {name} that fits {asked.device} ...")
    first = _first_guess(asked, plan, name, budget)
    largest = largest_batch(try_batch, first=first, told=lambda trial: show_trial(asked.terminal, trial))
    if not as_json:
        of_it = asked.budget(plan, name, {**asked.flags, "batch_size": max(largest.batch_size, 1)})
        show_largest_batch(asked.terminal, largest, of_it, asked.cases)
    return largest


def _first_guess(asked: _Asked, plan: Plan, name: str, budget: Budget) -> int:
    """The batch size that would fill the memory by our model."""
    kind = str(asked.device).partition(":")[0]
    free = _free_bytes(asked, kind)
    one, two = (_model(asked, plan, name, budget, batch_size) for batch_size in (1, 2))
    if one is None or two is None:
        return int(budget.value("batch_size"))
    a_patch = (two.total - one.total) * KEPT_BY_ALLOCATOR[kind]
    return max(1, 1 + int((free - one.total * KEPT_BY_ALLOCATOR[kind]) / a_patch))


def _free_bytes(asked: _Asked, kind: str) -> int:
    from segwright.parallel import available_memory_bytes

    if kind == "cuda":
        import torch

        total = torch.cuda.get_device_properties(torch.device(str(asked.device))).total_memory
        return min(asked.memory_bytes or total, total)
    return min(asked.memory_bytes or (1 << 62), available_memory_bytes()) - LIBRARIES_BYTES


def _model(asked: _Asked, plan: Plan, name: str, budget: Budget, batch_size: int) -> StepMemory | None:
    """What the step should hold on the device; None for a network of another kind."""
    from segwright.planning.explain import num_network_inputs
    from segwright.planning.step_memory import OPTIMIZER_STATES, STEP_DEVICES, estimate_step_memory

    configuration = plan.configuration(name)
    if configuration.architecture.kind == "other":
        return None
    return estimate_step_memory(
        configuration.architecture,
        patch_size=configuration.patch_size,
        batch_size=batch_size,
        num_input_channels=num_network_inputs(configuration, asked.description),
        num_outputs=asked.description.labels.num_outputs,
        device=STEP_DEVICES[str(asked.device).partition(":")[0]],
        optimizer_states=OPTIMIZER_STATES[budget.recipe.optimizer],
    )


def _work(asked: _Asked, plan: Plan, name: str, budget: Budget) -> int:
    from segwright.planning.what_if import batch_multiplications

    return batch_multiplications(plan.configuration(name), asked.description, int(budget.value("batch_size")))


def _measured_speed(asked: _Asked, plan: Plan, name: str, measured: StepMeasurement) -> Speed | None:
    from segwright.planning.what_if import Speed, batch_multiplications

    if measured.seconds_per_iteration is None:
        return None
    return Speed(
        seconds_per_iteration=measured.seconds_per_iteration,
        multiplications=batch_multiplications(plan.configuration(name), asked.description, measured.batch_size),
        source=f"by the step measured on {measured.device}, loading and augmentation aside",
    )


def _recorded_speed(asked: _Asked, name: str) -> Speed | None:
    """The speed of the newest training of the configuration, where there is one."""
    from segwright.planning.what_if import VALIDATION_SHARE, Speed, batch_multiplications
    from segwright.training.recorded_speed import recorded_speed

    configuration = asked.plan.configuration(name)
    recorded = recorded_speed(asked.location.results, asked.plan.plans_name, name)
    if recorded is None or configuration.architecture.kind == "other":
        return None
    iterations = recorded.iterations_per_epoch + VALIDATION_SHARE * recorded.val_iterations_per_epoch
    return Speed(
        seconds_per_iteration=recorded.seconds_per_epoch / iterations,
        multiplications=batch_multiplications(configuration, asked.description, recorded.batch_size),
        source=f"by the last training of {name}, on {recorded.device}",
    )


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
