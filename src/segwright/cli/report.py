"""`segwright report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import DEFAULT_PLANS, DatasetArgument, PlansOption, WorkspaceOption, locate
from segwright.results import parse_fold


def report(
    dataset: DatasetArgument,
    configuration: Annotated[
        str | None, typer.Option("--configuration", "-c", metavar="NAME", help="Default: the one trained last.")
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option("--fold", "-f", metavar="FOLD", help="Fold to report on, or all. Default: the first trained."),
    ] = None,
    plans: PlansOption = DEFAULT_PLANS,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="HTML file to write. Default: in the model folder.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> int:
    """Write a report: data, plan, training, scores and images.

    The report is one self-contained HTML file.

    \b
    Examples:
      segwright report 4
      segwright report 4 -c 2d -f 1 --output hippocampus.html
    """
    from segwright.steps.report import last_trained, write_page

    terminal = Terminal.open()
    location = locate(dataset, workspace)
    wanted = None if fold is None else parse_fold(fold)
    model = last_trained(location, plans=plans, configuration=configuration)
    path = write_page(location, model=model, fold=wanted, plans=plans, output=output)
    terminal.answer(f"Report: {path}")
    return 0
