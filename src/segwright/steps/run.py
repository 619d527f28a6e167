"""Run every step: from a folder of labelled scans to an evaluated model and a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from segwright.dataset import (
    DatasetLocation,
    RawDataset,
    create_splits,
    read_groups,
    read_splits,
    split_for_fold,
)
from segwright.dataset.splits import FILE_NAME as SPLITS_FILE
from segwright.evaluation import Summary, evaluate_folder
from segwright.inference import Predictor, predict_folder
from segwright.io import reader_named
from segwright.planning import Plan
from segwright.planning.presets import DEFAULT_PLANNER
from segwright.report import StepTime
from segwright.results import SUMMARY_FILE, Fold, ModelFolder
from segwright.steps.check import NO_VARIABLES, require_sound
from segwright.steps.failures import require_all_done
from segwright.steps.plan import plan_dataset
from segwright.steps.preprocess import preprocess_configurations
from segwright.steps.report import write_page
from segwright.steps.train import train_fold
from segwright.steps.watch import QUIET, Watch
from segwright.training.run import TrainingOutcome
from segwright.training.trainer import Trainer


@dataclass(frozen=True)
class RunOutcome:
    """The results of a run. After Ctrl-C there is neither report nor score.

    `test` holds the scores of imagesTs if labelsTs has references.
    """

    training: TrainingOutcome
    model: ModelFolder
    page: Path | None
    test: Summary | None
    times: tuple[StepTime, ...]


def run_dataset(
    location: DatasetLocation,
    *,
    configuration: str | None = None,
    fold: Fold = 0,
    planner: str = DEFAULT_PLANNER,
    gpu_memory_gb: float | None = None,
    edit_plan: Callable[[Plan], Plan] | None = None,
    group_by: str | None = None,
    trainer_class: type[Trainer] = Trainer,
    flags: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    resume: bool = True,
    workers: int | None = None,
    force: bool = False,
    page: Path | None = None,
    credit: str | None = None,
    environ: Mapping[str, str] = NO_VARIABLES,
    watch: Watch = QUIET,
) -> RunOutcome:
    """Check, plan, preprocess, train, validate, predict and score the test cases, and write the report.

    Finished steps are skipped, and an interrupted training continues unless `resume` is False.

    Args:
        location: of the data set.
        configuration: to train; None is 3d_fullres where it is planned, otherwise 2d.
        fold: to hold out, or "all".
        planner, gpu_memory_gb, group_by: as for `plan_dataset`.
        edit_plan: changes the plan before it is used, for example by adding a configuration.
        trainer_class, flags, device: as for `segwright.train`.
        resume: continue from the newest checkpoint.
        workers: processes; None uses as many as cores and memory allow.
        force: try a batch that cannot fit the memory that there is.
        page: file of the report; None writes into the model folder.
        credit: source and licence of the data, for the report.
        environ: environment variables that an explicit list of files may use.
        watch: receives the start of each step and its progress.

    Raises:
        SegwrightError: as its message says; finished steps are kept.
    """
    steps = _Steps(watch)
    with steps.step("check"):
        require_sound(location, group_by=group_by, workers=workers, environ=environ, watch=watch)
    _refuse_unknown_fold(location, fold, group_by, environ)
    with steps.step("fingerprint and plan"):
        plan, path = plan_dataset(
            location,
            planner=planner,
            gpu_memory_gb=gpu_memory_gb,
            group_by=group_by,
            workers=workers,
            checked=True,
            environ=environ,
            watch=watch,
        )
        if edit_plan is not None:
            plan = edit_plan(plan)
            plan.write(path)
    name = configuration or ("3d_fullres" if "3d_fullres" in plan.configuration_names else "2d")
    plan.configuration(name)
    with steps.step("preprocess"):
        preprocessed = preprocess_configurations(location, plan, [name], workers=workers, environ=environ, watch=watch)
        require_all_done(preprocessed.failures, preprocessed.num_cases, "preprocessed")
    with steps.step("train and validate"):
        outcome = train_fold(
            location,
            plan,
            name,
            fold,
            trainer_class=trainer_class,
            flags=flags,
            device=device,
            resume=resume,
            force=force,
            watch=watch,
        )
    model = ModelFolder(outcome.model_folder)
    if outcome.summary is None:
        return RunOutcome(outcome, model, None, None, tuple(steps.times))
    test = _predict_and_score_test_cases(location, model, fold, trainer_class, device, steps, watch)
    with steps.step("report"):
        written = write_page(
            location,
            model=model,
            fold=fold,
            plans=plan.plans_name,
            output=page,
            steps=steps.times,
            credit=credit,
        )
    return RunOutcome(outcome, model, written, test, tuple(steps.times))


@dataclass
class _Steps:
    watch: Watch
    times: list[StepTime] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.watch.step(name)
        start = time.monotonic()
        yield
        self.times.append(StepTime(name, time.monotonic() - start))


def _refuse_unknown_fold(
    location: DatasetLocation, fold: Fold, group_by: str | None, environ: Mapping[str, str]
) -> None:
    """Look for the fold in the splits, hours before its training starts."""
    if fold == "all":
        return
    case_ids = [case.case_id for case in RawDataset.open(location.raw, environ=environ).cases]
    files = [folder / SPLITS_FILE for folder in (location.preprocessed, location.raw)]
    written = next((file for file in files if file.is_file()), None)
    groups = None if group_by is None else read_groups(group_by, case_ids)
    split_for_fold(create_splits(case_ids, groups) if written is None else read_splits(written), fold, case_ids)


def _predict_and_score_test_cases(
    location: DatasetLocation,
    model: ModelFolder,
    fold: Fold,
    trainer_class: type[Trainer],
    device: torch.device | None,
    steps: _Steps,
    watch: Watch,
) -> Summary | None:
    """Predict imagesTs, if there is one, and evaluate it, if there is a labelsTs."""
    images, references = location.raw / "imagesTs", location.raw / "labelsTs"
    if not images.is_dir() or not any(images.iterdir()):
        return None
    predictions = model.test_predictions(fold)
    predictor = Predictor.from_folder(
        model.path, folds=[fold], device=device or "cpu", build=trainer_class.build_network_architecture
    )
    with steps.step("predict test cases"), watch.progress() as progress:
        result = predict_folder(
            predictor,
            images,
            predictions,
            progress=progress,
            tile_progress=progress,
            note=watch.note,
        )
    require_all_done(result.failures, result.num_cases, "predicted")
    if not references.is_dir():
        return None
    with steps.step("score test cases"):
        summary = evaluate_folder(
            predictions,
            references,
            labels=predictor.description.labels,
            file_ending=predictor.description.file_ending,
            reader=reader_named(predictor.plan.image_reader_writer),
            compare_positions=False,  # the predictions were made on these very images
        )
        summary.write(predictions / SUMMARY_FILE)
    return summary
