"""Whether weights still fit a plan: the differences from the plan and dataset.json that they were trained with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segwright.errors import PlanError, message
from segwright.interop.checkpoint import Checkpoint
from segwright.preprocessing.record import by_plan_keys, record_of, resampling_record
from segwright.task import Task

# Predictions do not depend on the first two; the third does not change what the weights mean; everything else does.
_OF_TRAINING = frozenset({"batch_dice", "data_identifier", "resampling_fn_seg", "resampling_fn_seg_kwargs"})
_OF_FILES = frozenset({"image_reader_writer", "channel_names"})
_OF_PREDICTION = frozenset({"patch_size", "resampling_fn_probabilities", "resampling_fn_probabilities_kwargs"})


@dataclass(frozen=True)
class PlanChange:
    """A dotted key of plan or dataset.json whose value differs from the one that the weights were trained with."""

    key: str
    trained_with: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} {json.dumps(self.now)} instead of {json.dumps(self.trained_with)}"

    @property
    def is_harmless(self) -> bool:
        """Whether the weights mean the same with both."""
        return not self.changes_predictions or self._top in _OF_PREDICTION

    @property
    def changes_predictions(self) -> bool:
        """Whether the same weights predict something else."""
        renamed = self._top == "labels" and (self.trained_with is None or self.now is None)
        return not renamed and self._top not in _OF_TRAINING | _OF_FILES

    @property
    def _top(self) -> str:
        return self.key.split(".", 1)[0]


def changes_since(checkpoint: Checkpoint, now: Task) -> tuple[PlanChange, ...]:
    """The differences from the plan in a checkpoint; empty if the file does not contain its plan.

    Raises:
        CheckpointError, PlanError, DatasetError: the checkpoint's plan or dataset.json is invalid.
    """
    if checkpoint.plan is None:
        return ()
    trained = Task.of(checkpoint.plan, now.configuration.name, checkpoint.description or now.description)
    return plan_changes(trained, now)


def plan_changes(trained: Task, now: Task) -> tuple[PlanChange, ...]:
    """Compare what determines the meaning of weights, which excludes training settings (batch size, epochs, ...)."""
    before, after = _decisive(trained), _decisive(now)
    keys = dict.fromkeys([*before, *after])
    return tuple(PlanChange(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key))


def refuse_changes(changes: Sequence[PlanChange], *, where: str, made: str, remedies: str) -> None:
    """Raise if there are changes; `made` names what was made with the previous values.

    Raises:
        PlanError: with every key and both values.
    """
    if changes:
        raise PlanError(
            message(
                where,
                expected=f"what {made} was made with: "
                + "; ".join(f"{change.key} {json.dumps(change.trained_with)}" for change in changes),
                got="; ".join(f"{change.key} {json.dumps(change.now)}" for change in changes),
                remedy=remedies,
            )
        )


def _decisive(task: Task) -> dict[str, Any]:
    configuration, description = task.configuration, task.description
    architecture = asdict(configuration.architecture)
    if configuration.architecture.kind != "other":
        del architecture["network_class_name"]  # `kind` says it, whichever package the class is found in
    arrays = record_of(task)
    del arrays["format"]
    decisive = {
        **arrays,
        "resampling_probabilities": resampling_record(configuration.resampling_probabilities),
        "architecture": architecture,
        "patch_size": configuration.patch_size,
        "batch_dice": configuration.batch_dice,
        "data_identifier": configuration.data_identifier,
        "previous_stage": configuration.previous_stage,
        "number of channels": len(description.channel_names),
        "channel_names": description.channel_names,
        "values of the labels": [value for _, value in description.labels.values],
        "regions_class_order": description.labels.regions_class_order,
    }
    return by_plan_keys(json.loads(json.dumps(decisive, default=dict)))
