"""Gathering a report from the folders that the steps of a project leave behind."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segwright.dataset import Case, DatasetDescription, RawDataset, find_cases, read_splits
from segwright.dataset.splits import FILE_NAME as SPLITS_FILE
from segwright.errors import SegwrightError
from segwright.evaluation import Summary
from segwright.explain.explanation import Explanation
from segwright.fingerprint import FILE_NAME as FINGERPRINT_FILE
from segwright.fingerprint import Fingerprint
from segwright.io import ImageReaderWriter, choose_reader, reader_named
from segwright.planning.plan import Plan
from segwright.report.cases import CaseFiles, score_section
from segwright.report.content import (
    Fact,
    Headline,
    Missing,
    PlanSection,
    ReportContent,
    ScoreSection,
    StepTime,
    TrainingSection,
)
from segwright.report.recorded import training_section
from segwright.report.words import credit_of, describe_data, describe_plan
from segwright.results import SUMMARY_FILE, Fold, FoldFolder, ModelFolder

_DEFAULT_PLANS, _DEFAULT_TRAINER = "nnUNetPlans", "nnUNetTrainer"
_TEST_TITLE = "test cases"


@dataclass(frozen=True)
class TestFolders:
    """Predictions of cases with known references: `predictions` holds their summary.json; `images` the input images."""

    predictions: Path
    references: Path
    images: Path | None = None
    cases_in_words: str = "unseen test cases"

    __test__ = False


@dataclass(frozen=True)
class ReportSources:
    """The folders of a project; every one may be missing.

    `model` is the folder of a configuration in the results (`Trainer__plans__configuration`), `preprocessed` that of
    the data set.
    """

    dataset_name: str
    raw: Path | None = None
    preprocessed: Path | None = None
    model: ModelFolder | None = None
    fold: Fold = 0
    test: TestFolders | None = None


def collect_report(
    sources: ReportSources,
    *,
    created: str = "",
    steps: Sequence[StepTime] = (),
    environment: Sequence[tuple[str, str]] = (),
    explanation: Explanation | None = None,
    credit: str | None = None,
) -> ReportContent:
    """Gather what the folders hold; what they lack is said on the page, with the command that makes it.

    Args:
        sources: the folders.
        created: date and time of the report in words.
        steps: the time that each step took.
        environment: names and values to show beside those of the training's settings.json.
        explanation: of the plan's configuration.
        credit: source and licence of the data; without it, what dataset.json says.
    """
    gaps: dict[str, Missing] = {}
    description = _description(sources, gaps)
    plan = _plan(sources, gaps)
    scores = () if description is None else _scores(sources, description, plan, gaps)
    training, recorded = _training(sources, description, gaps)
    if credit is None:
        credit = "" if description is None else credit_of(description)
    return ReportContent(
        title=sources.dataset_name,
        created=created,
        headline=_headline(scores[0], sources) if scores else None,
        scores=scores,
        data=None if description is None else describe_data(description, _fingerprint(sources, gaps)),
        plan=None if plan is None else _plan_section(sources, plan, explanation, gaps),
        training=training,
        steps=tuple(steps),
        environment=(*(Fact(name, value) for name, value in environment), *recorded),
        credit=credit,
        missing=gaps,
    )


def _headline(section: ScoreSection, sources: ReportSources) -> Headline:
    is_test = sources.test is not None and section.title == _TEST_TITLE
    words = "training cases" if sources.fold == "all" else "validation cases"
    words = sources.test.cases_in_words if is_test and sources.test is not None else words
    num_cases = len(section.cases)
    words = words.removesuffix("s") if num_cases == 1 else words
    return Headline(section.mean_foreground_dice, num_cases, words)


def _first_file(*candidates: Path | None) -> Path | None:
    return next((path for path in candidates if path is not None and path.is_file()), None)


def _inside(folder: Path | None, *names: str) -> Path | None:
    return None if folder is None else folder.joinpath(*names)


def _description(sources: ReportSources, gaps: dict[str, Missing]) -> DatasetDescription | None:
    folders = (sources.raw, sources.preprocessed, _path(sources.model))
    path = _first_file(*(_inside(folder, "dataset.json") for folder in folders))
    if path is None:
        gaps["data"] = Missing("There is no dataset.json.", f"segwright check {sources.dataset_name}")
        gaps["scores"] = Missing("Without a dataset.json there are no scores by class.", "")
        return None
    try:
        return DatasetDescription.read(path)
    except SegwrightError as error:
        gaps["data"] = Missing(str(error), f"segwright check {sources.dataset_name}")
        gaps["scores"] = Missing("Without a valid dataset.json there are no scores by class.", "")
        return None


def _fingerprint(sources: ReportSources, gaps: dict[str, Missing]) -> Fingerprint | None:
    path = _first_file(_inside(sources.preprocessed, FINGERPRINT_FILE), _inside(_path(sources.model), FINGERPRINT_FILE))
    if path is None:
        gaps["data"] = Missing(
            "Sizes and spacings have not been measured yet.", f"segwright plan {sources.dataset_name}"
        )
        return None
    try:
        return Fingerprint.read(path)
    except SegwrightError as error:
        gaps["data"] = Missing(str(error), f"segwright plan {sources.dataset_name}")
        return None


def _plan(sources: ReportSources, gaps: dict[str, Missing]) -> Plan | None:
    planned = sorted(sources.preprocessed.glob("*Plans.json")) if sources.preprocessed is not None else []
    wanted = _inside(sources.preprocessed, f"{_plans_name(sources)}.json")
    path = _first_file(None if sources.model is None else sources.model.plans, wanted, *planned)
    if path is None:
        gaps["plan"] = Missing("No plan has been made yet.", f"segwright plan {sources.dataset_name}")
        return None
    try:
        return Plan.read(path)
    except SegwrightError as error:
        gaps["plan"] = Missing(str(error), f"segwright plan {sources.dataset_name}")
        return None


def _path(model: ModelFolder | None) -> Path | None:
    return None if model is None else model.path


def _plans_name(sources: ReportSources) -> str:
    return (sources.model.plans_name if sources.model is not None else "") or _DEFAULT_PLANS


def _configuration_name(sources: ReportSources) -> str:
    return (sources.model.configuration_name if sources.model is not None else "") or "3d_fullres"


def _plan_section(
    sources: ReportSources, plan: Plan, explanation: Explanation | None, gaps: dict[str, Missing]
) -> PlanSection | None:
    wanted = _configuration_name(sources)
    name = wanted if wanted in plan.configuration_names else plan.configuration_names[0]
    try:
        return describe_plan(plan.configuration(name), plan.plans_name, explanation)
    except SegwrightError as error:
        gaps["plan"] = Missing(str(error), f"segwright plan {sources.dataset_name}")
        return None


def _training(
    sources: ReportSources, description: DatasetDescription | None, gaps: dict[str, Missing]
) -> tuple[TrainingSection, tuple[Fact, ...]]:
    names = () if description is None else [description.labels.name_of(value) for value in description.labels.classes]
    folder = _fold_folder(sources)
    section = TrainingSection()
    environment: tuple[Fact, ...] = ()
    try:
        if folder is not None:
            section, environment = training_section(folder.path, names)
    except SegwrightError as error:
        gaps["budget"] = Missing(str(error), _train_command(sources))
    if not section.settings and "budget" not in gaps:
        gaps["budget"] = Missing("No budget is recorded yet (settings.json).", _train_command(sources))
    if not section.epochs:
        gaps["curves"] = Missing("No epoch is recorded yet (training_log.jsonl).", _train_command(sources))
    return section, environment


def _fold_folder(sources: ReportSources) -> FoldFolder | None:
    return None if sources.model is None else sources.model.fold(sources.fold)


def _train_command(sources: ReportSources) -> str:
    """The command that trains the fold, or continues its training: without --continue it would start from scratch."""
    words = ["segwright", "train", sources.dataset_name, _configuration_name(sources), str(sources.fold)]
    if (plans := _plans_name(sources)) != _DEFAULT_PLANS:
        words += ["--plans", plans]
    if sources.model is not None and sources.model.trainer_name not in ("", _DEFAULT_TRAINER):
        words += ["--trainer", f"FILE.py:{sources.model.trainer_name}"]
    folder = _fold_folder(sources)
    if folder is not None and folder.checkpoints():
        words.append("--continue")
    return shlex.join(words)


@dataclass(frozen=True)
class _ScoredSet:
    """A set of cases whose summary may exist; `images` finds their input images when a picture is wanted."""

    title: str
    cases_in_words: str
    predictions: Path
    references: Path | None
    images: Callable[[], tuple[Case, ...]]


def _scores(
    sources: ReportSources, description: DatasetDescription, plan: Plan | None, gaps: dict[str, Missing]
) -> tuple[ScoreSection, ...]:
    """Scores of the test cases and of the validation cases; the first of them have pictures."""
    sections: list[ScoreSection] = []
    for scored in (_test_set(sources, description), _validation_set(sources)):
        if scored is None or not (path := scored.predictions / SUMMARY_FILE).is_file():
            continue
        try:
            summary = Summary.read(path)
            files = None if sections else _case_files(scored, description, plan, gaps)
            words = f"{len(summary.metric_per_case)} {scored.cases_in_words}"
            sections.append(
                score_section(summary, description.labels, title=scored.title, cases_in_words=words, files=files)
            )
        except SegwrightError as error:
            gaps["scores"] = Missing(str(error), _score_command(sources))
    if not sections and "scores" not in gaps:
        gaps["scores"] = Missing("No case has been scored yet.", _score_command(sources))
    return tuple(sections)


def _score_command(sources: ReportSources) -> str:
    if sources.test is not None:
        return f"segwright evaluate {sources.test.predictions} {sources.test.references}"
    return _train_command(sources)


def _test_set(sources: ReportSources, description: DatasetDescription) -> _ScoredSet | None:
    test = sources.test
    if test is None:
        return None
    folder = test.images

    def images() -> tuple[Case, ...]:
        return () if folder is None else find_cases(folder, description.file_ending, len(description.channel_names))

    words = f"{test.cases_in_words}, kept away from planning and training."
    return _ScoredSet(_TEST_TITLE, words, test.predictions, test.references, images)


def _validation_set(sources: ReportSources) -> _ScoredSet | None:
    folder, raw = _fold_folder(sources), sources.raw
    if folder is None:
        return None
    kept = _inside(sources.preprocessed, "gt_segmentations")
    references = kept if kept is not None and kept.is_dir() else _inside(raw, "labelsTr")
    held_out = sources.fold != "all"
    return _ScoredSet(
        title=f"validation cases of fold {sources.fold}" if held_out else "training cases",
        cases_in_words=_validated_in_words(sources),
        predictions=folder.validation,
        references=references,
        images=lambda: () if raw is None else RawDataset.open(raw).cases,
    )


def _validated_in_words(sources: ReportSources) -> str:
    if sources.fold == "all":
        return "cases that the model was trained on, so the scores say little about unseen cases."
    path = _first_file(_inside(sources.preprocessed, SPLITS_FILE))
    try:
        split = None if path is None else read_splits(path)[sources.fold]
    except (SegwrightError, IndexError):  # written since the training, and said by `check`
        split = None
    if split is not None and split.overlap:
        trained = f"{len(split.overlap)} of the {len(split.val)} cases of fold {sources.fold}"
        return f"cases; the model was trained on {trained}, so the scores say little about unseen cases."
    return f"cases that the training of fold {sources.fold} held out."


def _case_files(
    scored: _ScoredSet, description: DatasetDescription, plan: Plan | None, gaps: dict[str, Missing]
) -> CaseFiles | None:
    """Where to find what the pictures show; None where images or references are not at hand."""
    try:
        images = {case.case_id: case for case in scored.images()}
        reader = _reader(description, plan)
    except SegwrightError as error:
        gaps["pictures"] = Missing(f"No pictures of cases: {error}", "")
        return None
    if scored.references is None or not images:
        gaps["pictures"] = Missing("No pictures of cases: their images and references are not at hand.", "")
        return None
    return CaseFiles(
        images=images,
        predictions=scored.predictions,
        references=scored.references,
        file_ending=description.file_ending,
        reader=reader,
        channel_names=description.channel_names,
    )


def _reader(description: DatasetDescription, plan: Plan | None) -> ImageReaderWriter:
    if plan is not None:
        return reader_named(plan.image_reader_writer)
    return choose_reader(description.file_ending, wanted_name=description.reader_name)
