"""Speed of earlier trainings of a configuration, from their logs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segwright.results import ModelFolder
from segwright.training.monitor import read_log


@dataclass(frozen=True)
class RecordedSpeed:
    """Median seconds per epoch, including validation, with the settings and the device of the measurement."""

    seconds_per_epoch: float
    iterations_per_epoch: int
    val_iterations_per_epoch: int
    batch_size: int
    device: str
    log: Path


def recorded_speed(results_folder: Path, plans_name: str, configuration: str) -> RecordedSpeed | None:
    """Read the newest log of the configuration with a finished epoch; None if there is none.

    A damaged log, or one in another format, is ignored.
    """
    models = ModelFolder.all_in(results_folder, plans=plans_name, configuration=configuration)
    logs = [fold.log for model in models for fold in (*model.folds(), *model.earlier()) if fold.log.is_file()]
    for log in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            speed = _speed_of(log)
        except (KeyError, TypeError, ValueError, AttributeError, OSError):  # not a log that we wrote
            continue
        if speed is not None:
            return speed
    return None


def _speed_of(log: Path) -> RecordedSpeed | None:
    start: dict[str, Any] | None = None
    seconds: list[float] = []
    for event in read_log(log):
        if event.get("event") in ("start", "resume"):
            start, seconds = event, []
        elif event.get("event") == "epoch":
            seconds.append(float(event["seconds"]))
    if start is None or not seconds:
        return None
    settings = start["settings"]
    return RecordedSpeed(
        seconds_per_epoch=statistics.median(seconds),
        iterations_per_epoch=int(settings["num_iterations_per_epoch"]["value"]),
        val_iterations_per_epoch=int(settings["num_val_iterations_per_epoch"]["value"]),
        batch_size=int(settings["batch_size"]["value"]),
        device=str(start["device"]),
        log=log,
    )
