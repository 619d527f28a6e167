"""Whether weights still belong to a plan: what differs from the plan and dataset.json that they were made with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segwright.dataset.description import DatasetDescription
from segwright.errors import PlanError, message
from segwright.interop.checkpoint import Checkpoint
from segwright.planning.plan import Plan
from segwright.preprocessing.record import record_of, resampling_record

# What the same weights work with, though perhaps not as well; every other key decides what they compute or mean.
_HARMLESS = (
    "patch_size",
    "batch_dice",
    "data_identifier",
    "image_reader_writer",
    "resampling_seg",
    "resampling_probabilities",
    "channel_names",
    "label_names",
)


@dataclass(frozen=True)
class PlanChange:
    """A key of plan or dataset.json, dotted, whose value is not the one that the weights were made with."""

    key: str
    trained_with: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} {json.dumps(self.now)} instead of {json.dumps(self.trained_with)}"

    @property
    def is_harmless(self) -> bool:
        """Whether the weights mean the same with both."""
        return self.key.split(".", 1)[0] in _HARMLESS


def changes_since(
    checkpoint: Checkpoint, plan: Plan, description: DatasetDescription, configuration: str
) -> tuple[PlanChange, ...]:
    """What differs from the plan in a checkpoint; nothing where the file does not hold its plan.

    Raises:
        CheckpointError, PlanError, DatasetError: the checkpoint holds what is no plan, or no dataset.json.
    """
    if checkpoint.plan is None:
        return ()
    trained = checkpoint.plan, checkpoint.description or description
    return plan_changes(trained, (plan, description), configuration)


def plan_changes(
    trained: tuple[Plan, DatasetDescription], now: tuple[Plan, DatasetDescription], configuration: str
) -> tuple[PlanChange, ...]:
    """Compare what decides the meaning of weights; settings of a training (batch size, epochs, ...) do not.

    Raises:
        PlanError: one of the plans has no such configuration.
    """
    before, after = (dict(_flat(_decisive(*each, configuration))) for each in (trained, now))
    keys = dict.fromkeys([*before, *after])
    return tuple(PlanChange(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key))


def refuse_changes(changes: Sequence[PlanChange], *, where: str, made: str, remedies: str) -> None:
    """Raise where there are changes; `made` names what was made with the values before.

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


def _decisive(plan: Plan, description: DatasetDescription, name: str) -> dict[str, Any]:
    configuration = plan.configuration(name)
    architecture = asdict(configuration.architecture)
    if configuration.architecture.kind != "other":
        del architecture["network_class_name"]  # `kind` says it, whichever package the class is found in
    arrays = record_of(plan, configuration, description)
    del arrays["format"], arrays["labels"]
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
        "labels": [value for _, value in description.labels.values],
        "label_names": [label for label, _ in description.labels.values],
        "regions_class_order": description.labels.regions_class_order,
    }
    plain: dict[str, Any] = json.loads(json.dumps(decisive, default=dict))
    return plain


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
