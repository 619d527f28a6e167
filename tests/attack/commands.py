"""The commands that attacks give, and small changes to data sets that several families make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attack.place import Place, edit_json
from tiny_datasets import TRAIN

HERE = ("--workspace", "{workspace}")
ONE = ("--workers", "1")
CHECK = ("check", "1", *HERE, *ONE)
PLAN = ("plan", "1", *HERE, *ONE)
EXPLAIN = ("explain", "1", "-c", "3d_fullres", *HERE)
PREPROCESS = ("preprocess", "1", "-c", "3d_fullres", *HERE, *ONE)
OVERWRITE = (*PREPROCESS, "--overwrite")
TRAIN_0 = ("train", "1", "3d_fullres", "0", "--epochs", "1", *HERE, *TRAIN)
TRAIN_1 = ("train", "1", "3d_fullres", "1", "--epochs", "1", *HERE, *TRAIN)
CONTINUE = ("train", "1", "3d_fullres", "0", "--epochs", "2", "--continue", *HERE, *TRAIN)
PREDICT = ("predict", "{raw}/imagesTs", "{out}", "--model", "{model}", "--device", "cpu")
REPORT = ("report", "1", *HERE)
FOREIGN = "Dataset002_Foreign"
CHECK_FOREIGN = ("check", "2", *HERE, *ONE)
PLAN_FOREIGN = ("plan", "2", *HERE, *ONE)
PREPROCESS_FOREIGN = ("preprocess", "2", *HERE, *ONE)
FIX_FOREIGN = (*CHECK_FOREIGN, "--fix", "{workspace}/raw/Dataset003_Fixed")

Prepare = Callable[[Place], None]


def description_of(place: Place) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((place.raw / "dataset.json").read_text())
    return value


def foreign(place: Place, case_ids: Mapping[str, int] | None = None, **keys: Any) -> Path:
    """Make a second data set whose dataset.json names the files of the first; ids are given with a number of 0 to 5."""
    cases = {f"case_{number}": number for number in range(6)} if case_ids is None else dict(case_ids)
    entries = {
        case_id: {
            "images": [str(place.raw / f"imagesTr/ballTr_{number:03d}_0000.nii.gz")],
            "label": str(place.raw / f"labelsTr/ballTr_{number:03d}.nii.gz"),
        }
        for case_id, number in cases.items()
    }
    folder = place.workspace / "raw" / FOREIGN
    folder.mkdir()
    value = {**description_of(place), "dataset": entries, "numTraining": len(entries), **keys}
    (folder / "dataset.json").write_text(json.dumps(value))
    return folder


def with_case_id(case_id: str) -> Prepare:
    """Two sound cases and one of this id."""

    def prepare(place: Place) -> None:
        hostile = case_id.replace("{outside}", str(place.outside))
        foreign(place, {"case_0": 0, "case_1": 1, hostile: 2})

    return prepare


def with_description(path: str, **keys: Any) -> Prepare:
    """Keys put into a dataset.json of the workspace."""
    return lambda place: edit_json(place.workspace / path, lambda value: {**value, **keys})


def with_plan(**keys: Any) -> Prepare:
    """Keys put into the plan's 3d_fullres; text may name the folder outside."""

    def prepare(place: Place) -> None:
        filled = {
            key: value.replace("{outside}", str(place.outside)) if isinstance(value, str) else value
            for key, value in keys.items()
        }
        place.edit_plan(lambda plan, configuration: configuration.update(filled))

    return prepare


def with_network(**keys: Any) -> Prepare:
    """Keys put into the network's arguments in the plan."""
    return lambda place: place.edit_plan(
        lambda plan, configuration: configuration["architecture"]["arch_kwargs"].update(keys)
    )


def together(*steps: Prepare) -> Prepare:
    def prepare(place: Place) -> None:
        for step in steps:
            step(place)

    return prepare
