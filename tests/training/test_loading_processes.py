"""Processes that load batches: killed, or orphaned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_training_run import run

from process_tree import descendants, wait_until_gone
from segwright.errors import TrainingError
from segwright.training.trainer import Trainer


class KillsALoader(Trainer):
    """Does to a loading process what the system does when the memory does not suffice."""

    def train_step(self, batch: Mapping[str, Any]) -> dict[str, float]:
        if self.current_epoch == 1:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        return super().train_step(batch)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_loading_process_is_no_bug(tiny: Any, tmp_path: Path, workers: int) -> None:
    with pytest.raises(TrainingError, match=r"SIGKILL.*--workers.*--continue"):
        run(tiny, tmp_path, trainer_class=KillsALoader, loader_workers=workers)
    assert not multiprocessing.active_children()
    assert (tmp_path / "KillsALoader__nnUNetPlans__tiny" / "fold_0" / "checkpoint_latest.pth").is_file()


ORPHANING = """
import os, sys, time
from pathlib import Path
from segwright.planning.plan import Plan
from segwright.training.loading import PatchDataset
from segwright.training.run import train

def load_for_ever(self, index):
    os.write(1, b"loads\\n")
    while True:  # heeds nothing, as a library that computes
        time.sleep(600)

PatchDataset.__getitem__ = load_for_ever
preprocessed = Path(sys.argv[1])
train(
    Plan.read(preprocessed / "nnUNetPlans.json"), "tiny", 0,
    preprocessed_folder=preprocessed, results_folder=Path(sys.argv[2]), loader_workers=2,
)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_loading_process_outlives_a_killed_training(tiny: Any, tmp_path: Path) -> None:
    words = [sys.executable, "-c", ORPHANING, str(tiny.preprocessed), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(4):  # two loaders with two processes each
            assert process.stdout.readline() == b"loads\n"
        loaders = descendants(process.pid)
        assert len(loaders) >= 4
        process.kill()
        process.wait()
        assert wait_until_gone(loaders) == set()
