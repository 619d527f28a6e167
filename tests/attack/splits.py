"""Folds that cannot be, or that measure something else than they say; and properties that lack what they must hold."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

from attack.commands import CHECK, CONTINUE, HERE, TRAIN_0, TRAIN_1, Prepare
from attack.engine import Attack, Expectation, answered, refused, refused_or_warned
from attack.place import Place
from tiny_datasets import TRAIN

FAMILY = "splits"
IDS = [f"ballTr_{number:03d}" for number in range(6)]
SPLITS: dict[str, tuple[Any, Expectation]] = {
    "val-empty": ([{"train": IDS[:4], "val": []}], refused("val")),
    "train-empty": ([{"train": [], "val": IDS}], refused("train")),
    "both-empty": ([{"train": [], "val": []}], refused("train")),
    "val-in-train": ([{"train": IDS, "val": IDS[:2]}], refused_or_warned("train", "val", "ballTr_000")),
    "one-case-in-both": ([{"train": IDS[:5], "val": IDS[4:]}], refused_or_warned("train", "val", "ballTr_004")),
    "unknown-in-train": ([{"train": [*IDS[:4], "gone"], "val": IDS[4:]}], refused("gone")),
    "unknown-in-val": ([{"train": IDS[:4], "val": ["gone"]}], refused("gone")),
    "twice": ([{"train": [IDS[0], *IDS[:4]], "val": IDS[4:]}], refused("ballTr_000")),
    "numbers": ([{"train": [1, 2], "val": [3]}], refused("train")),
    "text-for-list": ([{"train": "ballTr_000", "val": IDS[1:]}], refused("train")),
    "no-val": ([{"train": IDS[:4]}], refused("val")),
    "a-dictionary": ({"train": IDS[:4], "val": IDS[4:]}, refused("splits_final")),
    "no-folds": ([], refused("splits_final")),
    "a-list-of-lists": ([[IDS[:4], IDS[4:]]], refused("train")),
    "null": (None, refused("splits_final")),
    "a-path": ([{"train": ["../../../outside/precious/case"], "val": IDS}], refused("precious")),
    "with-endings": ([{"train": [f"{i}.nii.gz" for i in IDS[:4]], "val": IDS[4:]}], refused("ballTr_000.nii.gz")),
    "million-folds": ([{"train": IDS[:4], "val": IDS[4:]}] * 100_000, answered()),
}


def attacks() -> Iterator[Attack]:
    """Each file of splits for training and for check, and each fold that there is not."""
    for what, (splits, expect) in SPLITS.items():
        yield Attack(f"{what}-train", FAMILY, TRAIN_0, expect, partial(_write, splits=splits))
        yield Attack(f"{what}-check", FAMILY, CHECK, answered(), partial(_write, splits=splits))
        raw = partial(_write_raw, splits=splits)
        argv = ("preprocess", "1", *HERE, "-c", "3d_fullres", "--workers", "1")
        yield Attack(f"{what}-in-raw-preprocess", FAMILY, argv, answered(), raw)
    yield Attack("val-empty-continue", FAMILY, CONTINUE, refused("val"), partial(_write, splits=SPLITS["val-empty"][0]))
    for fold in ("-1", "5", "99", "9" * 40, "1.5", "0x1", "one", "", " 0", "٣", "all "):
        argv = ("train", "1", "3d_fullres", fold, "--epochs", "1", *HERE, *TRAIN)
        yield Attack(f"fold-{fold!r}", FAMILY, argv, refused())
    yield from _properties()


def _write(place: Place, *, splits: Any) -> None:
    (place.preprocessed / "splits_final.json").write_text(json.dumps(splits))


def _write_raw(place: Place, *, splits: Any) -> None:
    (place.preprocessed / "splits_final.json").unlink()
    (place.raw / "splits_final.json").write_text(json.dumps(splits))


def _properties() -> Iterator[Attack]:
    """The .pkl of a case: training needs the class locations, validation the geometry, which is hours later."""
    for key in (
        "spacing",
        "sitk_stuff",
        "shape_before_cropping",
        "bbox_used_for_cropping",
        "shape_after_cropping_and_before_resampling",
        "class_locations",
    ):
        yield Attack(f"properties-without-{key}", FAMILY, TRAIN_1, refused(key), _without(key))
        yield Attack(f"properties-{key}-none", FAMILY, TRAIN_1, refused(key), _with(key, None))
    for key, value in {
        "spacing": [0, 0, 0],
        "shape_before_cropping": [10**9] * 3,
        "bbox_used_for_cropping": [[0, 10**9]] * 3,
        "shape_after_cropping_and_before_resampling": [1, 1, 1],
        "class_locations": {1: [[0, 10**9, 0, 0]], 2: [[0, -5, 0, 0]]},
    }.items():
        yield Attack(f"properties-{key}-absurd", FAMILY, TRAIN_1, refused(key), _with(key, value))


def _without(key: str) -> Prepare:
    return partial(_change_properties, change=lambda properties: properties.pop(key, None))


def _with(key: str, value: Any) -> Prepare:
    return partial(_change_properties, change=lambda properties: properties.update({key: value}))


def _change_properties(place: Place, *, change: Any) -> None:
    for path in place.store.glob("*.pkl"):
        properties = pickle.loads(path.read_bytes())  # made by ourselves a moment ago
        change(properties)
        path.write_bytes(pickle.dumps(properties, protocol=4))
