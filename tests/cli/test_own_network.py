"""A model whose network a user's class builds is predicted with that class, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_datasets import TRAIN

TRAINER = """
from torch import nn

from segwright import Trainer


class Thin(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first = nn.Conv3d(inputs, 4, 3, padding=1)
        self.last = nn.Conv3d(4, outputs, 1)

    def forward(self, x):
        return self.last(self.first(x).relu())


class ThinTrainer(Trainer):
    enable_deep_supervision = False
    num_epochs = 1

    @staticmethod
    def build_network_architecture(plan, configuration, inputs, outputs, deep_supervision=True):
        return Thin(inputs, outputs)

    def set_deep_supervision_enabled(self, enabled):
        pass
"""


@pytest.fixture
def thin(segwright, workspace: Path, tmp_path: Path) -> tuple[Path, str]:
    """The folder of a model of the thin network, and what names its class."""
    file = tmp_path / "thin_trainer.py"
    file.write_text(TRAINER)
    spec = f"{file}:ThinTrainer"
    words = ("train", 1, "3d_fullres", 0, *TRAIN, "--workspace", workspace)
    assert segwright(*words, "--trainer", spec).code == 0
    return workspace / "results" / "Dataset001_Balls" / "ThinTrainer__nnUNetPlans__3d_fullres", spec


def test_its_class_predicts_it(segwright, thin: tuple[Path, str], workspace: Path, tmp_path: Path) -> None:
    model, spec = thin
    images = workspace / "raw" / "Dataset001_Balls" / "imagesTs"
    words = ("predict", images, tmp_path / "masks", "--model", model, "--device", "cpu")
    refused = segwright(*words)
    assert refused.code == 2
    assert "ThinTrainer" in refused.err
    assert "--trainer" in refused.err
    assert segwright(*words, "--trainer", spec).code == 0
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 2


def test_another_class_is_refused_with_the_names_of_both_networks(
    segwright, thin: tuple[Path, str], trained: Path, workspace: Path, tmp_path: Path
) -> None:
    _, spec = thin
    plain = trained / "results" / "Dataset001_Balls" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    images = workspace / "raw" / "Dataset001_Balls" / "imagesTs"
    refused = segwright("predict", images, tmp_path / "masks", "--model", plain, "--trainer", spec)
    assert refused.code == 2
    assert "Trainer" in refused.err
