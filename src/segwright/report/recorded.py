"""What a training wrote beside its checkpoints: settings.json and training_log.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segwright.io.json_file import read_json
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
        DatasetError: settings.json is damaged.
    """
    settings_path, log_path = fold_folder / SETTINGS_FILE, fold_folder / LOG_FILE
    stored = read_json(settings_path) if settings_path.is_file() else {}
    events = read_log(log_path) if log_path.is_file() else []
    epochs = epochs_of(events)
    seconds = [point.seconds for point in epochs if point.seconds is not None]
    section = TrainingSection(
        settings=_settings(stored),
        totals=_totals(stored.get("totals", {})),
        epochs=epochs,
        class_names=tuple(class_names),
        seconds=sum(seconds) if seconds else None,
        num_interruptions=_num_resumed(events),
    )
    return section, _environment(stored.get("environment", {}))


def epochs_of(events: Sequence[Mapping[str, Any]]) -> tuple[EpochPoint, ...]:
    """Epochs that count: a start or resume takes back what the log holds from its epoch on."""
    points: dict[int, EpochPoint] = {}
    for event in events:
        kind = event.get("event")
        if kind in ("start", "resume"):
            first = int(event.get("epoch", 0)) if kind == "resume" else 0
            points = {epoch: point for epoch, point in points.items() if epoch < first}
        elif kind == "epoch":
            points[int(event["epoch"])] = EpochPoint(
                epoch=int(event["epoch"]),
                train_loss=event.get("train_loss"),
                val_loss=event.get("val_loss"),
                pseudo_dice=tuple(event.get("pseudo_dice") or ()),
                mean_pseudo_dice=event.get("mean_pseudo_dice"),
                ema_pseudo_dice=event.get("ema_pseudo_dice"),
                learning_rate=event.get("learning_rate"),
                seconds=event.get("seconds"),
            )
    return tuple(points[epoch] for epoch in sorted(points))


def _num_resumed(events: Sequence[Mapping[str, Any]]) -> int:
    last_start = max((place for place, event in enumerate(events) if event.get("event") == "start"), default=0)
    return sum(event.get("event") == "resume" for event in events[last_start:])


def _settings(stored: Mapping[str, Any]) -> tuple[Setting, ...]:
    rows = []
    if recipe := stored.get("recipe"):
        name, source = (recipe, "") if isinstance(recipe, str) else (recipe.get("name", ""), recipe.get("source", ""))
        rows.append(Setting("Recipe", str(name), str(source)))
    for name, entry in stored.get("settings", {}).items():
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
