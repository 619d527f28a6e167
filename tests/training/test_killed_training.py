"""A training killed at any moment goes on to the weights of one never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from segwright.interop.checkpoint_file import read_checkpoint
from segwright.training.monitor import read_log

PROGRAM = """
import sys
from pathlib import Path
from segwright.planning.plan import Plan
from segwright.training.run import train

preprocessed, results = Path(sys.argv[1]), Path(sys.argv[2])
train(
    Plan.read(preprocessed / "nnUNetPlans.json"),
    "tiny",
    0,
    preprocessed_folder=preprocessed,
    results_folder=results,
    flags={"num_epochs": 12, "num_iterations_per_epoch": 5, "num_val_iterations_per_epoch": 1},
    resume=True,
    loader_workers=1,
)
"""


def _start(tiny: Any, results: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(tiny.preprocessed), str(results)])


def _weights(results: Path) -> dict[str, torch.Tensor]:
    path = results / "nnUNetTrainer__nnUNetPlans__tiny" / "fold_0" / "checkpoint_final.pth"
    return read_checkpoint(path)["network_weights"]


@pytest.mark.slow
def test_a_training_killed_again_and_again_equals_one_never_killed(tiny: Any, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert _start(tiny, whole).wait() == 0
    log = whole / "nnUNetTrainer__nnUNetPlans__tiny" / "fold_0" / "training_log.jsonl"
    killed, kills, random_moment = tmp_path / "killed", 0, random.Random(0)
    latest = killed / log.parent.relative_to(whole) / "checkpoint_latest.pth"
    while True:
        process = _start(tiny, killed)
        before = latest.stat().st_mtime_ns if latest.exists() else 0
        while process.poll() is None and (latest.stat().st_mtime_ns if latest.exists() else 0) == before:
            time.sleep(0.01)
        time.sleep(random_moment.uniform(0, 0.6))
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
        assert kills < 40
    assert kills >= 3
    first, second = _weights(whole), _weights(killed)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves_and_stops(tiny: Any, tmp_path: Path, number: int) -> None:
    # Slurm and a terminal's Ctrl-C reach the loading processes as well as the training.
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tiny.preprocessed), str(tmp_path)],
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    fold = tmp_path / "nnUNetTrainer__nnUNetPlans__tiny" / "fold_0"
    while process.poll() is None and not (fold / "checkpoint_latest.pth").exists():
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints.decode()) == (0, "")
    assert read_log(fold / "training_log.jsonl")[-1]["event"] == "interrupted"
