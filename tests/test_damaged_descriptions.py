"""Damaged dataset.json, splits, plans, fingerprints and summaries by the hundred: understood, or refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.dataset import DatasetDescription, RawDataset
from segwright.dataset.splits import read_splits, split_for_fold
from segwright.doctor.check import check
from segwright.errors import SegwrightError
from segwright.evaluation.summary import Summary
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from tiny_datasets import make_3d

GOLDEN = Path(__file__).parent / "golden" / "plans"
NAME = "Dataset901_CTAniso"
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 0.5, 1e-300, 1e300, float("nan"), float("inf"), -0.0, 10**17, 2**31, 65536),
    *("", "0", "None", "\0", "\ud800", "x" * 5000, "../../etc/passwd", ".", "/", "\n", "ünïcode", "$HOME", "%s{0}"),
    *([], {}, [[]], [None], [0, 0, 0], [1, 2], [-1, 0, 1], ["a", "a"], {"0": "a"}, {"": None}, [[1, 2, 3]] * 3),
)
SUMMARY = {
    "foreground_mean": {"Dice": 0.5},
    "mean": {"1": {"Dice": 0.5, "IoU": 0.3}, "(1, 2)": {"Dice": 0.5}},
    "metric_per_case": [
        {"metrics": {"1": {"Dice": 0.5}}, "prediction_file": "a/p.nii.gz", "reference_file": "b/p.nii.gz"}
    ],
}
DESCRIPTION = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    "regions_class_order": [1, 2],
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "NibabelIO",
    "dataset": {"a": {"images": ["a_0.nii.gz", "$B/a_1.nii.gz"], "label": "a.nii.gz"}},
}


def read_description(path: Path) -> None:
    DatasetDescription.read(path).write(path.with_name("again.json"))


def read_and_use_splits(path: Path) -> None:
    for fold, split in enumerate(read_splits(path)):
        split_for_fold(read_splits(path), fold, (*split.train, *split.val))


def read_and_use_plan(path: Path) -> None:
    plan = Plan.read(path)
    plan.write(path.with_name("again.json"))
    for name in plan.configuration_names:
        plan.configuration(name)


def read_and_write_fingerprint(path: Path) -> None:
    Fingerprint.read(path).write(path.with_name("again.json"))


def read_and_write_summary(path: Path) -> None:
    Summary.read(path).write(path.with_name("again.json"))


KINDS: dict[str, tuple[Callable[[Path], None], Any]] = {
    "dataset.json": (read_description, DESCRIPTION),
    "splits_final.json": (read_and_use_splits, [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]),
    "plans.json": (read_and_use_plan, json.loads((GOLDEN / f"{NAME}__nnUNetPlans.json").read_text())),
    "dataset_fingerprint.json": (
        read_and_write_fingerprint,
        json.loads((GOLDEN / f"{NAME}__dataset_fingerprint.json").read_text()),
    ),
    "summary.json": (read_and_write_summary, SUMMARY),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """A copy with one or two values taken away, replaced by strange ones, renamed or doubled."""
    changed = copy.deepcopy(value)
    for _ in range(rng.integers(1, 3)):
        ways = list(places(changed))
        if not ways:
            return changed
        # every depth alike: most values lie deep, in long lists
        depth = rng.choice(sorted({len(way) for way in ways}))
        alike = [way for way in ways if len(way) == depth]
        *above, key = alike[rng.integers(len(alike))]
        outer = changed
        for step in above:
            outer = outer[step]
        action = rng.integers(4)
        strange = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
        if action == 0:
            del outer[key]
        elif action == 1 and isinstance(outer, dict):
            outer[str(strange)] = outer.pop(key)
        elif action == 2 and isinstance(outer, list):
            outer.append(copy.deepcopy(outer[key]))
        else:
            outer[key] = strange
    return changed


def damaged_text(value: Any, rng: np.random.Generator) -> bytes:
    """The file's text with a few bytes flipped, cut out, or written twice."""
    text = bytearray(json.dumps(mutated(value, rng), indent=int(rng.integers(0, 5))).encode())
    start, stop = sorted(int(place) for place in rng.integers(0, len(text), 2))
    action = rng.integers(5)
    if action == 0:
        del text[start:]
    elif action == 1:
        del text[start : min(stop, start + 30)]
    elif action == 2:
        text[start] ^= 1 << int(rng.integers(8))
    elif action == 3:
        text[start:start] = text[start : min(stop, start + 40)]
    return bytes(text)


def faults(kind: str, folder: Path, count: int, seed: int) -> list[str]:
    """What came of the files that neither could be used nor was refused by name."""
    read, value = KINDS[kind]
    rng = np.random.default_rng(seed)
    path = folder / kind
    found = []
    refused = 0
    for _ in range(count):
        content = damaged_text(value, rng)
        path.write_bytes(content)
        try:
            read(path)
        except SegwrightError as error:
            refused += 1
            if kind not in str(error) or len(str(error)) > 3000:
                found.append(f"no name: {error} for {content[:2000]!r}")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error} for {content[:2000]!r}")
    assert refused > count / 5
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_understood_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    assert faults(kind, tmp_path, count=150, seed=0) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_understood_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    assert faults(kind, tmp_path, count=5000, seed=1) == []


def test_check_and_opening_survive_every_dataset_json(tmp_path: Path) -> None:
    folder = make_3d(tmp_path / "Dataset001_Tiny")
    path = folder / "dataset.json"
    whole = json.loads(path.read_text())
    explicit = {
        f"c{number}": {
            "images": [f"imagesTr/ballTr_{number:03d}_0000.nii.gz"],
            "label": f"labelsTr/ballTr_{number:03d}.nii.gz",
        }
        for number in range(2)
    }
    rng = np.random.default_rng(2)
    for number in range(60):
        path.write_text(json.dumps(mutated({**whole, "dataset": explicit} if number % 2 else whole, rng)))
        check(folder)
        try:
            RawDataset.open(folder)
        except SegwrightError:
            continue
