"""The speed of an earlier training is read from its log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from segwright.training.recorded_speed import recorded_speed

SETTINGS = {"num_iterations_per_epoch": 250, "num_val_iterations_per_epoch": 50, "batch_size": 2}


def write_log(folder: Path, *seconds: float, event: str = "start", device: str = "cuda:0", age: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: {"value": value, "source": "plan"} for name, value in SETTINGS.items()}
    events: list[dict[str, Any]] = [{"event": event, "device": device, "settings": settings}]
    events += [{"event": "epoch", "seconds": value} for value in seconds]
    log = folder / "training_log.jsonl"
    with log.open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in events)
    os.utime(log, (1e9 - age, 1e9 - age))
    return log


def test_the_median_epoch_of_the_newest_log_counts(tmp_path: Path) -> None:
    model = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    write_log(model / "fold_0", 100, 101, 102, age=10)
    log = write_log(model / "fold_1", 20, 60, 22)
    write_log(tmp_path / "nnUNetTrainer__nnUNetPlans__2d" / "fold_0", 1)
    found = recorded_speed(tmp_path, "nnUNetPlans", "3d_fullres")
    assert found is not None
    assert found.seconds_per_epoch == 22
    assert found.log == log
    assert (found.iterations_per_epoch, found.val_iterations_per_epoch, found.batch_size) == (250, 50, 2)
    assert found.device == "cuda:0"


def test_what_was_measured_before_a_resumption_elsewhere_is_forgotten(tmp_path: Path) -> None:
    fold = tmp_path / "Mine__nnUNetPlans__2d" / "fold_0"
    write_log(fold, 100, 100)
    write_log(fold, 5, event="resume", device="cpu")
    found = recorded_speed(tmp_path, "nnUNetPlans", "2d")
    assert found is not None
    assert (found.seconds_per_epoch, found.device) == (5, "cpu")


def test_logs_without_an_epoch_say_nothing(tmp_path: Path) -> None:
    assert recorded_speed(tmp_path / "missing", "nnUNetPlans", "2d") is None
    write_log(tmp_path / "Mine__nnUNetPlans__2d" / "fold_0")
    assert recorded_speed(tmp_path, "nnUNetPlans", "2d") is None


def test_damaged_logs_are_passed_over(tmp_path: Path) -> None:
    model = tmp_path / "Mine__nnUNetPlans__2d"
    write_log(model / "fold_0", 7, age=10)
    for fold, line in enumerate(("5", '{"event": "start"}', '{"event": "epoch"}', "\udcff"), start=1):
        log = write_log(model / f"fold_{fold}", 1)
        log.write_bytes(f'{line}\n{{"event": "epoch", "seconds": 3}}\n'.encode(errors="surrogateescape"))
    found = recorded_speed(tmp_path, "nnUNetPlans", "2d")
    assert found is not None
    assert found.seconds_per_epoch == 7
