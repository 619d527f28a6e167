"""What a training wrote beside its checkpoints: settings.json and training_log.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segwright.errors import DatasetError, message
from segwright.io.json_file import read_json
from segwright.planning.budget import MOST_EPOCHS
from segwright.planning.fields import is_number, is_whole_within
from segwright.report.content import EpochPoint, Fact, Setting, TrainingSection
from segwright.training.monitor import LOG_FILE, read_log

SETTINGS_FILE = "settings.json"
_SETTING_WORDS = {
    "num_epochs": "Epochs",
    "num_iterations_per_epoch": "Iterations an epoch",
    "num_val_iterations_per_epoch": "Validation iterations an epoch",
    "batch_size": "Batch size",
    "initial_lr": "Highest learning rate",
    "weight_decay": "Weight decay",
    "oversample_foreground_percent": "Share of patches on foreground",
    "save_every": "Epochs between checkpoints",
    "seed": "Seed",
}
_TOTAL_WORDS = {
    "iterations": "Training iterations",
    "samples": "Patches seen",
    "training_cases": "Training cases",
    "passes_over_training_cases": "Patches for each training case",
}


def training_section(fold_folder: Path, class_names: Sequence[str]) -> tuple[TrainingSection, tuple[Fact, ...]]:
    """Read the budget, the curves and the environment of a training; what was not written stays empty.

    Raises:
        DatasetError: settings.json or the log is damaged.
    """
    settings_path, log_path = fold_folder / SETTINGS_FILE, fold_folder / LOG_FILE
    stored = _object(read_json(settings_path), settings_path) if settings_path.is_file() else {}
    events = read_log(log_path) if log_path.is_file() else []
    epochs = epochs_of(events, where=log_path)
    seconds = [point.seconds for point in epochs if point.seconds is not None]
    section = TrainingSection(
        settings=_settings(stored, settings_path),
        totals=_totals(_object(stored.get("totals", {}), f"{settings_path}, key 'totals'")),
        epochs=epochs,
        class_names=tuple(class_names),
        seconds=sum(seconds) if seconds else None,
        num_interruptions=_num_resumed(events),
    )
    return section, _environment(_object(stored.get("environment", {}), f"{settings_path}, key 'environment'"))


def epochs_of(events: Sequence[Mapping[str, Any]], *, where: object = LOG_FILE) -> tuple[EpochPoint, ...]:
    """Epochs that count: a start or resume takes back what the log holds from its epoch on.

    Raises:
        DatasetError: an epoch's number or a value of it is none.
    """
    points: dict[int, EpochPoint] = {}
    for event in events:
        kind = event.get("event")
        if kind in ("start", "resume"):
            first = _epoch_number(event.get("epoch", 0), where) if kind == "resume" else 0
            points = {epoch: point for epoch, point in points.items() if epoch < first}
        elif kind == "epoch":
            point = _epoch_point(event, where)
            points[point.epoch] = point
    return tuple(points[epoch] for epoch in sorted(points))


def _epoch_point(event: Mapping[str, Any], where: object) -> EpochPoint:
    def number(key: str) -> float | None:
        value = event.get(key)
        if value is not None and not is_number(value):
            raise _damaged(f"{where}, key '{key}'", "a number for each epoch", value)
        return value

    dice = event.get("pseudo_dice") or ()
    if not isinstance(dice, (list, tuple)) or not all(is_number(value) for value in dice):
        raise _damaged(f"{where}, key 'pseudo_dice'", "a number for each class", dice)
    return EpochPoint(
        epoch=_epoch_number(event.get("epoch"), where),
        train_loss=number("train_loss"),
        val_loss=number("val_loss"),
        pseudo_dice=tuple(dice),
        mean_pseudo_dice=number("mean_pseudo_dice"),
        ema_pseudo_dice=number("ema_pseudo_dice"),
        learning_rate=number("learning_rate"),
        seconds=number("seconds"),
    )


def _epoch_number(value: object, where: object) -> int:
    if not is_whole_within(value, 0, MOST_EPOCHS):
        raise _damaged(f"{where}, key 'epoch'", "the number of an epoch", value)
    return value


def _object(value: object, where: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _damaged(where, "an object in braces", value)
    return value


def _damaged(where: object, expected: str, got: object) -> DatasetError:
    return DatasetError(message(where, expected=expected, got=repr(got), remedy="The file is damaged."))


def _num_resumed(events: Sequence[Mapping[str, Any]]) -> int:
    last_start = max((place for place, event in enumerate(events) if event.get("event") == "start"), default=0)
    return sum(event.get("event") == "resume" for event in events[last_start:])


def _settings(stored: Mapping[str, Any], where: object) -> tuple[Setting, ...]:
    rows = []
    if recipe := stored.get("recipe"):
        named = {"name": recipe} if isinstance(recipe, str) else _object(recipe, f"{where}, key 'recipe'")
        rows.append(Setting("Recipe", str(named.get("name", "")), str(named.get("source", ""))))
    for name, value in _object(stored.get("settings", {}), f"{where}, key 'settings'").items():
        entry = _object(value, f"{where}, key 'settings.{name}'")
        rows.append(Setting(_SETTING_WORDS.get(name, name), _number(entry.get("value")), str(entry.get("source", ""))))
    return tuple(rows)


def _totals(totals: Mapping[str, Any]) -> tuple[Fact, ...]:
    return tuple(Fact(_TOTAL_WORDS.get(name, name), _number(value)) for name, value in totals.items())


def _environment(environment: Mapping[str, Any]) -> tuple[Fact, ...]:
    return tuple(
        Fact(name.replace("_", " ").capitalize(), str(value)) for name, value in environment.items() if value != ""
    )


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
