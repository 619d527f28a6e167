"""Finding the user's own trainer class."""

from __future__ import annotations

from pathlib import Path

import pytest

from segwright.errors import TrainerError
from segwright.training.trainer import Trainer
from segwright.training.trainer_class import load_trainer_class

GOOD = """
from segwright.training.trainer import Trainer

class ShortTrainer(Trainer):
    num_epochs = 100

class Unrelated:
    pass
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my_trainer.py"
    path.write_text(text)
    return path


def test_a_class_in_a_file(tmp_path: Path) -> None:
    cls = load_trainer_class(f"{_file(tmp_path, GOOD)}:ShortTrainer")
    assert issubclass(cls, Trainer)
    assert cls.num_epochs == 100


def test_a_class_in_a_module() -> None:
    assert load_trainer_class("segwright.training.trainer:Trainer") is Trainer


def test_unknown_class_lists_the_trainers_there_are(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"'Missing'.* ShortTrainer\b"):
        load_trainer_class(f"{_file(tmp_path, GOOD)}:Missing")
    with pytest.raises(TrainerError, match=r"'Unrelated'"):
        load_trainer_class(f"{tmp_path / 'my_trainer.py'}:Unrelated")


def test_missing_file_and_form(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"nothing\.py"):
        load_trainer_class(f"{tmp_path / 'nothing.py'}:X")
    with pytest.raises(TrainerError, match=r"FILE.py:CLASS"):
        load_trainer_class("nnUNetTrainerDA5")
    with pytest.raises(TrainerError, match="ModuleNotFoundError"):
        load_trainer_class("no_such_package.module:X")


def test_a_broken_file_names_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "x = 1\n\nraise ValueError('boom')\n")
    with pytest.raises(TrainerError, match=r"my_trainer\.py, line 3: .*ValueError.*boom"):
        load_trainer_class(f"{path}:X")
