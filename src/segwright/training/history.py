"""Metrics of a training so far, one entry per epoch (nnU-Net v2's `logging` in the checkpoint)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from segwright.errors import CheckpointError, message, shown_short

KEYS = (
    "mean_fg_dice",
    "ema_fg_dice",
    "dice_per_class_or_region",
    "train_losses",
    "val_losses",
    "lrs",
    "epoch_start_timestamps",
    "epoch_end_timestamps",
)
EMA_WEIGHT = 0.1


class History:
    """Lists of plain numbers under nnU-Net's keys, with one entry per finished epoch."""

    def __init__(self, logging: Mapping[str, Any] | None = None, *, where: str = "checkpoint") -> None:
        """Load the lists of a checkpoint, which `where` names in errors.

        Raises:
            CheckpointError: an entry is not a list of numbers.
        """
        self.where = where
        self.lists: dict[str, list[Any]] = {}
        for key in KEYS:
            entries = (logging or {}).get(key, [])
            # nnU-Net's checkpoints hold numpy scalars, which JSON and the safe reader do not accept.
            plain = _lists_of_numbers(entries) if key == "dice_per_class_or_region" else _numbers(entries)
            if plain is None:
                raise CheckpointError(
                    message(
                        f"{where}, key 'logging.{key}'",
                        expected="a list of numbers, one per epoch",
                        got=shown_short(entries),
                        remedy="Continue from another checkpoint of this fold.",
                    )
                )
            self.lists[key] = plain

    def __len__(self) -> int:
        return len(self.lists["train_losses"])

    def cut(self, num_epochs: int) -> None:
        """Drop entries beyond `num_epochs` epochs, which a resumed run measures again."""
        shortest = min(KEYS, key=lambda key: len(self.lists[key]))
        if len(self.lists[shortest]) < num_epochs:
            raise CheckpointError(
                message(
                    f"{self.where}, key 'logging.{shortest}'",
                    expected=f"entries of {num_epochs} finished epochs",
                    got=len(self.lists[shortest]),
                    remedy="Continue from another checkpoint of this fold.",
                )
            )
        for values in self.lists.values():
            del values[num_epochs:]

    def add_epoch(
        self,
        *,
        train_loss: float,
        val_loss: float,
        dice_per_class: Sequence[float],
        learning_rate: float,
        start: float,
        end: float,
    ) -> None:
        """Append one epoch; the mean pseudo Dice skips absent classes, EMA = 0.9 old + 0.1 new."""
        present = [value for value in dice_per_class if not math.isnan(value)]
        mean = sum(present) / len(present) if present else math.nan
        before = self.lists["ema_fg_dice"]
        ema = mean if not before or math.isnan(before[-1]) else (1 - EMA_WEIGHT) * before[-1] + EMA_WEIGHT * mean
        entry = (mean, ema, list(dice_per_class), train_loss, val_loss, learning_rate, start, end)
        for key, value in zip(KEYS, entry, strict=True):
            self.lists[key].append(value)

    def last(self, key: str) -> Any:
        """Entry of the latest epoch."""
        return self.lists[key][-1]


def _numbers(values: object) -> list[Any] | None:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, Real) for value in values):
        return None
    try:
        return [float(value) for value in values]
    except OverflowError:
        return None


def _lists_of_numbers(values: object) -> list[Any] | None:
    entries = [_numbers(value) for value in values] if isinstance(values, (list, tuple)) else [None]
    return None if None in entries else entries
