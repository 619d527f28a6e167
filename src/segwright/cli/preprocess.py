"""`segwright preprocess`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.failures import refuse_failures
from segwright.cli.options import (
    DEFAULT_PLANS,
    DatasetArgument,
    GroupByOption,
    PlansOption,
    WorkersOption,
    WorkspaceOption,
    locate,
    plans_of,
    read_plan,
)
from segwright.cli.plan import WORKERS_NEED as PLANNING_NEEDS
from segwright.cli.plan import plan_dataset, show_plan, write_grouped_folds
from segwright.parallel import prepare_workers

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation
    from segwright.planning import Plan


_WORKERS_NEED = (*PLANNING_NEEDS, "scipy.ndimage", "blosc2", "segwright.preprocessing.cohort")


def preprocess(
    dataset: DatasetArgument,
    configurations: Annotated[
        list[str] | None,
        typer.Option("--configuration", "-c", metavar="NAME", help="May be given several times. Default: all."),
    ] = None,
    plans: PlansOption = DEFAULT_PLANS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make finished cases anew.")] = False,
    group_by: GroupByOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
) -> int:
    """Crop, normalise, resample and store every case.

    Cases that are done, and whose files are what they were, are skipped. A data set without any plans is checked and
    planned first.

    \b
    Examples:
      segwright preprocess 4
      segwright preprocess 4 -c 3d_fullres -c 2d
      segwright preprocess 27 --group-by '(patient[0-9]+)'
    """
    terminal = Terminal.open()
    if workers != 1:
        prepare_workers(_WORKERS_NEED)
    location = locate(dataset, workspace)
    if plans == DEFAULT_PLANS and not plans_of(location):
        show_plan(terminal, *plan_dataset(terminal, location, group_by=group_by, workers=workers))
    elif group_by is not None:
        write_grouped_folds(location, group_by)
    plan = read_plan(location, plans)
    names = list(dict.fromkeys(configurations or _all_with_data(plan)))
    preprocess_configurations(terminal, location, plan, names, overwrite=overwrite, workers=workers)
    return 0


def preprocess_configurations(
    terminal: Terminal,
    location: DatasetLocation,
    plan: Plan,
    names: Sequence[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
) -> None:
    """Preprocess and say what was done.

    Raises:
        CasesFailedError, DatasetError: naming the cases that could not be done; the others are.
    """
    from segwright.dataset import RawDataset
    from segwright.dataset.problems import some
    from segwright.preprocessing.cohort import preprocess_dataset

    raw = RawDataset.open(location.raw, environ=os.environ)
    with terminal.progress() as progress:
        result = preprocess_dataset(
            raw, plan, names, location.preprocessed, workers=workers, overwrite=overwrite, progress=progress
        )
    terminal.note(f"{', '.join(names)}: {len(result.done)} cases preprocessed, {len(result.skipped)} were done before.")
    if result.removed:
        terminal.note(f"Removed, as the data set does not have them any more: {some(result.removed)}.")
    refuse_failures(result.failures, len(raw.cases), "preprocessed")


def _all_with_data(plan: Plan) -> list[str]:
    """Configurations that have data of their own, each folder once."""
    by_folder: dict[str, str] = {}
    for name in plan.configuration_names:
        by_folder.setdefault(plan.configuration(name).data_identifier, name)
    return list(by_folder.values())
