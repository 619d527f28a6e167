"""Find all problems of a raw data set at once, before anything is computed from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from segwright.dataset.case_ids import collisions_elsewhere
from segwright.dataset.case_size import workers_for_reading
from segwright.dataset.cases import Case, reader_for_cases, scan_dataset
from segwright.dataset.description import FILE_NAME, DatasetDescription, parse_description
from segwright.dataset.groups import read_groups
from segwright.dataset.problems import Problem
from segwright.dataset.raw import channel_order_problem, consecutive_labels_problem, require_description
from segwright.dataset.splits import Split, read_splits
from segwright.doctor.case_check import CaseFindings, CaseTask, Measure, check_case
from segwright.doctor.cohort_check import compare_cases
from segwright.doctor.fold_check import check_folds, check_splits, folds_to_check, groups_by_name
from segwright.doctor.label_check import absent_labels, mapping_remedy, undeclared_labels
from segwright.errors import SegwrightError
from segwright.io import ImageReaderWriter
from segwright.io.json_file import read_json
from segwright.parallel import CaseFailure, Progress, run_cases


@dataclass(frozen=True)
class CheckReport:
    """What `check` found; `problems` are sorted: those of the data set first, then case by case.

    `measurements` holds the measurement of each case, by its id.
    """

    folder: Path
    name: str
    num_cases: int
    reader_name: str | None
    problems: tuple[Problem, ...]
    measurements: Mapping[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that must be fixed."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that should be reviewed."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether the data set can be used."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """Plain values for a program to read."""
        return {
            "dataset": self.name,
            "folder": str(self.folder),
            "ok": self.ok,
            "num_cases": self.num_cases,
            "reader": self.reader_name,
            "problems": [asdict(problem) for problem in self.problems],
        }


def check(
    dataset_folder: Path,
    *,
    workers: int | None = 1,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
    group_by: str | None = None,
    splits_file: Path | None = None,
    measure: Measure | None = None,
) -> CheckReport:
    """Examine dataset.json, the names of the files, and every voxel of every case, and report all problems.

    `environ` holds the environment variables of an explicit file list. `group_by` says which cases belong to one
    patient (see `read_groups`), and `splits_file` has the folds; None means those that will be made.
    `measure` is called with the image and the label map of each case without errors; its results are in the report.
    `workers=None` uses as many as cores and memory allow.

    Raises:
        MissingFileError: the folder or its dataset.json does not exist.
        SettingsError, DatasetError: `group_by` does not fit the cases.
    """
    folder = Path(dataset_folder)
    require_description(folder)
    problems: list[Problem] = []
    description = _read_description(folder, problems)
    cases: tuple[Case, ...] = ()
    checked: list[tuple[Case, CaseFindings]] = []
    reader: ImageReaderWriter | None = None
    if description is not None:
        cases = _find_cases(folder, description, environ or {}, problems)
        reader = _choose_reader(description, cases, problems)
        groups = None if group_by is None or not cases else read_groups(group_by, [case.case_id for case in cases])
        splits = None if splits_file is None else _read_splits(splits_file, problems)
        if reader is not None:
            checked = list(_check_cases(description, cases, reader, workers, progress, measure))
            problems.extend(problem for _, findings in checked for problem in findings.problems)
            problems.extend(_check_labels(description, checked))
            problems.extend(_compare(description, reader, checked, groups, splits))
    return CheckReport(
        folder=folder,
        name=folder.resolve().name,
        num_cases=len(cases),
        reader_name=None if reader is None else reader.name,
        problems=tuple(sorted(problems, key=_order)),
        measurements={case.case_id: findings.measurement for case, findings in checked if findings.measurement},
    )


def _order(problem: Problem) -> tuple[bool, str, bool, str, str]:
    return (
        problem.case_id is not None,
        problem.case_id or "",
        problem.severity == "warning",
        problem.file or "",
        problem.what,
    )


def _read_description(folder: Path, problems: list[Problem]) -> DatasetDescription | None:
    try:
        description, errors = parse_description(read_json(folder / FILE_NAME), where=FILE_NAME)
    except SegwrightError as error:
        problems.append(Problem("error", "description", None, None, str(error).rstrip("."), ""))
        return None
    for wrong in errors:
        problems.append(Problem("error", "description", None, None, str(wrong).rstrip("."), ""))
    if description is not None:
        found = (consecutive_labels_problem(description), channel_order_problem(description))
        problems.extend(problem for problem in found if problem is not None)
    return description


def _read_splits(path: Path, problems: list[Problem]) -> list[Split]:
    try:
        return read_splits(path)
    except SegwrightError as error:
        problems.append(Problem("error", "splits", None, None, str(error).rstrip("."), ""))
        return []


def _find_cases(
    folder: Path, description: DatasetDescription, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[Case, ...]:
    try:
        cases, found = scan_dataset(folder, description, environ)
    except SegwrightError as error:
        problems.append(Problem("error", "files", None, None, str(error).rstrip("."), ""))
        return ()
    problems.extend(found)
    problems.extend(collisions_elsewhere([case.case_id for case in cases], len(description.channel_names)))
    if len(cases) != description.num_training:
        problems.append(
            Problem(
                "error",
                "files",
                None,
                f"{FILE_NAME}, key 'numTraining'",
                f"expected the number of complete cases, {len(cases)}, got {description.num_training}",
                "Correct it, or add the cases that are missing.",
            )
        )
    return cases


def _choose_reader(
    description: DatasetDescription, cases: tuple[Case, ...], problems: list[Problem]
) -> ImageReaderWriter | None:
    try:
        return reader_for_cases(description, cases)
    except SegwrightError as error:
        problems.append(Problem("error", "reader", None, None, str(error).rstrip("."), ""))
        return None


def _check_cases(
    description: DatasetDescription,
    cases: tuple[Case, ...],
    reader: ImageReaderWriter,
    workers: int | None,
    progress: Progress | None,
    measure: Measure | None,
) -> Iterator[tuple[Case, CaseFindings]]:
    num_channels = len(description.channel_names)
    tasks = [CaseTask(case, reader.name, num_channels, measure) for case in cases]
    if workers is None:
        workers = workers_for_reading(cases, num_channels)
    for task, result in run_cases(
        check_case, tasks, workers=workers, case_id=_case_id, what="checking cases", progress=progress
    ):
        if isinstance(result, CaseFailure):
            problem = Problem("error", "unreadable", task.case.case_id, None, result.message.rstrip("."), "")
            yield task.case, CaseFindings(problems=(problem,))
        else:
            yield task.case, result


def _check_labels(description: DatasetDescription, checked: Sequence[tuple[Case, CaseFindings]]) -> Iterator[Problem]:
    found = frozenset(value for _, findings in checked for value in findings.label_counts)
    remedy = mapping_remedy(found, description.labels)
    undeclared = [
        problem
        for case, findings in checked
        for problem in undeclared_labels(case, findings.label_counts, description.labels, remedy)
    ]
    yield from undeclared
    all_were_read = checked and all(findings.label_counts for _, findings in checked)
    if all_were_read and not undeclared:  # otherwise an absent label may be one of the others
        yield from absent_labels(description, found)


def _compare(
    description: DatasetDescription,
    reader: ImageReaderWriter,
    checked: Sequence[tuple[Case, CaseFindings]],
    groups: Mapping[str, str] | None,
    splits: Sequence[Split] | None,
) -> Iterator[Problem]:
    """Problems that only show in all cases together."""
    summaries = [findings.summary for _, findings in checked if findings.summary is not None]
    case_ids = sorted(case.case_id for case, _ in checked)
    folds = folds_to_check(case_ids, splits, groups)
    yield from check_splits(case_ids, folds, groups)
    yield from compare_cases(
        sorted(summaries, key=attrgetter("case_id")),
        description.channel_names,
        orientation="Reorient" not in reader.name,
        one_file_per_channel=all(len(case.image_paths) == len(description.channel_names) for case, _ in checked),
        groups=groups,
        likely_groups=groups_by_name(case_ids) if folds else None,
        splits=folds,
    )
    counts = {case.case_id: findings.label_counts for case, findings in checked if findings.label_counts}
    yield from check_folds(dict(sorted(counts.items())), description.labels, splits=folds, groups=groups)


def _case_id(task: CaseTask) -> str:
    return task.case.case_id
