"""`segwright preprocess`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from segwright.cli.console import Terminal
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
from segwright.cli.plan import show_plan
from segwright.cli.watch import TerminalWatch
from segwright.parallel import prepare_workers

_WORKERS_NEED = (*PLANNING_NEEDS, "scipy.ndimage", "blosc2", "segwright.preprocessing.cohort")


def preprocess(
    dataset: DatasetArgument,
    configurations: Annotated[
        list[str] | None,
        typer.Option("--configuration", "-c", metavar="NAME", help="May be given several times. Default: all."),
    ] = None,
    plans: PlansOption = DEFAULT_PLANS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Preprocess finished cases again.")] = False,
    group_by: GroupByOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
) -> int:
    """Crop, normalise, resample and store every case.

    Finished cases whose files have not changed are skipped. A data set without plans is checked and planned first.

    \b
    Examples:
      segwright preprocess 4
      segwright preprocess 4 -c 3d_fullres -c 2d
      segwright preprocess 27 --group-by '(patient[0-9]+)'
    """
    terminal = Terminal.open()
    if workers != 1:
        prepare_workers(_WORKERS_NEED)
    from segwright.steps.failures import require_all_done
    from segwright.steps.plan import plan_dataset, write_grouped_folds
    from segwright.steps.preprocess import preprocess_configurations

    location = locate(dataset, workspace)
    if plans == DEFAULT_PLANS and not plans_of(location):
        watch = TerminalWatch(terminal)
        planned = plan_dataset(location, group_by=group_by, workers=workers, environ=os.environ, watch=watch)
        show_plan(terminal, *planned)
    elif group_by is not None:
        write_grouped_folds(location, group_by, environ=os.environ)
    plan = read_plan(location, plans)
    result = preprocess_configurations(
        location,
        plan,
        configurations or None,
        overwrite=overwrite,
        workers=workers,
        environ=os.environ,
        watch=TerminalWatch(terminal),
    )
    require_all_done(result.failures, result.num_cases, "preprocessed")
    return 0
