"""Write the report of a model: find the model and its files, collect, write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from segwright.dataset import DatasetDescription, DatasetLocation
from segwright.errors import MissingFileError, PlanError, message
from segwright.explain.explanation import Explanation, explain_plan
from segwright.fingerprint import FILE_NAME as FINGERPRINT_FILE
from segwright.fingerprint import Fingerprint
from segwright.planning import Plan
from segwright.report import ReportSources, StepTime, TestFolders, collect_report, write_report
from segwright.results import SUMMARY_FILE, Fold, ModelFolder


def write_page(
    location: DatasetLocation,
    *,
    model: ModelFolder | None,
    fold: Fold | None = None,
    plans: str = "nnUNetPlans",
    output: Path | None = None,
    steps: Sequence[StepTime] = (),
    credit: str | None = None,
) -> Path:
    """Collect the files of a project and write the report, which also says what is missing.

    Args:
        location: of the data set.
        model: to report on; None if nothing has been trained yet.
        fold: to report on; None is the first trained fold.
        plans: name of the plan that the report explains.
        output: file to write; None writes into the model folder.
        steps: the time of each step.
        credit: source and licence of the data; None takes it from dataset.json.

    Returns:
        The file that was written.

    Raises:
        MissingFileError: the fold has not been trained.
    """
    chosen = _trained_fold(location, model, fold)
    path = output or (location.results / "report.html" if model is None else model.report_page)
    content = collect_report(
        ReportSources(
            dataset_name=location.name,
            raw=location.raw,
            preprocessed=location.preprocessed,
            model=model,
            fold=chosen,
            test=None if model is None else scored_test_cases(location, model, chosen),
        ),
        created=f"{datetime.now():%Y-%m-%d %H:%M}",
        steps=steps,
        explanation=_explanation(location, model, plans),
        credit=credit,
    )
    write_report(path, content)
    return path


def last_trained(location: DatasetLocation, *, plans: str, configuration: str | None = None) -> ModelFolder | None:
    """The model trained last, of one configuration if given; None if nothing has been trained yet.

    Raises:
        MissingFileError: the configuration has not been trained; the message names those that have.
    """
    trained = ModelFolder.all_in(location.results, plans=plans)
    found = [model for model in trained if configuration in (None, model.configuration_name)]
    if configuration is not None and not found:
        raise MissingFileError(
            message(
                f"{location.results}, configuration '{configuration}' with plans '{plans}'",
                expected="a trained model",
                got=f"trained: {', '.join(model.configuration_name for model in trained) or 'none'}",
                remedy=f"Run `segwright train {location.name} {configuration} 0` first.",
            )
        )
    return max(found, key=ModelFolder.last_trained_at, default=None)


def scored_test_cases(location: DatasetLocation, model: ModelFolder, fold: Fold) -> TestFolders | None:
    """The scored predictions that `run` made of imagesTs with a fold, if any."""
    references, predictions = location.raw / "labelsTs", model.test_predictions(fold)
    if not references.is_dir() or not (predictions / SUMMARY_FILE).is_file():
        return None
    return TestFolders(predictions=predictions, references=references, images=location.raw / "imagesTs")


def _trained_fold(location: DatasetLocation, model: ModelFolder | None, wanted: Fold | None) -> Fold:
    folds = () if model is None else model.folds()
    if wanted is None:
        return folds[0].fold if folds else 0
    if model is not None and all(fold.fold != wanted for fold in folds):
        raise MissingFileError(
            message(
                f"{model.path}, fold {wanted}",
                expected="a fold that was trained",
                got=f"trained: {', '.join(str(fold.fold) for fold in folds)}",
                remedy=f"Run `segwright train {location.name} {model.configuration_name} {wanted}` first.",
            )
        )
    return wanted


def _explanation(location: DatasetLocation, model: ModelFolder | None, plans: str) -> Explanation | None:
    files = [location.preprocessed / name for name in (f"{plans}.json", FINGERPRINT_FILE, "dataset.json")]
    if model is None or not all(file.is_file() for file in files):
        return None
    plan, fingerprint, description = Plan.read(files[0]), Fingerprint.read(files[1]), DatasetDescription.read(files[2])
    try:
        return explain_plan(plan, fingerprint, description, model.configuration_name)
    except PlanError:  # the report itself says that the plan is wrong
        return None
