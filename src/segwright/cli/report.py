"""`segwright report`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import DEFAULT_PLANS, DatasetArgument, Fold, PlansOption, WorkspaceOption, locate, parse_fold
from segwright.errors import MissingFileError, PlanError, message

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation
    from segwright.report import StepTime, TestFolders


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
        Path | None, typer.Option("--output", metavar="FILE", help="Page to write. Default: in the model's folder.")
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
    wanted = None if fold is None else parse_fold(fold)
    model = model_folder(location, plans, configuration)
    chosen = _trained_fold(location, model, wanted)
    path = output or (model or location.results) / "report.html"
    write_page(location, path, model=model, fold=chosen, plans=plans, test=scored_test_cases(location, model, chosen))
    terminal.answer(f"Report: {path}")
    return 0


def model_folder(location: DatasetLocation, plans: str, configuration: str | None) -> Path | None:
    """The model that was trained last, of one configuration if it is given; None where nothing was trained yet.

    Raises:
        MissingFileError: the configuration was not trained; the message names those that were.
    """
    trained = [folder for folder in location.results.glob(f"*__{plans}__*") if _folds(folder)]
    found = [folder for folder in trained if configuration in (None, _configuration_of(folder))]
    if configuration is not None and not found:
        raise MissingFileError(
            message(
                f"{location.results}, configuration '{configuration}' with plans '{plans}'",
                expected="a trained model",
                got=f"trained: {', '.join(sorted(map(_configuration_of, trained))) or 'none'}",
                remedy=f"Run `segwright train {location.name} {configuration} 0` first.",
            )
        )
    return max(found, key=lambda folder: max(fold.stat().st_mtime for fold in _folds(folder)), default=None)


def scored_test_cases(location: DatasetLocation, model: Path | None, fold: Fold) -> TestFolders | None:
    """The scored predictions that `segwright run` made of imagesTs with a fold, if it did."""
    from segwright.report import TestFolders

    references = location.raw / "labelsTs"
    predictions = model / test_predictions_name(fold) if model is not None else None
    if predictions is None or not references.is_dir() or not (predictions / "summary.json").is_file():
        return None
    return TestFolders(predictions=predictions, references=references, images=location.raw / "imagesTs")


def test_predictions_name(fold: Fold) -> str:
    """Name of the folder, in the model's, of the predictions of imagesTs."""
    return f"predictions_imagesTs_fold_{fold}"


def _configuration_of(model: Path) -> str:
    return model.name.split("__")[-1]


def _folds(model: Path) -> list[Path]:
    """The folders of folds that a training has written to, the numbered ones first."""
    names = (folder for folder in model.glob("fold_*") if folder.is_dir() and any(folder.iterdir()))
    return sorted(folder for folder in names if re.fullmatch(r"fold_(\d+|all)", folder.name))


def _trained_fold(location: DatasetLocation, model: Path | None, wanted: Fold | None) -> Fold:
    """The fold asked for, which must have been trained; or the first that was.

    Raises:
        MissingFileError: it was not trained; the message names the folds that were.
    """
    names = [] if model is None else [folder.name.removeprefix("fold_") for folder in _folds(model)]
    if wanted is None:
        return parse_fold(names[0]) if names else 0
    if model is not None and str(wanted) not in names:
        raise MissingFileError(
            message(
                f"{model}, fold {wanted}",
                expected="a fold that was trained",
                got=f"trained: {', '.join(names)}",
                remedy=f"Run `segwright train {location.name} {_configuration_of(model)} {wanted}` first.",
            )
        )
    return wanted


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
    from segwright.explain.explanation import explain_plan
    from segwright.fingerprint import FILE_NAME, Fingerprint
    from segwright.planning import Plan

    files = [location.preprocessed / name for name in (f"{plans}.json", FILE_NAME, "dataset.json")]
    if model is None or not all(file.is_file() for file in files):
        return []
    plan, fingerprint, description = Plan.read(files[0]), Fingerprint.read(files[1]), DatasetDescription.read(files[2])
    try:
        explanation = explain_plan(plan, fingerprint, description, model.name.split("__")[-1])
    except PlanError:  # the page says itself that the plan is wrong
        return []
    return [f"{paragraph.topic}: {paragraph.text}" for paragraph in explanation.paragraphs]
