"""How the state of a training becomes a checkpoint, and a checkpoint the state of a training."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from segwright.errors import CheckpointError, message
from segwright.interop.checkpoint import Checkpoint, Progress
from segwright.interop.weights import load_state_dict, to_nnunet_state_dict
from segwright.training.history import History

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer

_SHAPED_AS_PARAMETER = frozenset({"momentum_buffer", "exp_avg", "exp_avg_sq"})


@dataclass(frozen=True)
class TrainingState:
    """Where within an epoch a training stands; `train_losses` are those of the epoch's finished steps."""

    step: int
    train_losses: tuple[float, ...]


def checkpoint_of(trainer: Trainer) -> Checkpoint:
    """Take the whole state of a training. nnunetv2 reads the file as one of its own."""
    return Checkpoint.of_training(
        network_weights=to_nnunet_state_dict(trainer.network),
        progress=Progress(
            epoch=trainer.current_epoch,
            step=trainer.state.step,
            train_losses=trainer.state.train_losses,
            best_ema=trainer.best_ema,
            logging=trainer.history.lists,
            optimizer_state=trainer.optimizer.state_dict(),
            grad_scaler_state=None if trainer.grad_scaler is None else trainer.grad_scaler.state_dict(),
        ),
        plan=trainer.plan,
        configuration=trainer.configuration_name,
        fold=trainer.fold,
        description=trainer.description,
        device=trainer.device,
        mirror_axes=trainer.mirror_axes,
        own={
            "trainer": type(trainer).__name__,
            "builds_own_network": trainer.builds_own_network,
            "budget": trainer.budget.to_json(len(trainer.split.train)),
        },
    )


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put a training into the state that a checkpoint holds.

    Raises:
        CheckpointError: if weights or optimizer state do not fit, or what it holds is no state of a training.
    """
    progress = checkpoint.progress
    load_state_dict(
        trainer.network,
        checkpoint.network_weights,
        where=f"{checkpoint.where}, trained by {checkpoint.trainer_class_name or 'a class without a name'}",
        network_name=f"the network of {type(trainer).__name__}, "
        f"{trainer.configuration.architecture.network_class_name} in the plan",
    )
    with _refused(checkpoint.where, "optimizer_state", f"the state of {type(trainer.optimizer).__name__}"):
        _load_optimizer_state(trainer.optimizer, progress.optimizer_state)
    if trainer.grad_scaler is not None and progress.grad_scaler_state is not None:
        with _refused(checkpoint.where, "grad_scaler_state", "the state of a gradient scaler"):
            trainer.grad_scaler.load_state_dict(dict(progress.grad_scaler_state))
    trainer.current_epoch = progress.epoch
    trainer.best_ema = progress.best_ema
    trainer.history = History(progress.logging, where=checkpoint.where)
    trainer.history.cut(trainer.current_epoch)
    trainer.state = TrainingState(progress.step, progress.train_losses)


@contextmanager
def _refused(where: str, key: str, expected: str) -> Iterator[None]:
    """Name file and key where torch does not take a state, in whatever way it says so."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            message(
                f"{where}, key {key!r}",
                expected=expected,
                got=f"{type(error).__name__} ({error})",
                remedy="Go on with the recipe and the trainer class that it was trained with, or from another file.",
            )
        ) from error


def _load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state, and look at what torch looks at only in the next step: numbers and shapes."""
    own = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for before, group in zip(own, optimizer.param_groups, strict=True):
        for name, value in before.items():
            if isinstance(value, Real) and not isinstance(group.get(name), Real):
                raise ValueError(f"{name!r} of a parameter group is {reprlib.repr(group.get(name))}, not a number")
    for parameter, values in optimizer.state.items():
        for name in _SHAPED_AS_PARAMETER & values.keys():
            if values[name] is not None and values[name].shape != parameter.shape:
                raise ValueError(f"{name!r} has shape {tuple(values[name].shape)}, not {tuple(parameter.shape)}")
