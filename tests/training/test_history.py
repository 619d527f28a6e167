"""The history of a training and its log."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from segwright.errors import CheckpointError
from segwright.training.history import History
from segwright.training.monitor import JsonLinesMonitor, read_log


def _add(history: History, dice: list[float]) -> None:
    history.add_epoch(train_loss=0.5, val_loss=0.4, dice_per_class=dice, learning_rate=0.01, start=1.0, end=3.0)


def test_moving_average_and_absent_classes() -> None:
    history = History()
    _add(history, [0.5, math.nan])
    assert history.last("mean_fg_dice") == 0.5
    assert history.last("ema_fg_dice") == 0.5
    _add(history, [0.7, 0.9])
    assert history.last("mean_fg_dice") == pytest.approx(0.8)
    assert history.last("ema_fg_dice") == pytest.approx(0.9 * 0.5 + 0.1 * 0.8)


def test_no_class_at_all_is_no_number_and_does_not_poison_the_average() -> None:
    history = History()
    _add(history, [math.nan])
    assert math.isnan(history.last("ema_fg_dice"))
    _add(history, [0.6])
    assert history.last("ema_fg_dice") == 0.6


def test_numpy_numbers_of_a_foreign_checkpoint_become_plain() -> None:
    history = History({"train_losses": [np.float32(0.5)], "dice_per_class_or_region": [[np.float64(0.25)]]})
    assert type(history.lists["train_losses"][0]) is float
    assert history.lists["dice_per_class_or_region"] == [[0.25]]


def test_cut_forgets_unfinished_epochs_and_refuses_missing_ones() -> None:
    history = History()
    for _ in range(3):
        _add(history, [0.5])
    history.cut(2)
    assert len(history) == 2
    with pytest.raises(CheckpointError, match=r"\b5 .* 2\b"):
        history.cut(5)


def test_log_survives_a_line_cut_short(tmp_path: Path) -> None:
    log = JsonLinesMonitor(tmp_path / "log.jsonl")
    log.event("epoch", {"epoch": 0, "train_loss": math.nan})
    log.event("iteration", {"done": 1})
    with log.path.open("a") as file:
        file.write('{"event": "epo')
    events = read_log(log.path)
    assert [event["event"] for event in events] == ["epoch"]
    assert "time" in events[0]


def test_numbers_that_are_no_float_are_refused() -> None:
    for entries in ([10**400], [10**5000]):
        with pytest.raises(CheckpointError, match=r"logging\.lrs"):
            History({"lrs": entries})
