"""`segwright report`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import DEFAULT_PLANS, DatasetArgument, Fold, PlansOption, WorkspaceOption, locate, parse_fold
from segwright.errors import PlanError

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation
    from segwright.report import StepTime, TestFolders


def report(
    dataset: DatasetArgument,
    configuration: Annotated[
        str | None, typer.Option("--configuration", "-c", help="Default: the one trained last.")
    ] = None,
    fold: Annotated[str, typer.Option("--fold", "-f", help="Fold to report on, or all.")] = "0",
    plans: PlansOption = DEFAULT_PLANS,
    output: Annotated[
        Path | None, typer.Option("--output", help="Page to write. Default: in the model's folder.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> int:
    """Write one page: data, plan, training, scores and pictures.

    It is a single HTML file that can be mailed.

    \b
    Examples:
      segwright report 4
      segwright report 4 -c 2d -f 1 --output hippocampus.html
    """
    terminal = Terminal.open()
    location = locate(dataset, workspace)
    model = model_folder(location, plans, configuration)
    path = output or (model or location.results) / "report.html"
    write_page(location, path, model=model, fold=parse_fold(fold), plans=plans)
    terminal.answer(f"Report: {path}")
    return 0


def model_folder(location: DatasetLocation, plans: str, configuration: str | None) -> Path | None:
    """The model of a configuration that was trained last, or None where there is none."""
    pattern = f"*__{plans}__{configuration or '*'}"
    found = [folder for folder in location.results.glob(pattern) if folder.is_dir()]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def write_page(
    location: DatasetLocation,
    path: Path,
    *,
    model: Path | None,
    fold: Fold,
    plans: str = DEFAULT_PLANS,
    test: TestFolders | None = None,
    steps: Sequence[StepTime] = (),
    credit: str | None = None,
) -> None:
    """Collect what the folders of a project hold and write the page."""
    from segwright.report import ReportSources, collect_report, write_report

    sources = ReportSources(
        dataset_name=location.name,
        raw=location.raw,
        preprocessed=location.preprocessed,
        model=model,
        fold=fold,
        test=test,
    )
    content = collect_report(
        sources,
        created=f"{datetime.now():%Y-%m-%d %H:%M}",
        steps=steps,
        plan_words=_plan_words(location, model, plans),
        credit=credit,
    )
    write_report(path, content)


def _plan_words(location: DatasetLocation, model: Path | None, plans: str) -> list[str]:
    from segwright.dataset import DatasetDescription
    from segwright.fingerprint import FILE_NAME, Fingerprint
    from segwright.planning import Plan, explain_plan

    files = [location.preprocessed / name for name in (f"{plans}.json", FILE_NAME, "dataset.json")]
    if model is None or not all(file.is_file() for file in files):
        return []
    plan, fingerprint, description = Plan.read(files[0]), Fingerprint.read(files[1]), DatasetDescription.read(files[2])
    try:
        explanation = explain_plan(plan, fingerprint, description, model.name.split("__")[-1])
    except PlanError:  # the page says itself that the plan is wrong
        return []
    return [f"{paragraph.topic}: {paragraph.text}" for paragraph in explanation.paragraphs]
