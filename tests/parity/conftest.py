"""What every comparison with nnunetv2 needs: its Python, the data, excerpts of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from segwright.dataset import RawDataset

CopyExcerpt = Callable[..., RawDataset]


def _setting(name: str, meaning: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"Set {name} to {meaning}, or run `make parity PEER=... DATA=...`.")
    return value


@pytest.fixture(scope="session")
def peer_python() -> str:
    """Python of an environment with nnunetv2."""
    return _setting("SEGWRIGHT_PEER", "the Python of an environment with nnunetv2")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the raw data sets."""
    return Path(_setting("SEGWRIGHT_DATA", "the folder with the raw data sets"))


@pytest.fixture(scope="session")
def copy_excerpt(data_folder: Path) -> CopyExcerpt:
    """Copy the first cases of a data set, and the images of the next ones as test images."""

    def copy(name: str, target: Path, *, training: int, test: int = 0) -> RawDataset:
        source = RawDataset.open(data_folder / name)
        for case in source.cases[:training]:
            assert case.label_path is not None
            for path in (*case.image_paths, case.label_path):
                _copy(path, target / path.parent.name / path.name)
        for case in source.cases[training : training + test]:
            for path in case.image_paths:
                _copy(path, target / "imagesTs" / path.name)
        (target / "dataset.json").write_text(json.dumps({**source.description.raw, "numTraining": training}))
        return RawDataset.open(target)

    return copy


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
