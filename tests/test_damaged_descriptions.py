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
from segwright.labels import Labels
from segwright.planning.plan import Plan
from segwright.report import ReportContent, render_report
from segwright.report.cases import score_section
from segwright.report.recorded import training_section
from segwright.training.recorded_speed import recorded_speed
from tiny_datasets import make_3d

GOLDEN = Path(__file__).parent / "golden" / "plans"
NAME = "Dataset901_CTAniso"
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 0.5, 1e-300, 1e300, float("nan"), float("inf"), -0.0, 10**17, 2**31, 65536),
    *("", "0", "None", "\0", "\ud800", "x" * 5000, "../../etc/passwd", ".", "/", "\n", "ünïcode", "$HOME", "%s{0}"),
    *([], {}, [[]], [None], [0, 0, 0], [1, 2], [-1, 0, 1], ["a", "a"], {"0": "a"}, {"": None}, [[1, 2, 3]] * 3),
)
SCORES = {"Dice": 0.5, "IoU": 0.3, "TP": 4.0}
SUMMARY = {
    "foreground_mean": SCORES,
    "mean": {"1": SCORES, "(1, 2)": SCORES},
    "metric_per_case": [
        {
            "metrics": {"1": SCORES, "(1, 2)": SCORES},
            "prediction_file": "a/p.nii.gz",
            "reference_file": "b/p.nii.gz",
        }
    ],
}
SETTINGS = {
    "recipe": {"name": "short", "source": "default", "summary": "..."},
    "settings": {
        name: {"value": 2, "source": "default"}
        for name in ("num_iterations_per_epoch", "num_val_iterations_per_epoch", "batch_size")
    },
    "totals": {"iterations": 20, "passes_over_training_cases": 53.3},
    "environment": {"torch": "2.9", "threads": 2},
}
LOG = [
    {"event": "start", "device": "cpu", "settings": SETTINGS["settings"]},
    {"event": "resume", "epoch": 0, "device": "cpu", "settings": SETTINGS["settings"]},
    {"event": "epoch", "epoch": 0, "train_loss": 0.5, "val_loss": None, "pseudo_dice": [0.1, 0.2], "seconds": 3.0},
]
WRONG: tuple[Any, ...] = (None, True, -1, 0, 1e308, 10**17, "x", "", [], {}, [[1]], {"0": "a"})
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


def read_and_use_summary(path: Path) -> None:
    summary = Summary.read(path)
    summary.write(path.with_name("again.json"))
    labels = Labels.from_json({"background": 0, "ab": [1, 2], "a": 1}, [1, 2])
    score_section(summary, labels, title="", cases_in_words="", files=None)


def read_settings_of_training(path: Path) -> None:
    training_section(path.parent, ("a", "b"))


def read_log_of_training(path: Path) -> None:
    events = json.loads(path.read_text())
    path.write_text("\n".join(map(json.dumps, events if isinstance(events, list) else [events])))
    recorded_speed(path.parents[2], "nnUNetPlans", "2d")
    section, _ = training_section(path.parent, ("a", "b"))
    render_report(ReportContent(title="D", training=section))


KINDS: dict[str, tuple[Callable[[Path], None], Any]] = {
    "dataset.json": (read_description, DESCRIPTION),
    "splits_final.json": (read_and_use_splits, [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]),
    "plans.json": (read_and_use_plan, json.loads((GOLDEN / f"{NAME}__nnUNetPlans.json").read_text())),
    "dataset_fingerprint.json": (
        read_and_write_fingerprint,
        json.loads((GOLDEN / f"{NAME}__dataset_fingerprint.json").read_text()),
    ),
    "summary.json": (read_and_use_summary, SUMMARY),
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


def with_one_thing_wrong(value: Any, most: int | None) -> Iterator[Any]:
    """Copies in each of which one value is taken away or replaced by one of another kind; of `most`, evenly spread."""
    changes = [(way, wrong) for way in ((), *places(value)) for wrong in (..., *WRONG) if way or wrong is not ...]
    for way, wrong in changes[:: 1 if most is None else -(-len(changes) // most)]:
        if not way:
            yield wrong
            continue
        *above, key = way
        changed = outer = copy.deepcopy(value)
        for step in above:
            outer = outer[step]
        if wrong is ...:
            del outer[key]
        else:
            outer[key] = wrong
        yield changed


def first(count: int, value: dict[str, Any]) -> dict[str, Any]:
    """A fingerprint of fewer cases."""
    return {key: each[:count] if isinstance(each, list) else each for key, each in value.items()}


USES: dict[str, tuple[Callable[[Path], None], Any]] = {
    **KINDS,
    "dataset_fingerprint.json": (read_and_write_fingerprint, first(2, KINDS["dataset_fingerprint.json"][1])),
    "settings.json": (read_settings_of_training, SETTINGS),
    "training_log.jsonl": (read_log_of_training, LOG),
}


def wrong_types(kind: str, folder: Path, most: int | None) -> list[str]:
    """What came of files with one thing wrong that neither could be used nor was refused by name."""
    use, value = USES[kind]
    path = folder / "nnUNetTrainer__nnUNetPlans__2d" / "fold_0" / kind
    path.parent.mkdir(parents=True)
    found = []
    for content in with_one_thing_wrong(value, most):
        path.write_text(json.dumps(content))
        try:
            use(path)
        except SegwrightError as error:
            if kind not in str(error):
                found.append(f"no name: {error} for {content}")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error} for {content}")
    return found


@pytest.mark.parametrize("kind", USES)
def test_a_value_of_the_wrong_type_is_refused_by_name_or_harmless(kind: str, tmp_path: Path) -> None:
    assert wrong_types(kind, tmp_path, most=50) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", USES)
def test_every_value_of_every_wrong_type_is_refused_by_name_or_harmless(kind: str, tmp_path: Path) -> None:
    assert wrong_types(kind, tmp_path, most=None) == []


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
