"""What `segwright explain` says of measurements, of the largest batch and of edits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from segwright.planning.wording import GIB, count, duration, gigabytes

if TYPE_CHECKING:
    from segwright.cli.console import Terminal
    from segwright.explain.cost import StepMemory
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
        f"; our model says {gigabytes(model)}, {abs(100 * (model / peak - 1)):.0f} % "
        f"{'less' if model < peak else 'more'}"
    )


def fits_here(steps: Mapping[str, StepMemory], here: Mapping[str, int], gpu_memory_gb: float) -> str:
    """Say where a step fits: the GPU that was planned for, and the devices of this machine with their free bytes."""
    places = [
        (steps["cuda"].total, int(gpu_memory_gb * GIB), f"the {gpu_memory_gb:g} GB of GPU memory planned for"),
        *(
            (steps[device].total, there, f"this machine's {device.upper()} ({gigabytes(there)} free)")
            for device, there in here.items()
        ),
    ]
    told = [f"{'fits' if taken <= there else 'does not fit'} {where}" for taken, there, where in places]
    return f"It {'; '.join(told)}."


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
    edits = ", ".join(f"{key} = {value}" for key, value in answer.edited.edits.items())
    title = f"{answer.edited.inherits_from} with {edits}"
    terminal.answer(f"\n{title}\n{'=' * len(title)}")
    for sentence in answer.sentences():
        terminal.answer(f"- {sentence}")


def show_snippet(terminal: Terminal, answer: WhatIf) -> None:
    """Print the configuration to paste into the plans file."""
    terminal.answer(
        '\nNothing was changed. To have it, paste this into the plans file under "configurations", or give --save NAME:'
    )
    terminal.answer(answer.snippet())
