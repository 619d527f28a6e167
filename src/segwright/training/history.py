"""What a training has measured so far, an entry an epoch (nnU-Net v2's `logging` in the checkpoint)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from segwright.errors import CheckpointError, message

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
    """Lists of plain numbers under nnU-Net's keys, all of the length of the finished epochs."""

    def __init__(self, logging: Mapping[str, Sequence[Any]] | None = None) -> None:
        logging = logging or {}
        self.lists: dict[str, list[Any]] = {key: _plain(logging.get(key, [])) for key in KEYS}

    def __len__(self) -> int:
        return len(self.lists["train_losses"])

    def cut(self, num_epochs: int) -> None:
        """Forget what stands beyond `num_epochs` epochs, as a resumed run will measure it again."""
        if len(self) < num_epochs:
            raise CheckpointError(
                message(
                    "checkpoint, key 'logging'",
                    expected=f"entries of {num_epochs} finished epochs",
                    got=len(self),
                    remedy="Go on from another checkpoint of this fold.",
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
        """Append one epoch; the mean pseudo Dice skips classes that are not there, EMA = 0.9 old + 0.1 new."""
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


def _plain(values: Sequence[Any]) -> list[Any]:
    # nnU-Net's own checkpoints hold numpy scalars, which JSON and the safe reader do not take.
    return [_plain(value) if isinstance(value, (list, tuple)) else float(value) for value in values]
