"""`segwright check`."""

from __future__ import annotations

import os

from segwright.cli.console import Terminal
from segwright.cli.options import DatasetArgument, JsonOption, WorkersOption, WorkspaceOption, locate

FOUND_ERRORS = 2


def check(
    dataset: DatasetArgument,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> int:
    """Look for every problem of every case, at once.

    Exit code 2 if there are errors.

    \b
    Examples:
      segwright check Dataset004_Hippocampus
      segwright check 4 --json
    """
    from segwright.dataset import check as check_dataset
    from segwright.parallel import available_cores

    terminal = Terminal.open()
    location = locate(dataset, workspace)
    with terminal.progress() as progress:
        report = check_dataset(
            location.raw, workers=workers or available_cores(), progress=progress, environ=os.environ
        )
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
