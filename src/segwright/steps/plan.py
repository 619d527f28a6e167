"""Fingerprint a data set and plan its networks, reusing the fingerprint until a case changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segwright.dataset import DatasetLocation, RawDataset, Split, grouped_splits, read_groups, write_splits
from segwright.dataset.description import FILE_NAME as DESCRIPTION_FILE
from segwright.dataset.sources import sources_of
from segwright.dataset.splits import FILE_NAME as SPLITS_FILE
from segwright.errors import PlanError, SegwrightError, SettingsError, message
from segwright.fingerprint import FILE_NAME, Fingerprint, case_measure, combine_measurements, fingerprint_dataset
from segwright.io.atomic import write_json_atomic
from segwright.io.json_file import read_json
from segwright.names import parse_name
from segwright.planning import Plan, make_plan, merge_hand_made, planner_named
from segwright.planning.presets import DEFAULT_PLANNER
from segwright.steps.check import NO_VARIABLES, require_sound
from segwright.steps.failures import all_or_nothing
from segwright.steps.watch import QUIET, Watch

# beside the fingerprint: the files it was computed from
MEASURED_NAME = ".fingerprint_sources.json"


def plan_dataset(
    location: DatasetLocation,
    *,
    planner: str = DEFAULT_PLANNER,
    gpu_memory_gb: float | None = None,
    plans_name: str | None = None,
    target_spacing_mm: Sequence[float] | None = None,
    suppress_transpose: bool = False,
    group_by: str | None = None,
    clean: bool = False,
    workers: int | None = None,
    checked: bool = False,
    environ: Mapping[str, str] = NO_VARIABLES,
    watch: Watch = QUIET,
) -> tuple[Plan, Path]:
    """Fingerprint and plan a data set; write plans, fingerprint and dataset.json beside the preprocessed data.

    New and changed cases are checked before they are measured, unless the caller has `checked` them.

    Args:
        location: of the data set.
        planner: nnU-Net's name.
        gpu_memory_gb: to plan for; None uses the planner's.
        plans_name: of the plans file; None uses the planner's.
        target_spacing_mm: one number per axis, in the order of the images' axes.
        suppress_transpose: keep the order of the images' axes.
        group_by: which cases belong to one patient; writes the folds that keep them together.
        clean: recompute the fingerprint from scratch.
        workers: processes; None uses as many as cores and memory allow.
        checked: the caller has run `require_sound`.
        environ: environment variables that an explicit list of files may use.
        watch: receives the progress.

    Returns:
        The plan and the file it was written to.

    Raises:
        SettingsError, DatasetError, PlanError: as their messages say.
    """
    planner_named(planner)
    refuse_plans_name(plans_name)
    dataset = RawDataset.open(location.raw, environ=environ)
    # conflicting folds are reported now, not after the fingerprint
    splits = None if group_by is None else _grouped_folds(location, dataset, group_by)
    what = _what_is_measured(dataset)
    measured = _measured_before(location.preprocessed, dataset, what) if not clean else None
    if measured is None:
        if checked:
            with all_or_nothing(), watch.progress() as progress:
                measured = fingerprint_dataset(dataset, workers=workers, progress=progress)
        else:  # each case is read once for both
            report = require_sound(
                location,
                group_by=group_by,
                workers=workers,
                environ=environ,
                measure=case_measure(dataset),
                watch=watch,
            )
            measured = combine_measurements(report.measurements, dataset)
        measured.write(location.preprocessed / FILE_NAME)
        if what is not None:
            write_json_atomic(location.preprocessed / MEASURED_NAME, what)
    made = make_plan(
        measured,
        dataset.description,
        dataset_name=location.name,
        image_reader_writer=dataset.reader().name if what is None else what["reader"],
        planner=planner,
        gpu_memory_gb=gpu_memory_gb,
        overwrite_target_spacing_mm=target_spacing_mm,
        plans_name=plans_name,
        suppress_transpose=suppress_transpose,
    )
    path = location.preprocessed / f"{made.plans_name}.json"
    if path.is_file():
        made = merge_hand_made(made, _earlier_plan(path))
    made.write(path)
    dataset.description.write(location.preprocessed / "dataset.json")
    if splits is not None:
        write_splits(location.preprocessed / SPLITS_FILE, splits)
    return made, path


def write_grouped_folds(location: DatasetLocation, group_by: str, *, environ: Mapping[str, str] = NO_VARIABLES) -> None:
    """Write the splits file that keeps groups together, for a data set that is planned already.

    Raises:
        SettingsError, MissingFileError, DatasetError: `group_by` does not fit the cases, or other folds exist.
    """
    dataset = RawDataset.open(location.raw, environ=environ)
    write_splits(location.preprocessed / SPLITS_FILE, _grouped_folds(location, dataset, group_by))


def _grouped_folds(location: DatasetLocation, dataset: RawDataset, group_by: str) -> list[Split]:
    case_ids = [case.case_id for case in dataset.cases]
    return grouped_splits(location.preprocessed, location.raw, case_ids, read_groups(group_by, case_ids))


def _what_is_measured(dataset: RawDataset) -> dict[str, Any] | None:
    """What the fingerprint depends on: the reader, and the files of every case as they are now.

    None if a file is missing or cannot be read, which the check reports.
    """
    try:
        return {
            "reader": dataset.reader().name,
            "num_channels": len(dataset.description.channel_names),
            "cases": {case.case_id: sources_of(case) for case in dataset.cases},
        }
    except (SegwrightError, OSError):
        return None


def _measured_before(folder: Path, dataset: RawDataset, what: dict[str, Any] | None) -> Fingerprint | None:
    """The existing fingerprint, if it has every case, is newer than all of them, and was not made from other files.

    nnU-Net's does not record the files it was made from.
    """
    path = folder / FILE_NAME
    if what is None or not path.is_file():
        return None
    try:
        measured, measured_at = Fingerprint.read(path), path.stat().st_mtime
        noted = folder / MEASURED_NAME
        is_own = noted.is_file() and noted.stat().st_mtime >= measured_at
        if is_own and read_json(noted, error=PlanError) != what:
            return None
    except PlanError:  # it is recomputed, which is what its message would ask for
        return None
    files = [file for case in dataset.cases for file in (*case.image_paths, case.label_path) if file is not None]
    complete = len(measured.spacings_mm) == len(dataset.cases)
    return measured if complete and all(file.stat().st_mtime <= measured_at for file in files) else None


def _earlier_plan(path: Path) -> Plan:
    try:
        return Plan.read(path)
    except PlanError as error:
        raise PlanError(
            f"{error} Or delete the file to plan from scratch; configurations added to it by hand are then lost."
        ) from error


def refuse_plans_name(name: str | None) -> None:
    """Refuse a name that is not valid for a file and for folders.

    Raises:
        SettingsError
    """
    if name is None:
        return
    remedy = "Choose another name, such as --plans-name myPlans."
    parse_name(name, where="--plans-name", error=SettingsError, remedy=remedy)
    if f"{name}.json".lower() in (DESCRIPTION_FILE, FILE_NAME, SPLITS_FILE):
        raise SettingsError(
            message(
                "--plans-name",
                expected="a name that no other file has",
                got=f"that of the data set's {name}.json",
                remedy=remedy,
            )
        )
