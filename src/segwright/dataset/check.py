"""Every problem of a raw data set at once, before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segwright.dataset.case_check import CaseFindings, CaseTask, check_case
from segwright.dataset.cases import Case, scan_dataset
from segwright.dataset.description import FILE_NAME, DatasetDescription, parse_description
from segwright.dataset.label_check import absent_labels, mending_remedy, undeclared_labels
from segwright.dataset.problems import Problem
from segwright.dataset.raw import consecutive_labels_problem, require_description
from segwright.errors import SegwrightError
from segwright.io import ImageReaderWriter, choose_reader
from segwright.io.json_file import read_json
from segwright.parallel import CaseFailure, Progress, run_cases


@dataclass(frozen=True)
class CheckReport:
    """What `check` found; `problems` are sorted: those of the data set first, then case by case."""

    folder: Path
    name: str
    num_cases: int
    reader_name: str | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What must be mended."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What should be looked at."""
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
    workers: int = 1,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> CheckReport:
    """Examine dataset.json, the names of the files, and every voxel of every case, and report all that is wrong.

    `environ` has the values of the variables in an explicit file list.

    Raises:
        MissingFileError: the folder or its dataset.json does not exist.
    """
    folder = Path(dataset_folder)
    require_description(folder)
    problems: list[Problem] = []
    description = _read_description(folder, problems)
    cases: tuple[Case, ...] = ()
    reader: ImageReaderWriter | None = None
    if description is not None:
        cases = _find_cases(folder, description, environ or {}, problems)
        reader = _choose_reader(description, cases, problems)
        if reader is not None:
            problems.extend(_check_voxels(description, cases, reader, workers, progress))
    return CheckReport(
        folder=folder,
        name=folder.resolve().name,
        num_cases=len(cases),
        reader_name=None if reader is None else reader.name,
        problems=tuple(sorted(problems, key=_order)),
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
        problems.append(Problem("error", None, FILE_NAME, str(error).rstrip("."), ""))
        return None
    for wrong in errors:
        problems.append(Problem("error", None, None, str(wrong).rstrip("."), ""))
    if description is not None and (gap := consecutive_labels_problem(description)) is not None:
        problems.append(gap)
    return description


def _find_cases(
    folder: Path, description: DatasetDescription, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[Case, ...]:
    try:
        cases, found = scan_dataset(folder, description, environ)
    except SegwrightError as error:
        problems.append(Problem("error", None, None, str(error).rstrip("."), ""))
        return ()
    problems.extend(found)
    if len(cases) != description.num_training:
        problems.append(
            Problem(
                "error",
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
    """Choose by the first case whose image can be read at all, so that a damaged one does not hide the others."""
    ending, wanted = description.file_ending, description.reader_name
    try:
        reader = choose_reader(ending, wanted_name=wanted)
    except SegwrightError as error:
        problems.append(Problem("error", None, None, str(error).rstrip("."), ""))
        return None
    for case in cases:
        try:
            return choose_reader(ending, wanted_name=wanted, example=case.image_paths[0])
        except SegwrightError:  # told when this case is examined
            continue
    return reader


def _check_voxels(
    description: DatasetDescription,
    cases: tuple[Case, ...],
    reader: ImageReaderWriter,
    workers: int,
    progress: Progress | None,
) -> list[Problem]:
    tasks = [CaseTask(case, reader.name, len(description.channel_names)) for case in cases]
    problems: list[Problem] = []
    counted: list[tuple[Case, Mapping[float, int]]] = []
    for task, result in run_cases(
        check_case, tasks, workers=workers, case_id=_case_id, what="checking cases", progress=progress
    ):
        if isinstance(result, CaseFailure):
            problems.append(Problem("error", task.case.case_id, None, result.message.rstrip("."), ""))
        elif isinstance(result, CaseFindings):
            problems.extend(result.problems)
            counted.append((task.case, result.label_counts))
    found = frozenset(value for _, counts in counted for value in counts)
    remedy = mending_remedy(found, description.labels)
    for case, counts in counted:
        problems.extend(undeclared_labels(case, counts, description.labels, remedy))
    if sum(bool(counts) for _, counts in counted) == len(cases) > 0:  # every label map could be read
        problems.extend(absent_labels(description, found))
    return problems


def _case_id(task: CaseTask) -> str:
    return task.case.case_id
