"""The folder of one trained model, `Trainer__plans__configuration`, as nnU-Net v2 lays it out.

All its file names are defined here:

plans.json, dataset.json, dataset_fingerprint.json    what the model was trained with
fold_0 ... fold_4, fold_all/                          one training each: `FoldFolder`
earlier_fold_0_<time>/                                trainings that a new one replaced
predictions_imagesTs_fold_0/                          test cases, predicted and scored by `run`
report.html                                           what `report` and `run` write
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from segwright.errors import MissingFileError, SettingsError, message
from segwright.names import parse_name

Fold = int | Literal["all"]

FINAL, LATEST, BEST = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"
SUMMARY_FILE = "summary.json"
_NAME = re.compile(r"(?P<trainer>.+?)__(?P<plans>.+)__(?P<configuration>.+?)")
_EARLIER = re.compile(r"earlier_fold_(0|[1-9]\d{0,8}|all)_.+")
_FOLD = re.compile(r"fold_(0|[1-9]\d{0,8}|all)")


def parse_fold(text: str) -> Fold:
    """Read a fold: a whole number or `all`.

    Raises:
        SettingsError
    """
    if text == "all":
        return "all"
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise SettingsError(message("FOLD", expected="a whole number from 0 on, or 'all'", got=repr(text), remedy="Try 0."))


@dataclass(frozen=True)
class FoldFolder:
    """The training of one fold, which may not have started."""

    path: Path
    fold: Fold

    @property
    def validation(self) -> Path:
        """Folder of the predicted validation cases and their summary."""
        return self.path / "validation"

    @property
    def summary(self) -> Path:
        """Scores of the validation cases."""
        return self.validation / SUMMARY_FILE

    @property
    def log(self) -> Path:
        """Events of the training, one JSON object per line."""
        return self.path / "training_log.jsonl"

    @property
    def settings(self) -> Path:
        """The resolved settings, and where each came from."""
        return self.path / "settings.json"

    @property
    def has_begun(self) -> bool:
        """Whether a training has written anything here."""
        return self.path.is_dir() and any(self.path.iterdir())

    @property
    def is_trained(self) -> bool:
        """Whether a training was completed here."""
        return (self.path / FINAL).is_file()

    def checkpoints(self) -> tuple[Path, ...]:
        """The existing checkpoints, in the order in which `--continue` tries them (nnU-Net's order)."""
        return tuple(path for name in (FINAL, LATEST, BEST) if (path := self.path / name).is_file())

    def name_if_moved_aside(self) -> Path:
        """Where the training is kept when another replaces it; nnU-Net does not take the name for a fold."""
        now = datetime.now().strftime("%Y%m%d_%H%M%S_%f")
        return self.path.with_name(f"earlier_{self.path.name}_{now}")


@dataclass(frozen=True)
class ModelFolder:
    """The results of one configuration, trained by one trainer class with one plan."""

    path: Path

    @classmethod
    def named(cls, results: Path, *, trainer: str, plans: str, configuration: str) -> ModelFolder:
        """The folder of a model in a data set's `results`, whether or not it exists.

        Raises:
            SettingsError: the name cannot be that of a folder.
        """
        name = f"{trainer}__{plans}__{configuration}"
        return cls(results / parse_name(name, where=f"{results}, name of a model folder", error=SettingsError))

    @classmethod
    def all_in(cls, results: Path, *, plans: str, configuration: str | None = None) -> tuple[ModelFolder, ...]:
        """The models of a data set with a plan in which a training has started, sorted by name."""
        found = (cls(path) for path in sorted(results.glob("*__*__*")) if path.is_dir())
        return tuple(
            model
            for model in found
            if model.plans_name == plans and configuration in (None, model.configuration_name) and model.folds()
        )

    @property
    def trainer_name(self) -> str:
        """Name of the trainer class, from the folder's name; empty if that is not a model's."""
        return self._part("trainer")

    @property
    def plans_name(self) -> str:
        """Name of the plan, from the folder's name; empty if that is not a model's."""
        return self._part("plans")

    @property
    def configuration_name(self) -> str:
        """Name of the configuration, from the folder's name; empty if that is not a model's."""
        return self._part("configuration")

    def _part(self, name: str) -> str:
        match = _NAME.fullmatch(self.path.name)
        return match[name] if match else ""

    @property
    def plans(self) -> Path:
        """The plan that the weights were trained with."""
        return self.path / "plans.json"

    @property
    def dataset(self) -> Path:
        """The description of the data that the weights were trained on."""
        return self.path / "dataset.json"

    @property
    def report_page(self) -> Path:
        """The page that `report` writes."""
        return self.path / "report.html"

    def fold(self, fold: Fold | str) -> FoldFolder:
        """The training of a fold, started or not."""
        known = _fold(fold)
        return FoldFolder(self.path / f"fold_{known}", known)

    def lock_file(self, fold: Fold) -> Path:
        """The file that a process locks while it trains a fold."""
        return self.path / f".fold_{fold}.lock"

    def test_predictions(self, fold: Fold) -> Path:
        """Folder of the predictions that `run` makes of imagesTs with a fold."""
        return self.path / f"predictions_imagesTs_fold_{fold}"

    def folds(self) -> tuple[FoldFolder, ...]:
        """The folds whose training has started: the numbered ones ascending, then `all`."""
        return tuple(sorted((fold for fold in self._fold_folders() if fold.has_begun), key=_by_number))

    def earlier(self) -> tuple[FoldFolder, ...]:
        """Trainings that were replaced by a new one of their fold, sorted by name."""
        found = ((path, _EARLIER.fullmatch(path.name)) for path in sorted(self.path.glob("earlier_fold_*")))
        return tuple(FoldFolder(path, _fold(match[1])) for path, match in found if match)

    def folds_with(self, checkpoint_name: str) -> tuple[Fold, ...]:
        """The numbered folds that have a checkpoint of this name, ascending; nnU-Net leaves `all` out, too."""
        return tuple(
            fold.fold for fold in self.folds() if fold.fold != "all" and (fold.path / checkpoint_name).is_file()
        )

    def last_trained_at(self) -> float:
        """When a training last wrote to one of the folds, in seconds since 1970; 0 if none has started."""
        return max((fold.path.stat().st_mtime for fold in self.folds()), default=0.0)

    def require(self, option: str = "") -> None:
        """Refuse a folder that is not that of a model, naming models near it, and the `option` that named it.

        Raises:
            MissingFileError
        """
        if self.plans.is_file():
            return
        near = [
            *self.path.glob("*__*__*/plans.json"),
            *(folder / "plans.json" for folder in Path(os.path.realpath(self.path)).parents),
        ]
        models = sorted(str(file.parent) for file in near if file.is_file() and ModelFolder(file.parent).plans_name)
        raise MissingFileError(
            message(
                f"{option} {self.path}".lstrip(),
                expected="a model folder, Trainer__plans__configuration, with plans.json in it",
                got="one without plans.json" if self.path.is_dir() else "no such folder",
                remedy=f"Try {' or '.join(models)}." if models else "Train the model, or correct the path.",
            )
        )

    def _fold_folders(self) -> Iterator[FoldFolder]:
        for path in self.path.glob("fold_*"):
            if path.is_dir() and (match := _FOLD.fullmatch(path.name)):
                yield self.fold(match[1])


def _fold(fold: Fold | str) -> Fold:
    return "all" if fold == "all" else int(fold)


def _by_number(fold: FoldFolder) -> tuple[bool, int]:
    return (True, 0) if fold.fold == "all" else (False, fold.fold)
