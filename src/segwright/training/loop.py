"""The loop over epochs and iterations, which calls the trainer's hooks in nnU-Net's order and handles stop requests."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from segwright.errors import TrainingError
from segwright.results import LATEST
from segwright.training.chance import Moment, draw_for, generators_kept
from segwright.training.interrupts import StopRequest
from segwright.training.loading import batches_of
from segwright.training.sampling import SampleIndex
from segwright.training.schedule import IterationWarmupSchedule
from segwright.training.trainer import Trainer

ESTIMATE_AFTER_ITERATIONS = 10

Batches = Iterator[Mapping[str, Any]]


class _Clock:
    """Speed of this run, from its own iterations: those before a resume may be from another machine."""

    def __init__(self) -> None:
        self._start, self._iterations = time.monotonic(), 0

    def tick(self) -> None:
        self._iterations += 1

    def seconds_left(self, iterations_left: int) -> float | None:
        if self._iterations < ESTIMATE_AFTER_ITERATIONS:
            return None
        return (time.monotonic() - self._start) / self._iterations * iterations_left


def run_training(trainer: Trainer, stop: StopRequest) -> bool:
    """Train to the end, or to the step at which a stop is asked for, saved. Returns whether the end was reached.

    Raises:
        TrainingError: the loss is not finite; names the cases of the batch.
    """
    with generators_kept():
        draw_for(trainer.fold_seed, Moment.TRAIN_START)
        trainer.on_train_start()
        with batches_of(*trainer.get_dataloaders()) as (training, validation):
            if not _run_epochs(trainer, training, validation, stop):
                return False
        draw_for(trainer.fold_seed, Moment.TRAIN_END)
        trainer.on_train_end()
    return True


def _run_epochs(trainer: Trainer, training: Batches, validation: Batches, stop: StopRequest) -> bool:
    clock = _Clock()
    while trainer.current_epoch < trainer.num_epochs:
        _draw(trainer, Moment.EPOCH_START)
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        while trainer.state.step < trainer.num_iterations_per_epoch:
            loss = _iterate(trainer, training)
            clock.tick()
            trainer.monitor.event("iteration", _iteration_event(trainer, loss, clock))
            if stop:
                return _interrupted(trainer, stop)
        _draw(trainer, Moment.TRAIN_EPOCH_END)
        trainer.on_train_epoch_end()
        trainer.on_validation_epoch_start()
        with torch.no_grad():
            outputs = [_validate(trainer, validation, step) for step in range(trainer.num_val_iterations_per_epoch)]
        trainer.on_validation_epoch_end(outputs)
        trainer.on_epoch_end()
        if stop and trainer.current_epoch < trainer.num_epochs:
            return _interrupted(trainer, stop)
    return True


def _iterate(trainer: Trainer, batches: Batches) -> float:
    step = trainer.state.step
    if isinstance(trainer.lr_scheduler, IterationWarmupSchedule):
        trainer.lr_scheduler.step_iteration(trainer.current_epoch * trainer.num_iterations_per_epoch + step)
    waiting = time.monotonic()
    batch = next(batches)
    waited = time.monotonic() - waiting
    _draw(trainer, Moment.TRAINING_STEP, step)
    loss = float(trainer.train_step(batch)["loss"])
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss is {loss} in epoch {trainer.current_epoch}, iteration {step}, cases {', '.join(batch['keys'])}."
            " Expected a finite number. Check these cases for extreme intensities, or lower the learning rate "
            "(--lr). The last checkpoint is intact; use --continue to resume from it."
        )
    trainer.count_step(loss, waited)
    return loss


def _validate(trainer: Trainer, batches: Batches, step: int) -> dict[str, Any]:
    batch = next(batches)
    _draw(trainer, Moment.VALIDATION_STEP, step)
    return trainer.validation_step(batch)


def _draw(trainer: Trainer, moment: Moment, step: int = 0) -> None:
    draw_for(trainer.fold_seed, moment, SampleIndex(trainer.current_epoch, step, 0))


def _iteration_event(trainer: Trainer, loss: float, clock: _Clock) -> dict[str, Any]:
    done = trainer.current_epoch * trainer.num_iterations_per_epoch + trainer.state.step
    total = trainer.budget.total_iterations
    return {
        "epoch": trainer.current_epoch,
        "step": trainer.state.step,
        "done": done,
        "total": total,
        "loss": loss,
        "seconds_left": clock.seconds_left(total - done),
    }


def _interrupted(trainer: Trainer, stop: StopRequest) -> bool:
    path = trainer.output_folder / LATEST
    trainer.save_checkpoint(path)
    trainer.monitor.event(
        "interrupted",
        {
            "signal": str(stop.signal_name),
            "epoch": trainer.current_epoch,
            "step": trainer.state.step,
            "checkpoint": str(path),
        },
    )
    return False
