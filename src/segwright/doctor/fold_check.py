"""Problems of cross-validation: classes missing from a fold, and patients on both sides of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from segwright.dataset.description import FILE_NAME
from segwright.dataset.groups import OPTION, leaking_groups
from segwright.dataset.problems import MAX_NAMES, Problem, some
from segwright.dataset.splits import FILE_NAME as SPLITS_NAME
from segwright.dataset.splits import NUM_FOLDS, Split, create_splits
from segwright.labels import Labels

# The part before the first separator after a number: patient001 of patient001_frame12.
SUGGESTED_GROUPING = "^(.*?[0-9]+)[_-]"
# Larger groups with one prefix are years, sites or data sets rather than patients.
_MOST_SCANS_OF_A_PATIENT = 20
_LEAST_SHARE_WITH_A_REST = 0.5
# A class is rare in fewer cases than this, of at least so many.
_FEW_CASES, _FEW_CASES_SHARE, _ENOUGH_CASES = 5, 0.02, 10

LabelCounts = Mapping[str, Mapping[float, int]]


def folds_to_check(
    case_ids: Collection[str], splits: Sequence[Split] | None, groups: Mapping[str, str] | None
) -> Sequence[Split]:
    """The folds of a splits file, or if None those that will be made; empty if there are too few cases."""
    if splits is not None:
        return splits
    num_parts = len(case_ids) if groups is None else len({groups[case_id] for case_id in case_ids})
    return create_splits(case_ids, groups) if num_parts >= NUM_FOLDS else ()


def check_folds(
    counts: LabelCounts, labels: Labels, *, splits: Sequence[Split], groups: Mapping[str, str] | None
) -> list[Problem]:
    """Report empty label maps, classes that are rare or that a fold lacks, and groups that a fold divides.

    `counts` has the number of voxels of each label, for each readable case; parts of folds with other cases are
    skipped. `groups` maps each case to its patient, if known.
    """
    rare = list(_rare_classes(counts, labels, splits))
    return [
        *_empty_label_maps(counts, labels),
        *(rare if len(rare) <= MAX_NAMES else _in_one_line(rare, labels)),
        *_divided_groups(counts, splits, groups),
    ]


def check_splits(
    case_ids: Collection[str], splits: Sequence[Split], groups: Mapping[str, str] | None
) -> Iterator[Problem]:
    """Report folds that cannot be trained or whose scores are meaningless, and too few groups to make folds."""
    for fold, split in enumerate(splits):
        unknown = sorted({*split.train, *split.val} - set(case_ids))
        if unknown:
            yield _wrong_fold(
                fold,
                f"expected ids among the {len(case_ids)} complete cases, got {some(unknown)}",
                "Add these cases, or remove them from the fold; it cannot be trained like this.",
            )
        if not split.val:
            yield _wrong_fold(
                fold,
                "expected at least one case in 'val', got none",
                "Add cases; a fold without validation cases cannot be trained.",
            )
        if split.overlap:
            yield _wrong_fold(
                fold,
                f"expected each case in 'train' or in 'val', got in both: {some(split.overlap)}",
                "Remove them from one of the two; otherwise the scores will be too high.",
            )
    num_groups = len(set(groups.values())) if groups is not None else NUM_FOLDS
    if not splits and num_groups < NUM_FOLDS:
        what = f"expected at least {NUM_FOLDS} groups, one per fold, got {num_groups}"
        yield Problem("warning", "splits", None, OPTION, what, "Make smaller groups, or plan without them.")


def _wrong_fold(fold: int, what: str, remedy: str) -> Problem:
    return Problem("warning", "splits", None, f"{SPLITS_NAME}, fold {fold}", what, remedy)


def groups_by_name(case_ids: Sequence[str]) -> dict[str, str]:
    """Groups of several cases by the first number in their names, empty if the names do not suggest any.

    What follows the number must recur, as frame01 in patient001_frame01 and patient002_frame01.
    """
    matches = {case_id: re.search(SUGGESTED_GROUPING, case_id) for case_id in case_ids}
    groups = {case_id: match[1] for case_id, match in matches.items() if match}
    sizes = Counter(groups.values())
    if len(groups) < len(case_ids) or not 1 < len(sizes) < len(case_ids):
        return {}
    rests = Counter(case_id.removeprefix(group) for case_id, group in groups.items())
    recurs = max(rests.values()) >= _LEAST_SHARE_WITH_A_REST * len(sizes)
    return groups if recurs and max(sizes.values()) <= _MOST_SCANS_OF_A_PATIENT else {}


def _empty_label_maps(counts: LabelCounts, labels: Labels) -> Iterator[Problem]:
    empty = [case_id for case_id, found in counts.items() if not set(found) - {0, labels.ignore_label}]
    if empty:
        yield Problem(
            "warning",
            "label_map_empty",
            None,
            "labelsTr",
            f"{len(empty)} of {len(counts)} label maps have no foreground: {some(empty)}",
            "That is correct if the image shows none of the classes; such a case has no Dice.",
            tuple(empty),
        )


def _rare_classes(counts: LabelCounts, labels: Labels, splits: Sequence[Split]) -> Iterator[Problem]:
    for value in labels.foreground_labels:
        having = sorted(case_id for case_id, found in counts.items() if value in found)
        if not having:
            continue  # already reported for the whole data set
        untrained, unvalidated = (
            [
                str(fold)
                for fold, split in enumerate(splits)
                if part(split) and counts.keys() >= {*part(split)} and not {*having} & {*part(split)}
            ]
            for part in (_train, _val)
        )
        parts = [f"trains without it in fold {', '.join(untrained)}"] if untrained else []
        parts += [f"validates without it in fold {', '.join(unvalidated)}"] if unvalidated else []
        few = len(counts) >= _ENOUGH_CASES and len(having) < max(_FEW_CASES, _FEW_CASES_SHARE * len(counts))
        if not parts and not few:
            continue
        so = f", so that cross-validation {' and '.join(parts)}" if parts else ""
        yield Problem(
            "warning",
            "class_not_in_fold" if parts else "class_rare",
            None,
            f"{FILE_NAME}, key 'labels'",
            f"label {value} ({labels.name_of(value)}) is in {len(having)} of {len(counts)} cases ({some(having)}){so}",
            f"Add cases with it{f', or write a {SPLITS_NAME} that spreads them over the folds' if parts else ''}.",
            tuple(having),
        )


def _in_one_line(rare: Sequence[Problem], labels: Labels) -> Iterator[Problem]:
    names = [problem.what.partition(" is in ")[0].removeprefix("label ") for problem in rare]
    counted = f"{len(rare)} of {len(labels.foreground_labels)} classes"
    what = f"{counted} are in few cases, or missing from a fold: {some(names)}"
    yield replace(rare[0], kind="class_rare", what=what, case_ids=())


def _train(split: Split) -> tuple[str, ...]:
    return split.train


def _val(split: Split) -> tuple[str, ...]:
    return split.val


def _divided_groups(
    counts: LabelCounts, splits: Sequence[Split], groups: Mapping[str, str] | None
) -> Iterator[Problem]:
    likely = groups if groups is not None else groups_by_name(list(counts))
    leaks = leaking_groups(splits, likely)
    if not leaks:
        return
    fold, names = next(iter(leaks.items()))
    where = f"{len(names)} in fold {fold}: {some(names)}"
    if groups is not None:
        yield Problem(
            "warning",
            "group_divided",
            None,
            SPLITS_NAME,
            f"expected each group on one side of a fold, got groups on both ({where})",
            "Delete the file, and plan with --group-by to write it again.",
        )
    else:
        yield Problem(
            "warning",
            "same_patient",
            None,
            None,
            f"by their names, several cases belong to one patient, and folds have patients on both sides ({where})",
            f"If they are, plan with --group-by '{SUGGESTED_GROUPING}', otherwise the scores will be too high.",
        )
