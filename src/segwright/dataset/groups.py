"""Which cases belong together, such as the scans of one patient, and must not be on both sides of a fold."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segwright.dataset.problems import some
from segwright.dataset.splits import FILE_NAME, Split, create_splits, read_splits
from segwright.errors import DatasetError, MissingFileError, SettingsError, message

OPTION = "--group-by"
_SECONDS_TO_SEARCH = 10
# The alarm ends the process even if its parent was killed; on Windows, which has none, the parent ends it.
_SEARCH = """
import json, re, signal, sys
pattern, ids, seconds = json.load(sys.stdin)
if hasattr(signal, "alarm"):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
try:
    compiled = re.compile(pattern)
except (re.error, OverflowError, RecursionError) as error:
    found = str(error)
else:
    matches = [compiled.search(case_id) for case_id in ids]
    found = [match and match[1 if compiled.groups else 0] for match in matches]
print(json.dumps(found))
"""
_TABLE_ENDINGS = (".csv", ".tsv")
_COMMAS = ",;\t"
_CASE_HEADINGS = ("case", "case_id", "id", "identifier", "image")
_GROUP_HEADINGS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id")


def read_groups(spec: str, case_ids: Iterable[str]) -> dict[str, str]:
    """Name the group of each case, by a regular expression or a table.

    A `spec` ending in .csv or .tsv is a table with a column `case` and a column `group` (or `patient`, `subject`), or
    several equivalent ones. Anything else is a regular expression that is searched in the case id: the group is its
    first capture group, otherwise the whole match.

    Raises:
        MissingFileError: there is no such table.
        SettingsError: the expression is malformed, finds no group in a case, or groups nothing; or `spec` is no table.
        DatasetError: the table is malformed, or lacks a case; with file and line.
    """
    ids = sorted(set(case_ids))
    if Path(spec).suffix.lower() in _TABLE_ENDINGS:
        return _read_table(Path(spec), ids)
    if os.path.isfile(spec):
        raise SettingsError(
            message(
                f"{OPTION} {spec}",
                expected=f"a table that ends in {' or '.join(_TABLE_ENDINGS)}, or a regular expression",
                got="another file",
                remedy="Save the table as CSV.",
            )
        )
    groups = _match(spec, ids)
    names = set(groups.values())
    if len(ids) > 1 and len(names) in (1, len(ids)):
        what = "one group with all cases" if len(names) == 1 else "a separate group for each case"
        raise SettingsError(
            message(
                f"{OPTION} {spec!r}",
                expected="groups of several cases",
                got=f"{what}, such as {groups[ids[0]]!r} for {ids[0]}",
                remedy="Put brackets around the part that the cases of a group share, as in '(patient[0-9]+)'.",
            )
        )
    return groups


def leaking_groups(splits: Sequence[Split], groups: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
    """Groups with cases on both sides of a fold, by the number of the fold; sorted."""
    leaks = {}
    for fold, split in enumerate(splits):
        train, val = ({groups[case_id] for case_id in part if case_id in groups} for part in (split.train, split.val))
        if train & val:
            leaks[fold] = tuple(sorted(train & val))
    return leaks


def grouped_splits(folder: Path, raw_folder: Path, case_ids: Iterable[str], groups: Mapping[str, str]) -> list[Split]:
    """Make folds that keep groups together, for a data set that may have a splits file already.

    Raises:
        DatasetError: the preprocessed or the raw data set has a splits file with other folds, or groups are too few.
    """
    splits = create_splits(case_ids, groups)
    for path in (folder / FILE_NAME, raw_folder / FILE_NAME):
        if path.is_file() and read_splits(path) != splits:
            leaks = leaking_groups(read_splits(path), groups)
            mixed = f", of which fold {min(leaks)} has {some(leaks[min(leaks)])} on both sides" if leaks else ""
            raise DatasetError(
                message(
                    path,
                    expected=f"no splits, or those made by {OPTION}",
                    got=f"other folds{mixed}",
                    remedy=f"Delete the file and the trainings with its folds, or leave {OPTION} out to keep them.",
                )
            )
    return splits


def _match(pattern: str, ids: Sequence[str]) -> dict[str, str]:
    groups = {case_id: group for case_id, group in zip(ids, _search(pattern, ids), strict=True) if group}
    without = [case_id for case_id in ids if case_id not in groups]
    if without:
        raise SettingsError(
            message(
                f"{OPTION} {pattern!r}",
                expected="a match in every case's id",
                got=f"none in {some(without)}",
                remedy="Widen the expression, or list the groups in a .csv file.",
            )
        )
    return groups


def _search(pattern: str, ids: Sequence[str]) -> list[str | None]:
    """Matches of an expression in each id, in a separate process: some expressions take years and block Python."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([pattern, list(ids), _SECONDS_TO_SEARCH]),
            capture_output=True,
            encoding="utf-8",
            timeout=2 * _SECONDS_TO_SEARCH,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        raise _bad_expression(
            pattern, f"an expression that searches {len(ids)} ids in {_SECONDS_TO_SEARCH} s", "one that takes longer"
        )
    found = json.loads(done.stdout)
    if isinstance(found, str):
        raise _bad_expression(pattern, "a regular expression, or a .csv file", found)
    return [None if group is None else str(group) for group in found]


def _bad_expression(pattern: str, expected: str, got: str) -> SettingsError:
    return SettingsError(
        message(
            f"{OPTION} {pattern!r}",
            expected=expected,
            got=got,
            remedy="Write, for example, '(patient[0-9]+)', in quotes.",
        )
    )


def _read_table(path: Path, ids: Sequence[str]) -> dict[str, str]:
    rows = [(number, row) for number, row in _rows(path) if any(cell.strip() for cell in row)]
    first_line, first = rows[0] if rows else (1, [])
    headings = [heading.strip().lower() for heading in first]
    case_column, group_column = (
        next((headings.index(name) for name in names if name in headings), None)
        for names in (_CASE_HEADINGS, _GROUP_HEADINGS)
    )
    if case_column is None or group_column is None:
        raise _malformed(path, first_line, "the headings case and group", ", ".join(headings) or "an empty file")
    groups: dict[str, str] = {}
    for number, row in rows[1:]:
        if len(row) != len(headings) or not row[case_column].strip() or not row[group_column].strip():
            raise _malformed(path, number, "a case and its group", repr(row))
        case_id, group = row[case_column].strip(), row[group_column].strip()
        if groups.setdefault(case_id, group) != group:
            raise _malformed(path, number, f"case {case_id} in one group", f"{groups[case_id]!r} and {group!r}")
    _require_agreement(path, headings, group_column, case_column, rows[1:])
    missing, foreign = [case_id for case_id in ids if case_id not in groups], sorted(set(groups) - set(ids))
    if missing or foreign:
        raise DatasetError(
            message(
                path,
                expected="a line for each case of the data set and for no other",
                got="; ".join(
                    f"{what} {some(names)}" for what, names in (("none for", missing), ("lines for", foreign)) if names
                ),
                remedy="Correct the table; a case's id is its file's name without channel number and ending.",
            )
        )
    return groups


def _require_agreement(
    path: Path, headings: Sequence[str], chosen: int, case_column: int, rows: Sequence[tuple[int, Sequence[str]]]
) -> None:
    """Refuse a table with a second column of groups that divides the cases differently."""
    others = [column for column, name in enumerate(headings) if name in _GROUP_HEADINGS and column != chosen]
    for other in others:
        partners: dict[tuple[int, str], str] = {}
        for number, row in rows:
            group, its_other = row[chosen].strip(), row[other].strip()
            if partners.setdefault((chosen, group), its_other) != its_other or (
                partners.setdefault((other, its_other), group) != group
            ):
                raise _malformed(
                    path,
                    number,
                    "one column of groups, or several equivalent ones",
                    f"{headings[chosen]} {group!r} and {headings[other]} {its_other!r} for case "
                    f"{row[case_column].strip()}, which divide the cases differently",
                    "Remove the column that is not meant.",
                )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a table, each with the number of its last line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFileError(
            message(path, expected="a table of groups", got="no such file", remedy=f"Correct the path after {OPTION}.")
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            message(path, expected="a table in UTF-8", got=str(error), remedy="Save it as CSV in UTF-8.")
        ) from error
    lines = text.splitlines()
    headings = next((line for line in lines if line.strip()), "")
    reader = csv.reader(lines, delimiter=max(_COMMAS, key=headings.count))
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise _malformed(path, reader.line_num, "a row of a table", str(error)) from error


def _malformed(path: Path, line: int, expected: str, got: str, remedy: str = "Correct the table.") -> DatasetError:
    return DatasetError(message(f"{path}, line {line}", expected=expected, got=got, remedy=remedy))
