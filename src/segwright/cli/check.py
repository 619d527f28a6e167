"""`segwright check`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import DatasetArgument, GroupByOption, JsonOption, WorkersOption, WorkspaceOption, locate
from segwright.cli.watch import TerminalWatch

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation
    from segwright.doctor.case_fix import Change
    from segwright.doctor.check import CheckReport
    from segwright.doctor.fix import FixReport

FOUND_ERRORS = 2
MANY_FILES = 5


def check(
    dataset: DatasetArgument,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    group_by: GroupByOption = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="NEW_FOLDER", help="Write a corrected copy there, and check the copy instead."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check every case and list all problems at once.

    Reads every voxel and compares the cases with each other: duplicates, patients on both sides of a fold, unusual
    spacings, orientations and intensities. Exit code 2 if there are errors.

    --fix corrects what needs no guessing: label values that are not 0, 1, 2, ..., label maps whose grid or header
    differs from the image's, NaN voxels, incomplete or duplicate cases. The data set itself is never changed.

    \b
    Examples:
      segwright check Dataset004_Hippocampus
      segwright check 27 --group-by '(patient[0-9]+)'
      segwright check 4 --fix Dataset004_Fixed
      segwright check 4 --json
    """
    from segwright.dataset.problems import in_brief
    from segwright.steps.check import check_dataset

    terminal = Terminal.open()
    location = locate(dataset, workspace)
    fixed = None
    if fix is not None:
        fixed = _fix(terminal, location, fix, workers)
        location = locate(str(fix.absolute()), workspace)
        if not as_json:  # before the check, which may reject the groups
            _show_fix(terminal, fixed)
    report = check_dataset(
        location, group_by=group_by, workers=workers, environ=os.environ, watch=TerminalWatch(terminal)
    )
    if as_json:
        answer = report.to_json()
        terminal.json(answer if fixed is None else {"fix": fixed.to_json(), "check": answer})
        return 0 if report.ok else FOUND_ERRORS
    for problem in in_brief(report.problems):
        terminal.answer(f"{problem.severity}: {problem.text}")
    from segwright.planning.wording import count

    found = [
        count(number, noun)
        for number, noun in (
            (report.num_cases, "case"),
            (len(report.errors), "error"),
            (len(report.warnings), "warning"),
        )
    ]
    terminal.answer(f"{location.name}: {', '.join(found)}: {_verdict(report, is_fixed=fixed is not None)}.")
    return 0 if report.ok else FOUND_ERRORS


def _verdict(report: CheckReport, *, is_fixed: bool) -> str:
    if report.ok:
        return "look at the warnings" if report.warnings else "nothing to fix"
    return "fix the errors before you plan" + ("" if is_fixed else ", or try --fix NEW_FOLDER")


def _fix(terminal: Terminal, location: DatasetLocation, output: Path, workers: int | None) -> FixReport:
    from segwright.doctor.fix import fix_dataset

    with terminal.progress() as progress:
        return fix_dataset(location.raw, output, workers=workers, progress=progress, environ=os.environ)


def _show_fix(terminal: Terminal, fixed: FixReport) -> None:
    for word, changes in (("fixed", fixed.changes), ("not fixed", fixed.unfixed)):
        for text in _summed_up(changes):
            terminal.answer(f"{word}: {text}")
    terminal.answer(f"{fixed.copy}: a copy with {len(fixed.changes)} changes. Result of checking it:")


def _summed_up(changes: Sequence[Change]) -> Iterator[str]:
    """One line per change, or one line for the same change in many files."""
    from segwright.dataset.problems import some

    alike: dict[str, list[Change]] = {}
    for change in changes:
        alike.setdefault(change.what, []).append(change)
    for what, same in alike.items():
        if len(same) > MANY_FILES:
            yield f"{len(same)} files ({some([change.file or str(change.case_id) for change in same])}): {what}."
        else:
            yield from (change.text for change in same)
