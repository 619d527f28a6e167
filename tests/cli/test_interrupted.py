"""Ctrl-C in the middle of a training: everything is saved, and going on ends where it would have ended without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segwright.interop.checkpoint_file import read_checkpoint

NAME = "Dataset001_Balls"
TRAINERS = """
import os, signal
from segwright import Trainer

class Whole(Trainer):
    num_epochs = 2
    num_iterations_per_epoch = 3
    num_val_iterations_per_epoch = 1

class Stopped(Whole):
    def train_step(self, batch):
        told = self.output_folder.parent / "stopped"
        if self.current_epoch == 1 and self.state.step == 1 and not told.exists():
            told.touch()
            os.kill(os.getpid(), signal.SIGINT)
        return super().train_step(batch)
"""


def test_ctrl_c_says_how_to_go_on_and_nothing_is_lost(
    segwright, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trainers.py").write_text(TRAINERS)

    def words(class_name: str) -> tuple[object, ...]:
        place = ("--workspace", workspace, "--trainer", f"trainers.py:{class_name}")
        return ("train", 1, "3d_fullres", 0, *place, "--workers", 0, "--device", "cpu")

    def weights(class_name: str) -> dict[str, torch.Tensor]:
        model = workspace / "results" / NAME / f"{class_name}__nnUNetPlans__3d_fullres"
        found: dict[str, torch.Tensor] = read_checkpoint(model / "fold_0" / "checkpoint_final.pth")["network_weights"]
        return found

    assert segwright(*words("Whole")).code == 0
    stopped = words("Stopped")
    monkeypatch.setattr("sys.argv", ["segwright", *map(str, stopped)])
    outcome = segwright(*stopped)
    assert outcome.code == 130
    assert f"segwright {' '.join(map(str, stopped))} --continue" in outcome.err
    outcome = segwright(*stopped, "--continue")
    assert outcome.code == 0
    assert "checkpoint_latest.pth" in outcome.err
    whole, went_on = weights("Whole"), weights("Stopped")
    assert whole.keys() == went_on.keys()
    assert all(torch.equal(whole[key], went_on[key]) for key in whole)
