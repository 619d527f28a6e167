"""The training and validation cases of each fold (splits_final.json)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segwright.dataset.problems import some
from segwright.errors import DatasetError, message
from segwright.io.atomic import write_json_atomic
from segwright.io.json_file import read_json
from segwright.names import parse_name

FILE_NAME = "splits_final.json"
NUM_FOLDS = 5
SEED = 12345
ALL = "all"


@dataclass(frozen=True)
class Split:
    """The training and validation case ids of a fold."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    @property
    def overlap(self) -> tuple[str, ...]:
        """Cases in both, whose validation scores are meaningless; nnU-Net allows it, so it is only a warning."""
        return tuple(sorted(set(self.train) & set(self.val)))


def create_splits(case_ids: Iterable[str], groups: Mapping[str, str] | None = None) -> list[Split]:
    """Make five folds; each case is held out in one of them.

    Without `groups` they are nnU-Net's: scikit-learn's `KFold(5, shuffle=True, random_state=12345)` over the sorted
    ids. With `groups`, which maps a case id to its group (patient), no group is on both sides of a fold: the shuffled
    groups are assigned, large ones first, to the fold with the fewest validation cases.

    Raises:
        DatasetError: fewer than five cases or groups, or a case without a group.
    """
    ids = sorted(set(case_ids))
    held_out = _fold_of_each_case(ids) if groups is None else _fold_of_each_group(ids, groups)
    return [
        Split(
            train=tuple(case_id for case_id in ids if held_out[case_id] != fold),
            val=tuple(case_id for case_id in ids if held_out[case_id] == fold),
        )
        for fold in range(NUM_FOLDS)
    ]


def _fold_of_each_case(ids: Sequence[str]) -> dict[str, int]:
    _require_enough(len(ids), "cases")
    order = np.arange(len(ids))
    np.random.RandomState(SEED).shuffle(order)
    parts = np.array_split(order, NUM_FOLDS)
    return {ids[index]: fold for fold, part in enumerate(parts) for index in part}


def _fold_of_each_group(ids: Sequence[str], groups: Mapping[str, str]) -> dict[str, int]:
    without = [case_id for case_id in ids if case_id not in groups]
    if without:
        raise DatasetError(
            message(
                "cross-validation",
                expected="a group for each case",
                got=f"none for {some(without)}",
                remedy="Give these cases a group as well.",
            )
        )
    members: dict[str, list[str]] = {}
    for case_id in ids:
        members.setdefault(groups[case_id], []).append(case_id)
    _require_enough(len(members), "groups")
    names = sorted(members)
    np.random.RandomState(SEED).shuffle(names)
    folds: list[list[str]] = [[] for _ in range(NUM_FOLDS)]
    for name in sorted(names, key=lambda name: -len(members[name])):
        min(folds, key=len).extend(members[name])
    return {case_id: fold for fold, held_out in enumerate(folds) for case_id in held_out}


def _require_enough(count: int, what: Literal["cases", "groups"]) -> None:
    if count < NUM_FOLDS:
        instead = "Train fold 'all'" if what == "cases" else "Make smaller groups, or train fold 'all' without groups"
        raise DatasetError(
            message(
                "cross-validation",
                expected=f"at least {NUM_FOLDS} {what}, one per fold",
                got=str(count),
                remedy=f"{instead}, or write your own {FILE_NAME} into the preprocessed data set.",
            )
        )


def read_splits(path: Path) -> list[Split]:
    """Read a splits_final.json.

    Raises:
        MissingFileError: there is none.
        DatasetError: naming the fold that is malformed, has no training cases, or names a case twice.
    """
    value = read_json(path)
    if not isinstance(value, list) or not value:
        raise DatasetError(
            message(
                path,
                expected='a list of folds, each {"train": [case ids], "val": [case ids]}',
                got=repr(value)[:100],
                remedy="Delete the file to use nnU-Net's five folds.",
            )
        )
    return [_parse_split(entry, f"{path}, fold {fold}") for fold, entry in enumerate(value)]


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    """Write a splits_final.json, as nnU-Net reads it."""
    write_json_atomic(path, [{"train": list(split.train), "val": list(split.val)} for split in splits])


def split_for_fold(splits: Sequence[Split], fold: int | Literal["all"], case_ids: Iterable[str]) -> Split:
    """Return the cases of a fold; fold "all" trains and validates on every one of `case_ids`.

    Raises:
        DatasetError: there is no such fold, it names a case that is not among `case_ids`, or has no validation cases.
    """
    known = sorted(set(case_ids))
    if fold == ALL:
        return Split(train=tuple(known), val=tuple(known))
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < len(splits):
        raise DatasetError(
            message(
                "fold",
                expected=f"one of {', '.join(map(str, range(len(splits))))}, or all",
                got=str(fold),
                remedy=f"Choose one of these, or add the fold to {FILE_NAME}.",
            )
        )
    split = splits[fold]
    unknown = sorted({*split.train, *split.val} - set(known))
    if unknown:
        raise DatasetError(
            message(
                f"{FILE_NAME}, fold {fold}",
                expected=f"ids among the {len(known)} cases of the data set",
                got=some(unknown),
                remedy="Preprocess these cases, or remove them from the fold.",
            )
        )
    if not split.val:
        raise DatasetError(
            message(
                f"{FILE_NAME}, fold {fold}, key 'val'",
                expected="at least one case to validate on",
                got="none",
                remedy="Add ids, or train fold 'all' to use every case for training.",
            )
        )
    return split


def _parse_split(entry: Any, where: str) -> Split:
    lists = []
    for key in ("train", "val"):
        ids = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(ids, list) or not all(isinstance(case_id, str) for case_id in ids):
            raise DatasetError(
                message(
                    f"{where}, key '{key}'", expected="a list of case ids", got=repr(ids)[:100], remedy="Correct it."
                )
            )
        for case_id in ids:
            parse_name(case_id, where=f"{where}, key '{key}'", error=DatasetError)
        twice = sorted({case_id for case_id in ids if ids.count(case_id) > 1}) if len(set(ids)) < len(ids) else []
        if twice:
            raise DatasetError(
                message(
                    f"{where}, key '{key}'",
                    expected="each case once",
                    got=f"twice: {some(twice)}",
                    remedy="Remove the repeated ids.",
                )
            )
        lists.append(tuple(ids))
    if not lists[0]:
        raise DatasetError(
            message(f"{where}, key 'train'", expected="at least one case", got="none", remedy="Add the ids.")
        )
    return Split(train=lists[0], val=lists[1])
