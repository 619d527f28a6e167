"""Map labels to 0, 1, 2, ... if dataset.json or the label maps number them otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from segwright.labels import IGNORE

# The value that annotation programs use for unannotated voxels.
USUAL_UNLABELLED = 255


def declared_mapping(raw: Mapping[str, Any]) -> dict[int, int]:
    """Map the label values that a dataset.json declares to 0, 1, 2, ... in their order, the ignore label last.

    Empty where they are malformed or have no background, 0, which is reported when the file is parsed.
    """
    declared = raw.get("labels")
    if not isinstance(declared, Mapping):
        return {}
    values = {value for name, entry in declared.items() if name != IGNORE for value in _values(entry)}
    if 0 not in values:
        return {}
    ignore = set(_values(declared.get(IGNORE, ()))) - values
    return {old: new for new, old in enumerate([*sorted(values), *sorted(ignore)])}


def label_mapping(
    found: Iterable[float], declared: Mapping[int, int], *, declares_ignore: bool = False
) -> dict[int, int] | None:
    """Map the values found in all label maps of a data set, and those of `declared`, to the new ones; None for a guess.

    Values that are not declared can be mapped where there are as many values as declared ones, which are then taken in
    the same order: 0 and 255 for the declared 0 and 1. No declared value takes another's meaning so: where 1 and 2 are
    declared, 2 and 3 may be these, or 1 may be missing. Nor is 255 mapped to a class if other classes have their
    declared values: it may mean unannotated, unless an ignore label is declared for that.
    """
    values = sorted(set(found))
    if set(values) <= set(declared):
        return dict(declared)
    if len(values) != len(declared) or any(value < 0 or value != int(value) for value in values):
        return None
    if set(values) - set(declared) == {USUAL_UNLABELLED} and len(values) > 2 and not declares_ignore:
        return None
    mapping = {int(old): new for old, new in zip(values, sorted(declared.values()), strict=True)}
    if any(declared.get(old, new) != new for old, new in mapping.items()):
        return None
    return {**declared, **mapping}


def renumbered(raw: Mapping[str, Any], mapping: Mapping[int, int]) -> dict[str, Any]:
    """The content of a dataset.json with other label values; every other key is unchanged and in its place."""

    def new(entry: Any) -> Any:
        if isinstance(entry, list):
            return [new(value) for value in entry]
        return mapping.get(int(entry), entry) if _is_number(entry) else entry

    result = dict(raw)
    if all(old == value for old, value in mapping.items()):
        return result
    result["labels"] = {name: new(entry) for name, entry in raw["labels"].items()}
    if isinstance(raw.get("regions_class_order"), list):
        result["regions_class_order"] = new(raw["regions_class_order"])
    return result


def changed_values(mapping: Mapping[int, int]) -> str:
    """The values that change, such as "255 -> 1"."""
    return ", ".join(f"{old} -> {new}" for old, new in mapping.items() if old != new)


def _values(entry: Any) -> list[int]:
    entries = entry if isinstance(entry, list | tuple) else [entry]
    return [int(value) for value in entries if _is_number(value)]


def _is_number(entry: Any) -> bool:
    return (isinstance(entry, int) and not isinstance(entry, bool)) or (isinstance(entry, str) and entry.isdecimal())
