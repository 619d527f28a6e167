"""The position of a training, and loading the state of an optimizer and a gradient scaler from a checkpoint."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch

from segwright.errors import CheckpointError, message

_SHAPED_AS_PARAMETER = frozenset({"momentum_buffer", "exp_avg", "exp_avg_sq"})


@dataclass(frozen=True)
class TrainingState:
    """The position of a training within an epoch; `train_losses` are those of the epoch's finished steps."""

    step: int
    train_losses: tuple[float, ...]


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], *, where: str) -> None:
    """Load a state, and check what torch only checks in the next step: numbers and shapes.

    Raises:
        CheckpointError: it is not one of this optimizer over these parameters; `where` names the file.
    """
    with _refused(where, "optimizer_state", f"the state of {type(optimizer).__name__}"):
        _load_optimizer_state(optimizer, state)


def load_scaler_state(scaler: torch.amp.GradScaler, state: Mapping[str, Any], *, where: str) -> None:
    """Load the state of a gradient scaler.

    Raises:
        CheckpointError: it is none; `where` names the file.
    """
    with _refused(where, "grad_scaler_state", "the state of a gradient scaler"):
        scaler.load_state_dict(dict(state))


@contextmanager
def _refused(where: str, key: str, expected: str) -> Iterator[None]:
    """Name file and key if torch refuses a state, whatever it raises."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            message(
                f"{where}, key {key!r}",
                expected=expected,
                got=f"{type(error).__name__} ({error})",
                remedy="Continue with the recipe and the trainer class that it was trained with, or from another file.",
            )
        ) from error


def _load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
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
