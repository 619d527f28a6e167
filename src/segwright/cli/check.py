"""`segwright check`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from segwright.cli.console import Terminal
from segwright.cli.options import DatasetArgument, GroupByOption, JsonOption, WorkersOption, WorkspaceOption, locate
from segwright.errors import DatasetError

if TYPE_CHECKING:
    from segwright.dataset import CheckReport, DatasetLocation

FOUND_ERRORS = 2


def check(
    dataset: DatasetArgument,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    group_by: GroupByOption = None,
    as_json: JsonOption = False,
) -> int:
    """Look for every problem of every case, at once.

    Reads every voxel, and compares the cases with each other: copies, patients on both sides of a fold, odd
    spacings, orientations and intensities. Exit code 2 if there are errors.

    \b
    Examples:
      segwright check Dataset004_Hippocampus
      segwright check 27 --group-by '(patient[0-9]+)'
      segwright check 4 --json
    """
    terminal = Terminal.open()
    location = locate(dataset, workspace)
    report = _check(terminal, location, workers, group_by)
    if as_json:
        terminal.json(report.to_json())
        return 0 if report.ok else FOUND_ERRORS
    for problem in report.problems:
        terminal.answer(f"{problem.severity}: {problem.text}")
    verdict = "nothing to mend" if report.ok else "mend the errors before you plan"
    terminal.answer(
        f"{location.name}: {report.num_cases} cases, {len(report.errors)} errors, {len(report.warnings)} warnings: "
        f"{verdict}."
    )
    return 0 if report.ok else FOUND_ERRORS


def check_or_stop(
    terminal: Terminal, location: DatasetLocation, workers: int | None, group_by: str | None = None
) -> None:
    """Check the data set.

    Raises:
        DatasetError: with every error that was found.
    """
    report = _check(terminal, location, workers, group_by)
    for problem in report.warnings:
        terminal.note(f"Warning: {problem.text}")
    if not report.ok:
        errors = "\n".join(problem.text for problem in report.errors)
        more = f"{len(report.errors)} errors in {location.name}:\n" if len(report.errors) > 1 else ""
        raise DatasetError(more + errors)
    terminal.note(f"{report.num_cases} cases, no errors.")


def _check(terminal: Terminal, location: DatasetLocation, workers: int | None, group_by: str | None) -> CheckReport:
    from segwright.dataset import check as check_dataset
    from segwright.dataset import read_splits
    from segwright.parallel import available_cores

    files = [folder / "splits_final.json" for folder in (location.preprocessed, location.raw)]
    written = next((file for file in files if file.is_file()), None)
    with terminal.progress() as progress:
        return check_dataset(
            location.raw,
            workers=workers or available_cores(),
            progress=progress,
            environ=os.environ,
            group_by=group_by,
            splits=None if written is None else read_splits(written),
        )
