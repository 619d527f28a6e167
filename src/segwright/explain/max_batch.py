"""Search the largest batch size whose training step fits a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segwright.explain.step_measurement import StepMeasurement
from segwright.explain.what_if import Speed
from segwright.planning.budget import Budget

# a batch this near to one that does not fit is as good as the largest: memory differs by as much from run to run
TOLERANCE = 0.05
LARGEST = 4096


@dataclass(frozen=True)
class LargestBatch:
    """The trials in their order. `batch_size` is the largest that fitted, 0 where not even 1 does; `limited` is False
    where nothing that was tried failed."""

    batch_size: int
    limited: bool
    trials: tuple[StepMeasurement, ...]

    def hours(self, budget: Budget) -> float | None:
        """Hours of a training with this batch, by its trial's time; None where no trial was timed."""
        timed = [trial.seconds_per_iteration for trial in self.trials if trial.batch_size == self.batch_size]
        if not timed or timed[0] is None:
            return None
        return Speed(timed[0], 1, "the trial").hours(1, budget)

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return {
            "batch_size": self.batch_size,
            "limited": self.limited,
            "trials": [trial.to_json() for trial in self.trials],
        }


def largest_batch(
    try_batch: Callable[[int], StepMeasurement], *, first: int, told: Callable[[StepMeasurement], None] | None = None
) -> LargestBatch:
    """Try batch sizes, from the model's guess on, and bisect the gap between what fits and what does not.

    After a trial that fitted, its own bytes a patch say how far to go next, until the gap is a patch or 5 %.
    """
    trials: list[StepMeasurement] = []
    fits, fails = 0, LARGEST + 1
    batch_size = min(max(first, 1), LARGEST)
    while fails - fits > max(1, int(TOLERANCE * fits)):
        trial = try_batch(batch_size)
        trials.append(trial)
        if told is not None:
            told(trial)
        if trial.fits:
            fits = batch_size
            batch_size = _next_after(trial, fails)
        else:
            fails = batch_size
            batch_size = (fits + fails) // 2
    return LargestBatch(fits, fails <= LARGEST, tuple(trials))


def _next_after(trial: StepMeasurement, fails: int) -> int:
    """A larger batch: halfway to one that failed, else as many as the bytes of this trial promise, at most twice."""
    fits = trial.batch_size
    if fails <= LARGEST:
        return (fits + fails) // 2
    larger = 2 * fits
    if trial.reserved_bytes and trial.limit_bytes:
        free = trial.limit_bytes - (trial.libraries_bytes or 0)
        larger = min(larger, int(fits * free / trial.reserved_bytes))
    return min(max(larger, fits + 1), LARGEST)
