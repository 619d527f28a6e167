"""Label values that occur in label maps but not in dataset.json, and how to fix that."""

from __future__ import annotations

from collections.abc import Mapping

from segwright.dataset.cases import Case, short_name
from segwright.dataset.description import FILE_NAME, DatasetDescription
from segwright.dataset.problems import Problem, some
from segwright.doctor.label_mapping import USUAL_UNLABELLED, label_mapping
from segwright.labels import Labels

MAX_VALUES = 10
_MOST_LINES = 20
# More distinct values than this are not labels: a grey image, or labels resampled with interpolation.
MAX_PLAUSIBLE_LABELS = 1000


def undeclared_labels(case: Case, counts: Mapping[float, int], labels: Labels, remedy: str) -> list[Problem]:
    """Report the values of a label map that are not declared, with their numbers of voxels."""
    undeclared = {value: count for value, count in counts.items() if value not in labels.allowed_values}
    if not undeclared or case.label_path is None:
        return []
    found = [f"{value:g} ({count} voxels)" for value, count in list(undeclared.items())[:MAX_VALUES]]
    more = f" and {len(undeclared) - MAX_VALUES} more" if len(undeclared) > MAX_VALUES else ""
    declared = ", ".join(map(str, sorted(labels.allowed_values)))
    return [
        Problem(
            "error",
            "labels_undeclared",
            case.case_id,
            short_name(case.label_path),
            f"expected the declared labels {declared}, got {', '.join(found)}{more}",
            remedy,
        )
    ]


def absent_labels(description: DatasetDescription, found: frozenset[float]) -> list[Problem]:
    """Report the declared classes that occur in no label map of the data set, in one line if there are many."""
    labels = description.labels
    absent = [f"{value} ({labels.name_of(value)})" for value in labels.foreground_labels if value not in found]
    lines = [f"label {name}" for name in absent]
    if len(absent) > _MOST_LINES:
        lines = [f"labels {some(absent)}"]
    return [
        Problem(
            "warning",
            "class_unused",
            None,
            f"{FILE_NAME}, key 'labels'",
            f"expected {line} in at least one case, got it in none",
            "A class without examples cannot be learned; remove it, or add cases.",
        )
        for line in lines
    ]


def mapping_remedy(found: frozenset[float], labels: Labels) -> str:
    """Suggest how to map the label values found in all cases of a data set to the declared ones."""
    declared, values = sorted(labels.allowed_values), sorted(found)
    undeclared = [value for value in values if value not in labels.allowed_values]
    if len(values) > MAX_PLAUSIBLE_LABELS or any(value != int(value) or value < 0 for value in values):
        return (
            "These look like grey values or labels resampled with interpolation; make the label map again with "
            "nearest-neighbour sampling, or apply a threshold."
        )
    has_ignore = labels.ignore_label is not None
    if undeclared == [USUAL_UNLABELLED] and len(values) > 2 and not has_ignore:
        return _unlabelled_remedy([value for value in declared if value not in found], declared[-1] + 1)
    if len(values) <= len(declared):
        same = {value: value for value in declared}
        is_sure = label_mapping(found, same, declares_ignore=has_ignore) is not None
        copy = "; segwright check --fix NEW_FOLDER writes a copy with it" if is_sure else ""
        return f"If the order is the same, this mapping fixes the label maps: {_mapping(values, declared)}{copy}."
    if len(undeclared) > MAX_VALUES:
        return (
            f"The label maps hold {len(values)} values in all. Declare each class; if a value identifies "
            "one object, write the object's class instead."
        )
    new = range(declared[-1] + 1, declared[-1] + 1 + len(undeclared))
    mapping = _mapping(undeclared, list(new))
    renumber = f" and map {mapping} in the label maps" if mapping else ""
    return f"Declare them in {FILE_NAME} as {', '.join(map(str, new))}{renumber}, or set them to a declared value."


def _unlabelled_remedy(absent: list[int], ignore: int) -> str:
    usual = USUAL_UNLABELLED
    as_class = f"map {usual} -> {absent[0]}" if len(absent) == 1 else f"declare it with the value {ignore}"
    what = f"label {absent[0]}, which occurs nowhere" if len(absent) == 1 else "a class"
    return (
        f"If {usual} marks unannotated voxels, map {usual} -> {ignore} in the label maps and declare "
        f'"ignore": {ignore}; if it is {what}, {as_class}.'
    )


def _mapping(old_values: list[float], new_values: list[int]) -> str:
    pairs = zip(old_values, new_values, strict=False)
    return ", ".join(f"{old:g} -> {new}" for old, new in pairs if old != new)
