"""A command line that runs in this process, and a workspace in which a tiny data set is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from segwright.cli.main import main
from tiny_datasets import TRAIN, make_3d


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def segwright(capsys: pytest.CaptureFixture[str]) -> Command:
    """`segwright("check", folder)` runs the command and gives its exit code, stdout and stderr."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workspace with a data set that was planned, preprocessed and trained for one epoch. Not to be changed."""
    workspace = tmp_path_factory.mktemp("trained")
    make_3d(workspace / "raw" / "Dataset001_Balls")
    place = ("1", "--workspace", str(workspace))
    assert main(["plan", *place, "--workers", "1"]) == 0
    assert main(["preprocess", *place, "-c", "3d_fullres", "--workers", "1"]) == 0
    assert main(["train", "1", "3d_fullres", "0", "--epochs", "1", "--workspace", str(workspace), *TRAIN]) == 0
    return workspace


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained workspace, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "workspace"))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A sound raw data set, to be damaged."""
    return make_3d(tmp_path / "raw" / "Dataset001_Balls")


@pytest.fixture(scope="session")
def model(trained: Path) -> Path:
    return trained / "results" / "Dataset001_Balls" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
