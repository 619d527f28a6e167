"""Real steps for `segwright explain`: what they take, the largest batch, and how fast they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segwright.cli.console import Terminal
from segwright.cli.options import trainer_class_of

if TYPE_CHECKING:
    from segwright.dataset import DatasetDescription, DatasetLocation
    from segwright.explain.max_batch import LargestBatch
    from segwright.explain.step_measurement import StepMeasurement
    from segwright.explain.what_if import Speed
    from segwright.fingerprint import Fingerprint
    from segwright.planning import Plan
    from segwright.planning.budget import Budget
    from segwright.task import Task

# of the memory that a step holds, a process takes this much: what the allocators of CPU and CUDA keep
KEPT_BY_ALLOCATOR = {"cpu": 1.4, "cuda": 1.1, "mps": 1.1}
LIBRARIES_BYTES = 350 << 20


@dataclass(frozen=True)
class Asked:
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

    def task(self, name: str) -> Task:
        """A configuration of the plan, on the data."""
        from segwright.task import Task

        return Task.of(self.plan, name, self.description)

    def budget(self, task: Task, flags: Mapping[str, Any] | None = None) -> Budget:
        """The budget of a configuration."""
        from segwright.planning.budget import resolve_budget

        name = task.configuration.name
        return resolve_budget(
            plan=task.configuration.raw,
            trainer=_class_settings(self.trainer, task),
            flags=self.flags if flags is None else flags,
            # what an edit makes is not in the file
            plan_where=f"{self.plan.where}, configuration '{name}'"
            if name in self.plan.configuration_names
            else "--set",
        )


@dataclass(frozen=True)
class Tried:
    """What real steps gave, where they were asked for, and the speed: measured, else of an earlier training."""

    measured: StepMeasurement | None
    largest: LargestBatch | None
    speed: Speed | None
    model_bytes: int | None
    largest_budget: Budget | None

    def show(self, terminal: Terminal, cases: int) -> None:
        """Print what was measured and found."""
        from segwright.cli.explain_view import show_largest_batch, show_measurement

        if self.measured is not None:
            show_measurement(terminal, self.measured, self.model_bytes)
        if self.largest is not None and self.largest_budget is not None:
            show_largest_batch(terminal, self.largest, self.largest_budget, cases)

    def to_json(self, cases: int) -> dict[str, Any]:
        """`measurement` and `max_batch`, null where they were not asked for."""
        largest = None
        if self.largest is not None and self.largest_budget is not None:
            largest = {
                **self.largest.to_json(),
                "totals": self.largest_budget.to_json(cases)["totals"],
                "hours": self.largest.hours(self.largest_budget),
            }
        return {"measurement": None if self.measured is None else self.measured.to_json(), "max_batch": largest}


def try_out(asked: Asked, task: Task, budget: Budget, *, inherits_from: Task | None = None) -> Tried:
    """Measure and search as asked."""
    measured = _measure(asked, task) if asked.measure else None
    largest = _search(asked, task, budget) if asked.max_batch else None
    if measured is not None and measured.seconds_per_iteration is not None:
        speed = _measured_speed(task, measured)
    else:
        speed = _recorded_speed(asked, inherits_from or task)
    model, largest_budget = None, None
    if measured is not None:
        model = _model_bytes(asked, task, budget, measured.batch_size)
    if largest is not None:
        largest_budget = asked.budget(task, {**asked.flags, "batch_size": max(largest.batch_size, 1)})
    return Tried(measured, largest, speed, model, largest_budget)


def _measure(asked: Asked, task: Task) -> StepMeasurement:
    from segwright.explain.step_measurement import measure_step

    asked.terminal.note(f"Taking training steps of {task.configuration.name} on {asked.device} ...")
    return measure_step(
        task,
        device=str(asked.device),
        flags=asked.flags,
        trainer=asked.trainer,
        memory_limit_bytes=asked.memory_bytes,
    )


def _search(asked: Asked, task: Task, budget: Budget) -> LargestBatch:
    from segwright.cli.explain_view import show_trial
    from segwright.explain.max_batch import largest_batch
    from segwright.explain.step_measurement import measure_step

    def try_batch(batch_size: int) -> StepMeasurement:
        return measure_step(
            task,
            device=str(asked.device),
            flags={**asked.flags, "batch_size": batch_size},
            trainer=asked.trainer,
            memory_limit_bytes=asked.memory_bytes,
            held_memory=False,
        )

    asked.terminal.note(f"Searching the largest batch of {task.configuration.name} that fits {asked.device} ...")
    first = first_guess(asked, task, budget)
    return largest_batch(try_batch, first=first, told=lambda trial: show_trial(asked.terminal, trial))


def first_guess(asked: Asked, task: Task, budget: Budget) -> int:
    """The largest batch that fits the memory by what torch counts."""
    from segwright.explain.fit import largest_batch_within

    if not task.configuration.architecture.is_computable:
        return int(budget.value("batch_size"))
    kind = str(asked.device).partition(":")[0]

    def taken(batch_size: int) -> int:
        return int((_model_bytes(asked, task, budget, batch_size) or 0) * KEPT_BY_ALLOCATOR[kind])

    return max(1, largest_batch_within(_free_bytes(asked), taken))


def _free_bytes(asked: Asked) -> int:
    import torch

    from segwright.explain.fit import memory_there

    device = torch.device(str(asked.device))
    free = min(asked.memory_bytes or (1 << 62), memory_there(device))
    return free - (LIBRARIES_BYTES if device.type == "cpu" else 0)


def _model_bytes(asked: Asked, task: Task, budget: Budget, batch_size: int) -> int | None:
    """What the step should hold on the device; None for a network that cannot be computed."""
    from segwright.explain.cost import step_flags, step_memory

    if not task.configuration.architecture.is_computable:
        return None
    return step_memory(
        task,
        str(asked.device).partition(":")[0],
        flags={**step_flags(budget), "batch_size": batch_size},
    ).total


def _measured_speed(task: Task, measured: StepMeasurement) -> Speed | None:
    from segwright.explain.cost import batch_work
    from segwright.explain.what_if import Speed

    if measured.seconds_per_iteration is None:
        return None
    return Speed(
        seconds_per_iteration=measured.seconds_per_iteration,
        multiplications=batch_work(task, measured.batch_size),
        source=f"by the step measured on {measured.device}, loading and augmentation aside",
    )


def _recorded_speed(asked: Asked, task: Task) -> Speed | None:
    """The speed of the newest training of the configuration, where there is one."""
    from segwright.explain.cost import batch_work
    from segwright.explain.what_if import VALIDATION_SHARE, Speed
    from segwright.training.recorded_speed import recorded_speed

    recorded = recorded_speed(asked.location.results, asked.plan.plans_name, task.configuration.name)
    if recorded is None:
        return None
    iterations = recorded.iterations_per_epoch + VALIDATION_SHARE * recorded.val_iterations_per_epoch
    return Speed(
        seconds_per_iteration=recorded.seconds_per_epoch / iterations,
        multiplications=batch_work(task, recorded.batch_size),
        source=f"by the last training of {task.configuration.name}, on {recorded.device}",
    )


def training_cases(preprocessed: Path, num_cases: int) -> int:
    """Training cases of the first fold: of the splits file, or of the five folds that would be made."""
    from segwright.dataset import read_splits

    path = preprocessed / "splits_final.json"
    if path.is_file():
        return len(read_splits(path)[0].train)
    return num_cases - -(-num_cases // 5) if num_cases >= 5 else num_cases


def _class_settings(trainer: str | None, task: Task) -> dict[str, Any]:
    if trainer is None:
        return {}
    import torch

    trainer_class = trainer_class_of(trainer)
    plan, name, description = task.plan.raw, task.configuration.name, task.description.raw
    return trainer_class(plan, name, 0, description, device=torch.device("cpu")).user_settings()
