"""How a folder of preprocessed cases was made, noted in it: what decides the arrays, from plan and dataset.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segwright.errors import PlanError, message
from segwright.io.json_file import read_json
from segwright.planning.configuration import Resampling
from segwright.planning.fields import as_object
from segwright.preprocessing.store import OWN_FOLDER
from segwright.task import Task

RECORD_NAME = Path(OWN_FOLDER) / "preprocessing.json"
_FORMAT = 1

Record = dict[str, Any]


def record_of(task: Task) -> Record:
    """Everything that decides the arrays, as JSON gives it back."""
    plan, configuration = task.plan, task.configuration
    intensities = {
        channel: plan.foreground_intensity_properties_per_channel.get(str(channel))
        for channel, scheme in enumerate(configuration.normalization_schemes)
        if scheme == "CTNormalization"
    }
    record: Record = json.loads(
        json.dumps(
            {
                "format": _FORMAT,
                "preprocessor_name": configuration.preprocessor_name,
                "image_reader_writer": plan.image_reader_writer,
                "transpose_forward": plan.transpose_forward,
                "spacing": configuration.spacing_mm,
                "normalization_schemes": configuration.normalization_schemes,
                "use_mask_for_norm": configuration.use_mask_for_norm,
                "foreground_intensities_for_ct": intensities,
                "resampling_data": resampling_record(configuration.resampling_data),
                "resampling_seg": resampling_record(configuration.resampling_seg),
                "labels": task.description.raw.get("labels"),
            },
            default=dict,
        )
    )
    return record


def resampling_record(resampling: Resampling) -> Record:
    """What decides how an array is resampled."""
    return {
        "function": resampling.function,
        "order": resampling.order,
        "order_z": resampling.order_z,
        "force_separate_z": resampling.force_separate_z,
        **resampling.kwargs,
    }


def by_plan_keys(record: Record) -> Record:
    """The same under the keys of plan and dataset.json, dotted where they lie within another."""
    named: Record = {}
    for key, value in record.items():
        step = key.removeprefix("resampling_")
        if key == "foreground_intensities_for_ct":
            named["foreground_intensity_properties_per_channel"] = value
        elif step != key and isinstance(value, dict):
            named[f"resampling_fn_{step}"] = value.get("function")
            named[f"resampling_fn_{step}_kwargs"] = {k: v for k, v in value.items() if k != "function"}
        else:
            named[key] = value
    return dict(_flat(named))


def _flat(values: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def refuse_other_preprocessing(folder: Path, task: Task) -> None:
    """Compare how a folder was made with a plan; of nnU-Net's own folders, which say nothing, all is taken as it is.

    Raises:
        PlanError: they differ, with the keys and both values.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return
    made = by_plan_keys(as_object(read_json(path, error=PlanError), str(path)))
    wanted = by_plan_keys(record_of(task))
    differing = [key for key in {**made, **wanted} if made.get(key) != wanted.get(key)]
    if differing:
        raise PlanError(
            message(
                f"{folder}, which was preprocessed with another plan or dataset.json",
                expected="; ".join(f"{key} {json.dumps(wanted.get(key))}" for key in differing),
                got="; ".join(f"{key} {json.dumps(made.get(key))}" for key in differing),
                remedy=f"Run `segwright preprocess DATASET -c {task.configuration.name}`, or put the values back.",
            )
        )
