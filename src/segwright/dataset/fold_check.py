"""What goes wrong in cross-validation: classes that a fold never sees, and patients on both sides of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from segwright.dataset.description import FILE_NAME
from segwright.dataset.groups import leaking_groups
from segwright.dataset.problems import Problem, some
from segwright.dataset.splits import FILE_NAME as SPLITS_NAME
from segwright.dataset.splits import NUM_FOLDS, Split, create_splits
from segwright.labels import Labels

# What stands before the first separator after a number: patient001 of patient001_frame12.
SUGGESTED_GROUPING = "^(.*?[0-9]+)[_-]"
# Longer lists with one beginning are years, sites or data sets rather than patients.
_MOST_SCANS_OF_A_PATIENT = 20

LabelCounts = Mapping[str, Mapping[float, int]]


def check_folds(
    counts: LabelCounts, labels: Labels, *, splits: Sequence[Split] | None, groups: Mapping[str, str] | None
) -> list[Problem]:
    """Report empty label maps, classes that a fold does not train on or validate, and groups that a fold divides.

    `counts` has the number of voxels of each label, for each case; `splits` are those of a splits file, None where
    they will be made. `groups` names the patient of each case, where that is known.
    """
    problems = list(_empty_label_maps(counts, labels))
    folds = splits
    if folds is None and len(counts if groups is None else set(groups.values())) >= NUM_FOLDS:
        folds = create_splits(counts, groups)
    if folds is not None:
        problems.extend(_absent_classes(counts, labels, folds))
        problems.extend(_divided_groups(counts, folds, groups))
    return problems


def _empty_label_maps(counts: LabelCounts, labels: Labels) -> Iterator[Problem]:
    empty = [case_id for case_id, found in counts.items() if not set(found) - {0, labels.ignore_label}]
    if empty:
        yield Problem(
            "warning",
            "label_map_empty",
            None,
            "labelsTr",
            f"{len(empty)} of {len(counts)} label maps have no foreground: {some(empty)}",
            "That is right where nothing is to be found in the image; such a case has no Dice of its own.",
        )


def _absent_classes(counts: LabelCounts, labels: Labels, splits: Sequence[Split]) -> Iterator[Problem]:
    for value in labels.foreground_labels:
        having = {case_id for case_id, found in counts.items() if value in found}
        if not having:
            continue  # told of the whole data set already
        untrained, unvalidated = (
            [str(fold) for fold, split in enumerate(splits) if part(split) and not having & set(part(split))]
            for part in (_train, _val)
        )
        if untrained or unvalidated:
            parts = [f"trains without it in fold {', '.join(untrained)}"] if untrained else []
            parts += [f"validates without it in fold {', '.join(unvalidated)}"] if unvalidated else []
            yield Problem(
                "warning",
                "class_not_in_fold",
                None,
                f"{FILE_NAME}, key 'labels'",
                f"label {value} ({labels.name_of(value)}) is in {len(having)} of {len(counts)} cases "
                f"({some(sorted(having))}), so that cross-validation {' and '.join(parts)}",
                f"Add cases with it, or write a {SPLITS_NAME} that spreads them over the folds.",
            )


def _train(split: Split) -> tuple[str, ...]:
    return split.train


def _val(split: Split) -> tuple[str, ...]:
    return split.val


def _divided_groups(
    counts: LabelCounts, splits: Sequence[Split], groups: Mapping[str, str] | None
) -> Iterator[Problem]:
    likely = groups if groups is not None else _groups_by_name(list(counts))
    if likely is None:
        return
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
            "Delete the file, and plan with --group-by to have it made anew.",
        )
    else:
        yield Problem(
            "warning",
            "same_patient",
            None,
            None,
            f"by their names, several cases are of one patient, and folds have patients on both sides ({where})",
            f"If they are, plan with --group-by '{SUGGESTED_GROUPING}', or the scores will be too good.",
        )


def _groups_by_name(case_ids: Sequence[str]) -> dict[str, str] | None:
    """Groups of several cases by the first number in their names, None if the names do not suggest any."""
    matches = {case_id: re.search(SUGGESTED_GROUPING, case_id) for case_id in case_ids}
    groups = {case_id: match[1] for case_id, match in matches.items() if match}
    sizes = Counter(groups.values())
    if len(groups) < len(case_ids) or len(sizes) < NUM_FOLDS or max(sizes.values()) > _MOST_SCANS_OF_A_PATIENT:
        return None
    return groups if len(sizes) < len(case_ids) else None
