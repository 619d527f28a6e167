"""Check a data set of a workspace and its folds."""

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
    """Check every case, and the existing folds or those that `group_by` makes.

    Args:
        location: of the data set, from `Workspace.find_dataset`.
        group_by: which cases belong to one patient, as for `read_groups`.
        workers: processes; None uses as many as cores and memory allow.
        environ: environment variables that an explicit list of files may use.
        measure: called with the image and the label map of each valid case; its results are in the report.
        watch: receives the progress.

    Raises:
        MissingFileError, SettingsError, DatasetError: the data set cannot be checked at all.
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
    """Check a data set and raise if it has errors; arguments as for `check_dataset`.

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
