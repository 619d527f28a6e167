"""A finding about a data set, and its conversion to an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from segwright.errors import DatasetError

MAX_NAMES = 5

Kind = Literal[
    "channels_alike",
    "channels_swapped",
    "class_not_in_fold",
    "class_rare",
    "class_unused",
    "description",
    "duplicate",
    "files",
    "geometry",
    "group_divided",
    "header",
    "intensities",
    "label_map_empty",
    "label_map_repeated",
    "labels_not_consecutive",
    "labels_undeclared",
    "near_duplicate",
    "not_a_number",
    "not_an_image",
    "not_hounsfield",
    "orientation",
    "position",
    "reader",
    "same_patient",
    "shape",
    "spacing",
    "splits",
    "unreadable",
]
"""Names of findings for programs; they must not change."""


@dataclass(frozen=True)
class Problem:
    """One error or warning about a data set, with its case and its file.

    For a finding about several cases, `case_ids` names them all and `case_id` is None.
    """

    severity: Literal["error", "warning"]
    kind: Kind
    case_id: str | None
    file: str | None
    what: str
    remedy: str
    case_ids: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The finding on one line."""
        case = f"case {self.case_id}" if self.case_id is not None else None
        where = ", ".join(part for part in (case, self.file) if part).replace("\n", "\\n")
        return " ".join(part for part in (f"{where}:" if where else "", f"{self.what}.", self.remedy) if part)

    def as_error(self) -> DatasetError:
        """The finding as an error to raise."""
        return DatasetError(self.text)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first few of many names, and the number of the others."""
    rest = len(names) - MAX_NAMES
    return separator.join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def in_brief(problems: Iterable[Problem]) -> list[Problem]:
    """Merge similar findings of many cases into one line: the first finding, and the names of the other cases
    (all of them for errors).

    Findings are similar if they differ only in the case, its file and numbers.
    """
    alike: dict[tuple[str, ...], list[Problem]] = defaultdict(list)
    for problem in problems:
        alike[_likeness(problem)].append(problem)
    return [line for group in alike.values() for line in ([_merged(group)] if len(group) > MAX_NAMES else group)]


def _likeness(problem: Problem) -> tuple[str, ...]:
    folder, _, name = (problem.file or "").partition("/")
    if not _name(problem):
        return (problem.text,)
    what = problem.what
    for part in (problem.case_id, name, *problem.case_ids):
        what = what.replace(part, "") if part else what
    return (problem.severity, problem.kind, folder, re.sub(r"[-+]?\d[\d.]*", "", what))


def _name(problem: Problem) -> str:
    """What distinguishes a finding from similar ones: its case, or its file."""
    return problem.case_id or (problem.file or "").partition("/")[2]


def _merged(group: Sequence[Problem]) -> Problem:
    first, *others = group
    names = list(dict.fromkeys(map(_name, others)))
    whose = "other cases" if first.case_id is not None else "other files"
    listed = ", ".join(names) if first.severity == "error" else some(names)
    what = f"{first.what}; similarly in {len(names)} {whose}: {listed}"
    cases = tuple(dict.fromkeys(problem.case_id for problem in group if problem.case_id is not None))
    return replace(first, what=what, case_ids=cases)
