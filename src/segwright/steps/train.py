"""Train one fold of one configuration in a workspace, and validate it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segwright.dataset import DatasetDescription, DatasetLocation
from segwright.planning import Plan
from segwright.results import Fold
from segwright.steps.watch import QUIET, Watch
from segwright.training.run import TrainingOutcome, train
from segwright.training.trainer import Trainer


def train_fold(
    location: DatasetLocation,
    plan: Plan,
    configuration: str,
    fold: Fold,
    *,
    trainer_class: type[Trainer] = Trainer,
    flags: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    checkpoint: Path | None = None,
    accept_plan: bool = False,
    workers: int | None = None,
    force: bool = False,
    watch: Watch = QUIET,
) -> TrainingOutcome:
    """Train in the workspace folders of a data set; the other arguments are those of `segwright.train`."""
    plan.configuration(configuration)
    labels = DatasetDescription.read(location.preprocessed / "dataset.json").labels
    with watch.training([labels.name_of(value) for value in labels.classes]) as monitor:
        return train(
            plan,
            configuration,
            fold,
            preprocessed_folder=location.preprocessed,
            results_folder=location.results,
            trainer_class=trainer_class,
            flags=flags,
            device=device,
            resume=resume,
            checkpoint=checkpoint,
            accept_plan=accept_plan,
            monitor=monitor,
            loader_workers=workers,
            force=force,
        )
