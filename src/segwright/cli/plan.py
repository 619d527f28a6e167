"""`segwright plan`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.check import check_or_stop
from segwright.cli.console import Terminal
from segwright.cli.failures import all_or_nothing
from segwright.cli.options import GroupByOption, JsonOption, WorkersOption, WorkspaceOption, locate
from segwright.errors import PlanError, SegwrightError, SettingsError, message
from segwright.parallel import prepare_workers

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation, RawDataset, Split
    from segwright.fingerprint import Fingerprint
    from segwright.planning import Plan

# beside the fingerprint: of which files it was measured
MEASURED_NAME = ".fingerprint_sources.json"
WORKERS_NEED = ("numpy.random", "SimpleITK", "segwright.doctor.case_check", "segwright.fingerprint")

PlannerOption = Annotated[
    str, typer.Option("--planner", metavar="NAME", help="nnU-Net's name, such as nnUNetPlannerResEncL.")
]
GpuMemoryOption = Annotated[
    float | None, typer.Option("--gpu-memory", metavar="GB", help="GPU memory to plan for. Default: the planner's own.")
]


def plan(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET", help="Folder of a raw nnU-Net v2 data set, or its id or name in the workspace."
        ),
    ] = None,
    planner: PlannerOption = "ExperimentPlanner",
    gpu_memory: GpuMemoryOption = None,
    plans_name: Annotated[
        str | None, typer.Option("--plans-name", metavar="NAME", help="Name of the plans file.")
    ] = None,
    overwrite_target_spacing: Annotated[
        list[float] | None,
        typer.Option("--overwrite-target-spacing", metavar="Z Y X", help="Target spacing in mm, as the images' axes."),
    ] = None,
    suppress_transpose: Annotated[
        bool, typer.Option("--suppress-transpose", help="Keep the images' axes in their order.")
    ] = False,
    group_by: GroupByOption = None,
    fingerprint: Annotated[
        Path | None, typer.Option("--fingerprint", metavar="F.json", help="Plan from this file.")
    ] = None,
    dataset_json: Annotated[Path | None, typer.Option("--dataset-json", metavar="D.json", help="With it.")] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="P.json", help="Plans file to write.")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Measure the data set anew.")] = False,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure a data set and plan its networks.

    Decides spacing, patch, depth and batch size. A measurement is kept until a case changes, and configurations that
    you added to the plans file by hand stay in it.

    \b
    Examples:
      segwright plan 4
      segwright plan 4 --planner nnUNetPlannerResEncL --gpu-memory 16
      segwright plan 27 --group-by '(patient[0-9]+)'
      segwright plan --fingerprint F.json --dataset-json D.json --output P.json
    """
    terminal = Terminal.open()
    if dataset is None:
        if group_by is not None:
            raise SettingsError(
                message(
                    "segwright plan --group-by",
                    expected="a DATASET, whose cases are grouped",
                    got="none",
                    remedy="Name the data set, or leave out the option.",
                )
            )
        made = _plan_from_files(
            fingerprint,
            dataset_json,
            output,
            planner=planner,
            gpu_memory=gpu_memory,
            plans_name=plans_name,
            target_spacing=overwrite_target_spacing,
            suppress_transpose=suppress_transpose,
        )
        show_plan(terminal, made, output, as_json)
        return 0
    _refuse_files(fingerprint, dataset_json, output)
    if workers != 1:
        prepare_workers(WORKERS_NEED)
    location = locate(dataset, workspace)
    made, path = plan_dataset(
        terminal,
        location,
        planner=planner,
        gpu_memory=gpu_memory,
        plans_name=plans_name,
        target_spacing=overwrite_target_spacing,
        suppress_transpose=suppress_transpose,
        group_by=group_by,
        clean=clean,
        workers=workers,
    )
    show_plan(terminal, made, path, as_json)
    return 0


def plan_dataset(
    terminal: Terminal,
    location: DatasetLocation,
    *,
    planner: str = "ExperimentPlanner",
    gpu_memory: float | None = None,
    plans_name: str | None = None,
    target_spacing: Sequence[float] | None = None,
    suppress_transpose: bool = False,
    group_by: str | None = None,
    clean: bool = False,
    workers: int | None = None,
    checked: bool = False,
) -> tuple[Plan, Path]:
    """Fingerprint and plan a data set; write plans, fingerprint and dataset.json beside the preprocessed data.

    Cases that are new or changed are checked before they are measured, unless the caller has `checked` them.
    """
    import os

    from segwright.dataset import RawDataset, write_splits
    from segwright.fingerprint import FILE_NAME
    from segwright.io.atomic import write_json_atomic
    from segwright.planning import make_plan, merge_hand_made, planner_named

    planner_named(planner)
    _refuse_plans_name(plans_name)
    dataset = RawDataset.open(location.raw, environ=os.environ)
    # told now if other folds are there, not after the measuring
    splits = None if group_by is None else _grouped_folds(location, dataset, group_by)
    what = _what_is_measured(dataset)
    measured = _measured_before(location.preprocessed, dataset, what) if not clean else None
    if measured is None:
        measured = (
            _measure(terminal, dataset, workers)
            if checked
            else _check_and_measure(terminal, location, dataset, workers, group_by)
        )
        measured.write(location.preprocessed / FILE_NAME)
        if what is not None:
            write_json_atomic(location.preprocessed / MEASURED_NAME, what)
    made = make_plan(
        measured,
        dataset.description,
        dataset_name=location.name,
        image_reader_writer=dataset.reader().name if what is None else what["reader"],
        planner=planner,
        gpu_memory_gb=gpu_memory,
        overwrite_target_spacing_mm=target_spacing,
        plans_name=plans_name,
        suppress_transpose=suppress_transpose,
    )
    path = location.preprocessed / f"{made.plans_name}.json"
    if path.is_file():
        made = merge_hand_made(made, _earlier_plan(path))
    made.write(path)
    dataset.description.write(location.preprocessed / "dataset.json")
    if splits is not None:
        write_splits(location.preprocessed / "splits_final.json", splits)
    return made, path


def write_grouped_folds(location: DatasetLocation, group_by: str) -> None:
    """Write the splits file that keeps groups together, for a data set that is planned already.

    Raises:
        SettingsError, MissingFileError, DatasetError: `group_by` does not fit the cases, or other folds are there.
    """
    import os

    from segwright.dataset import RawDataset, write_splits

    dataset = RawDataset.open(location.raw, environ=os.environ)
    write_splits(location.preprocessed / "splits_final.json", _grouped_folds(location, dataset, group_by))


def _grouped_folds(location: DatasetLocation, dataset: RawDataset, group_by: str) -> list[Split]:
    from segwright.dataset import grouped_splits, read_groups

    case_ids = [case.case_id for case in dataset.cases]
    return grouped_splits(location.preprocessed, location.raw, case_ids, read_groups(group_by, case_ids))


def _what_is_measured(dataset: RawDataset) -> dict[str, Any] | None:
    """What decides the fingerprint: the reader, and the files of every case as they are now.

    None where that cannot be said, since a file is not there or cannot be read, which the check tells of.
    """
    from segwright.dataset.sources import sources_of

    try:
        return {
            "reader": dataset.reader().name,
            "num_channels": len(dataset.description.channel_names),
            "cases": {case.case_id: sources_of(case) for case in dataset.cases},
        }
    except (SegwrightError, OSError):
        return None


def _measured_before(folder: Path, dataset: RawDataset, what: dict[str, Any] | None) -> Fingerprint | None:
    """The fingerprint that is there, if it has every case, is newer than all of them, and was not made of other files.

    nnU-Net's does not say of which files it was made.
    """
    from segwright.fingerprint import FILE_NAME, Fingerprint
    from segwright.io.json_file import read_json

    path = folder / FILE_NAME
    if what is None or not path.is_file():
        return None
    try:
        measured, measured_at = Fingerprint.read(path), path.stat().st_mtime
        noted = folder / MEASURED_NAME
        is_own = noted.is_file() and noted.stat().st_mtime >= measured_at
        if is_own and read_json(noted, error=PlanError) != what:
            return None
    except PlanError:  # it is measured again, which is what its message would ask for
        return None
    files = [file for case in dataset.cases for file in (*case.image_paths, case.label_path) if file is not None]
    complete = len(measured.spacings_mm) == len(dataset.cases)
    return measured if complete and all(file.stat().st_mtime <= measured_at for file in files) else None


def _refuse_plans_name(name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[\w-][\w.-]*", name):
        raise SettingsError(
            message(
                "--plans-name",
                expected="a name of letters, digits, '_', '-' and '.', as the file and folders are named by it",
                got=repr(name),
                remedy="Try --plans-name myPlans.",
            )
        )


def _earlier_plan(path: Path) -> Plan:
    from segwright.planning import Plan

    try:
        return Plan.read(path)
    except PlanError as error:
        raise PlanError(
            f"{error} Or delete the file to plan anew; configurations that were added to it by hand are then lost."
        ) from error


def _measure(terminal: Terminal, dataset: RawDataset, workers: int | None) -> Fingerprint:
    from segwright.fingerprint import fingerprint_dataset

    with all_or_nothing(), terminal.progress() as progress:
        return fingerprint_dataset(dataset, workers=workers, progress=progress)


def _check_and_measure(
    terminal: Terminal, location: DatasetLocation, dataset: RawDataset, workers: int | None, group_by: str | None
) -> Fingerprint:
    """Check and measure each case in one reading."""
    from segwright.fingerprint import case_measure, combine_measurements

    report = check_or_stop(terminal, location, workers, group_by, case_measure(dataset))
    return combine_measurements(report.measurements, dataset)


def _plan_from_files(
    fingerprint: Path | None,
    dataset_json: Path | None,
    output: Path | None,
    *,
    planner: str,
    gpu_memory: float | None,
    plans_name: str | None,
    target_spacing: Sequence[float] | None,
    suppress_transpose: bool,
) -> Plan:
    from segwright.dataset import DatasetDescription
    from segwright.fingerprint import Fingerprint
    from segwright.io import choose_reader
    from segwright.planning import make_plan

    if fingerprint is None or dataset_json is None or output is None:
        raise SettingsError(
            message(
                "segwright plan",
                expected="a DATASET, or --fingerprint, --dataset-json and --output together",
                got=" and ".join(_given(fingerprint, dataset_json, output)) or "neither",
                remedy="Try `segwright plan Dataset004_Hippocampus`.",
            )
        )
    _refuse_plans_name(plans_name)
    description = DatasetDescription.read(dataset_json)
    made = make_plan(
        Fingerprint.read(fingerprint),
        description,
        dataset_name=_dataset_name(dataset_json, fingerprint, output) or str(description.raw.get("name") or "Dataset"),
        image_reader_writer=choose_reader(description.file_ending, wanted_name=description.reader_name).name,
        planner=planner,
        gpu_memory_gb=gpu_memory,
        overwrite_target_spacing_mm=target_spacing,
        plans_name=plans_name,
        suppress_transpose=suppress_transpose,
    )
    made.write(output)
    return made


def _dataset_name(*files: Path) -> str | None:
    """nnU-Net's name of a data set, `DatasetXXX_Name`, from the names of files and of their folders."""
    for file in files:
        if match := re.match(r"Dataset\d{3}_.+?(?=__|\.|$)", file.name):
            return match[0]
    folders = (file.resolve().parent.name for file in files)
    return next((name for name in folders if re.fullmatch(r"Dataset\d{3}_.+", name)), None)


def _refuse_files(fingerprint: Path | None, dataset_json: Path | None, output: Path | None) -> None:
    given = _given(fingerprint, dataset_json, output)
    if given:
        raise SettingsError(
            message(
                "segwright plan",
                expected="a DATASET, which is measured, or the options that plan without one",
                got=f"a DATASET and {' and '.join(given)}",
                remedy="Leave out one of them; the plans of a data set go into its preprocessed folder.",
            )
        )


def _given(fingerprint: Path | None, dataset_json: Path | None, output: Path | None) -> list[str]:
    options = {"--fingerprint": fingerprint, "--dataset-json": dataset_json, "--output": output}
    return [name for name, value in options.items() if value is not None]


def show_plan(terminal: Terminal, made: Plan, path: Path | None, as_json: bool = False) -> None:
    """Print a table of the configurations, or the plans file as JSON."""
    if as_json:
        terminal.json(dict(made.raw))
        return
    rows = []
    for name in made.configuration_names:
        entry = made.configuration(name)
        rows.append(
            [
                name,
                " x ".join(map(str, entry.patch_size)),
                str(entry.batch_size),
                " x ".join(f"{value:g}" for value in entry.spacing_mm),
                str(entry.architecture.num_stages),
            ]
        )
    terminal.table(["configuration", "patch (voxels)", "batch size", "spacing (mm)", "stages"], rows, answer=True)
    terminal.answer(f"Plans: {path}. `segwright explain` says why.")
