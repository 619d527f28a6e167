"""`segwright plan`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import GroupByOption, JsonOption, WorkersOption, WorkspaceOption, locate
from segwright.cli.watch import TerminalWatch
from segwright.errors import SettingsError, message
from segwright.names import name_fault
from segwright.parallel import prepare_workers

if TYPE_CHECKING:
    from segwright.planning import Plan

WORKERS_NEED = ("numpy.random", "SimpleITK", "segwright.doctor.case_check", "segwright.fingerprint")

PlannerOption = Annotated[
    str, typer.Option("--planner", metavar="NAME", help="nnU-Net's name of the planner, such as nnUNetPlannerResEncL.")
]
GpuMemoryOption = Annotated[
    float | None, typer.Option("--gpu-memory", metavar="GB", help="GPU memory to plan for. Default: the planner's.")
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
        typer.Option(
            "--overwrite-target-spacing",
            metavar="Z Y X",
            help="Target spacing in mm, in the order of the images' axes.",
        ),
    ] = None,
    suppress_transpose: Annotated[
        bool, typer.Option("--suppress-transpose", help="Keep the order of the images' axes.")
    ] = False,
    group_by: GroupByOption = None,
    fingerprint: Annotated[
        Path | None,
        typer.Option("--fingerprint", metavar="F.json", help="Plan from this fingerprint, without a DATASET."),
    ] = None,
    dataset_json: Annotated[Path | None, typer.Option("--dataset-json", metavar="D.json", help="With it.")] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="P.json", help="Plans file to write.")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Recompute the fingerprint.")] = False,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compute a data set's fingerprint and plan its networks.

    Chooses spacing, patch size, network depth and batch size. The fingerprint is reused until a case changes, and
    configurations that you added to the plans file are kept.

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
                    remedy="Give the DATASET, or leave out the option.",
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
    from segwright.steps.plan import plan_dataset

    made, path = plan_dataset(
        location,
        planner=planner,
        gpu_memory_gb=gpu_memory,
        plans_name=plans_name,
        target_spacing_mm=overwrite_target_spacing,
        suppress_transpose=suppress_transpose,
        group_by=group_by,
        clean=clean,
        workers=workers,
        environ=os.environ,
        watch=TerminalWatch(terminal),
    )
    show_plan(terminal, made, path, as_json)
    return 0


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
    from segwright.steps.plan import refuse_plans_name

    if fingerprint is None or dataset_json is None or output is None:
        raise SettingsError(
            message(
                "segwright plan",
                expected="a DATASET, or --fingerprint, --dataset-json and --output together",
                got=" and ".join(_given(fingerprint, dataset_json, output)) or "neither",
                remedy="Run, for example, `segwright plan Dataset004_Hippocampus`.",
            )
        )
    refuse_plans_name(plans_name)
    description = DatasetDescription.read(dataset_json)
    made = make_plan(
        Fingerprint.read(fingerprint),
        description,
        dataset_name=_dataset_name(dataset_json, fingerprint, output)
        or (str(name) if name_fault(name := description.raw.get("name")) is None else "Dataset"),
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
    """nnU-Net's name of a data set, `DatasetXXX_Name`, taken from the paths of the given files."""
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
                expected="either a DATASET, or the options that plan without one",
                got=f"a DATASET and {' and '.join(given)}",
                remedy="Leave out one of them; a data set's plans are written to its preprocessed folder.",
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
    terminal.answer(f"Plans: {path}. `segwright explain` gives the reasons.")
