"""What `segwright explain` prints: tables of decisions, budgets, measurements, the largest batch and edits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from segwright.planning.wording import GIB, count, duration, gigabytes

if TYPE_CHECKING:
    from segwright.cli.console import Terminal
    from segwright.explain.cost import StepMemory
    from segwright.explain.explanation import Explanation
    from segwright.explain.max_batch import LargestBatch
    from segwright.explain.step_measurement import StepMeasurement
    from segwright.explain.what_if import WhatIf
    from segwright.planning.budget import Budget


def show_measurement(terminal: Terminal, measured: StepMeasurement, model_bytes: int | None) -> None:
    """Say what a step took, beside what the model says."""
    terminal.answer(f"Measured: {' '.join(_measurement(measured, model_bytes))}")


def _measurement(measured: StepMeasurement, model_bytes: int | None) -> Iterator[str]:
    yield f"On {measured.device}, two training steps with batch size {measured.batch_size}."
    if measured.problem is not None:
        limit = "" if measured.limit_bytes is None else f" The process may take {gigabytes(measured.limit_bytes)}."
        yield f"They do not fit: {measured.problem.rstrip('.')}.{limit} Try a smaller batch; --max-batch finds it."
        return
    if measured.peak_bytes is not None:
        yield f"A step holds {gigabytes(measured.peak_bytes)}{_against_model(measured.peak_bytes, model_bytes)}."
    if measured.reserved_bytes is not None:
        libraries = measured.libraries_bytes
        beside = "" if libraries is None else f", and {gigabytes(libraries)} for the libraries"
        yield (
            f"The process takes {gigabytes(measured.reserved_bytes)} for it, as memory that was released is kept for "
            f"later{beside}."
        )
    if measured.seconds_per_iteration is not None:
        yield f"An iteration takes {duration(measured.seconds_per_iteration / 3600)}."


def _against_model(peak: int, model: int | None) -> str:
    if model is None:
        return ""
    return (
        f"; counted were {gigabytes(model)}, {abs(100 * (model / peak - 1)):.0f} % {'less' if model < peak else 'more'}"
    )


def fits_here(steps: Mapping[str, StepMemory], here: Mapping[str, int], gpu_memory_gb: float) -> str:
    """Say where a step fits: the GPU that was planned for, and the devices of this machine with their free bytes."""
    places = [
        (steps["cuda"].total, int(gpu_memory_gb * GIB), f"the {gpu_memory_gb:g} GB planned for"),
        *(
            (steps[device].total, there, f"this machine's {device.upper()} ({gigabytes(there)} free)")
            for device, there in here.items()
        ),
    ]
    said = {
        verb: [where for taken, there, where in places if (taken <= there) is fits]
        for verb, fits in (("does not fit", False), ("fits", True))
    }
    return "; ".join(f"{verb} {' and '.join(where)}" for verb, where in said.items() if where)


def show_rows(terminal: Terminal, explanation: Explanation) -> None:
    """Print the decisions of a configuration as a table."""
    rows = [[row.decision, row.value, row.reason] for row in explanation.rows]
    terminal.table(["decision", "value", "reason"], rows, title=explanation.configuration, answer=True)


def show_paragraphs(terminal: Terminal, explanation: Explanation, said: dict[tuple[str, str], str]) -> None:
    """Print the paragraphs, less what was said in the same words of a configuration before it."""
    same: dict[str, list[str]] = {}
    for paragraph in explanation.paragraphs:
        before = said.setdefault((paragraph.topic, paragraph.text), explanation.configuration)
        if before == explanation.configuration:
            terminal.answer(f"{paragraph.topic}: {paragraph.text}")
        else:
            same.setdefault(before, []).append(paragraph.topic)
    for before, topics in same.items():
        terminal.answer(f"As for {before}: {', '.join(topics)}.")


def show_budget(terminal: Terminal, budget: Budget, cases: int, *, like: Budget | None = None) -> None:
    """Print the budget as a table, or what differs from one that was printed, and in a sentence what it means."""
    if like is None:
        terminal.table(["setting", "value", "from"], [list(row) for row in budget.rows()], title="Budget", answer=True)
    else:
        shown = set(like.rows())
        other = ", ".join(f"{row[0]} {row[1]} ({row[2]})" for row in budget.rows() if row not in shown)
        terminal.answer(f"Budget: as above{f', but {other}' if other else ''}.")
    terminal.answer(
        f"An epoch is {budget.value('num_iterations_per_epoch'):,} iterations, whatever the size of the data set, so "
        f"the training is {budget.total_iterations:,} iterations: {budget.samples:,} patches, as many as "
        f"{budget.passes_over(cases):,.1f} passes over {count(cases, 'training case')}."
    )


def show_trial(terminal: Terminal, trial: StepMeasurement) -> None:
    """Say how a trial ended, while the search goes on."""
    took = "" if trial.reserved_bytes is None else f", takes {gigabytes(trial.reserved_bytes)}"
    terminal.note(f"batch size {trial.batch_size}: {f'fits{took}' if trial.fits else 'does not fit'}")


def show_largest_batch(terminal: Terminal, largest: LargestBatch, budget: Budget, cases: int) -> None:
    """Print the trials as a table, and what the largest batch would mean for the training."""
    rows = [
        [
            str(trial.batch_size),
            "yes" if trial.fits else "no",
            "" if trial.reserved_bytes is None else gigabytes(trial.reserved_bytes),
            "" if trial.seconds_per_iteration is None else f"{trial.seconds_per_iteration:.2g} s",
        ]
        for trial in largest.trials
    ]
    terminal.table(["batch size", "fits", "memory", "iteration"], rows, title="Largest batch", answer=True)
    if largest.batch_size == 0:
        terminal.answer("Not even a batch of 1 fits. Take a smaller patch or fewer features: --set patch_size=...")
        return
    beyond = "" if largest.limited else ", the largest that is tried"
    hours = largest.hours(budget)
    time = "" if hours is None else f", in about {duration(hours)}"
    terminal.answer(
        f"The largest batch that fits is {largest.batch_size}{beyond}. The {budget.total_iterations:,} iterations "
        f"stay, so the training would see {budget.samples:,} patches, as many as {budget.passes_over(cases):,.1f} "
        f"passes over {count(cases, 'training case')}{time}. To use it: "
        f"--batch-size {largest.batch_size}. Leave some room: the processes that load batches need memory too."
    )


def show_what_if(terminal: Terminal, answer: WhatIf) -> None:
    """Print the answer."""
    name = answer.edited.before.configuration.name
    edits = ", ".join(f"{key} = {value}" for key, value in answer.edited.edits.items())
    terminal.table(["", "now", "edited"], answer.rows(), title=f"{name} with {edits}", answer=True)
    verdict, *more = answer.sentences()
    terminal.answer(verdict)
    if answer.speed is None:
        terminal.answer("For hours, give --measure or train an epoch.")
    else:
        terminal.answer(f"Hours {answer.speed.source}, in proportion to the multiplications in the network.")
    for sentence in more:
        terminal.answer(f"- {sentence}")


def show_snippet(terminal: Terminal, answer: WhatIf) -> None:
    """Print the configuration to paste into the plans file."""
    terminal.answer(
        '\nNothing was changed. To have it, paste this into the plans file under "configurations", or give --save NAME:'
    )
    terminal.answer(answer.snippet())
