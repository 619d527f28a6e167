"""Check a data set of a workspace, with the folds it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from segwright.dataset import DatasetLocation
from segwright.dataset.problems import in_brief
from segwright.dataset.splits import FILE_NAME as SPLITS_FILE
from segwright.doctor.check import CheckReport, check
from segwright.errors import DatasetError
from segwright.steps.watch import QUIET, Watch

if TYPE_CHECKING:
    from segwright.doctor.case_check import Measure

NO_VARIABLES: Mapping[str, str] = {}


def check_dataset(
    location: DatasetLocation,
    *,
    group_by: str | None = None,
    workers: int | None = None,
    environ: Mapping[str, str] = NO_VARIABLES,
    measure: Measure | None = None,
    watch: Watch = QUIET,
) -> CheckReport:
    """Look for every problem of every case, and of the folds that are there or that `group_by` makes.

    Args:
        location: of the data set, from `Workspace.find_dataset`.
        group_by: which cases are of one patient, as `read_groups` takes it.
        workers: processes; None are as many as cores and memory allow.
        environ: variables in an explicit list of files.
        measure: takes the image and the label map of each sound case; what it returns is in the report.
        watch: sees how far it is.

    Raises:
        MissingFileError, SettingsError, DatasetError: nothing can be checked at all.
    """
    files = [folder / SPLITS_FILE for folder in (location.preprocessed, location.raw)]
    with watch.progress() as progress:
        return check(
            location.raw,
            workers=workers,
            progress=progress,
            environ=environ,
            group_by=group_by,
            splits_file=next((file for file in files if file.is_file()), None),
            measure=measure,
        )


def require_sound(
    location: DatasetLocation,
    *,
    group_by: str | None = None,
    workers: int | None = None,
    environ: Mapping[str, str] = NO_VARIABLES,
    measure: Measure | None = None,
    watch: Watch = QUIET,
) -> CheckReport:
    """Check a data set that the next step needs sound; arguments as for `check_dataset`.

    Raises:
        DatasetError: with every error that was found.
    """
    report = check_dataset(location, group_by=group_by, workers=workers, environ=environ, measure=measure, watch=watch)
    watch.checked(report)
    if not report.ok:
        errors = "\n".join(problem.text for problem in in_brief(report.errors))
        more = f"{len(report.errors)} errors in {location.name}:\n" if len(report.errors) > 1 else ""
        raise DatasetError(more + errors)
    return report
