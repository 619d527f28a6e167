"""`segwright run`: every step, one after the other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segwright.cli.check import check_or_stop
from segwright.cli.console import Terminal, in_words
from segwright.cli.evaluate import show_scores
from segwright.cli.failures import refuse_failures
from segwright.cli.options import (
    BatchSizeOption,
    DatasetArgument,
    DeviceOption,
    EpochsOption,
    Fold,
    GroupByOption,
    IterationsOption,
    LearningRateOption,
    RecipeOption,
    SeedOption,
    TrainerOption,
    ValIterationsOption,
    WorkersOption,
    WorkspaceOption,
    choose_device,
    locate,
    parse_fold,
    refuse_bad_settings,
    trainer_class_of,
)
from segwright.cli.plan import GpuMemoryOption, PlannerOption, plan_dataset
from segwright.cli.preprocess import preprocess_configurations
from segwright.cli.report import test_predictions_name, write_page
from segwright.cli.train import finish, train_fold, training_flags

if TYPE_CHECKING:
    from segwright.dataset import DatasetLocation
    from segwright.evaluation import Summary
    from segwright.report import StepTime, TestFolders


@dataclass
class Steps:
    """Announces each step and keeps the time that it took."""

    terminal: Terminal
    times: list[StepTime] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        from segwright.report import StepTime

        self.terminal.note(f"-- {name}")
        start = time.monotonic()
        yield
        self.times.append(StepTime(name, time.monotonic() - start))

    def show(self) -> None:
        """Print the time that each step took."""
        rows = [[step.name, in_words(step.seconds)] for step in self.times]
        self.terminal.table(["step", "time"], rows, answer=True)


def run(
    dataset: DatasetArgument,
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", "-c", metavar="NAME", help="Default: 3d_fullres where planned, else 2d."),
    ] = None,
    fold: Annotated[
        str, typer.Option("--fold", "-f", metavar="FOLD", help="Number of the split to hold out, or all.")
    ] = "0",
    planner: PlannerOption = "ExperimentPlanner",
    gpu_memory: GpuMemoryOption = None,
    group_by: GroupByOption = None,
    trainer: TrainerOption = None,
    epochs: EpochsOption = None,
    iterations_per_epoch: IterationsOption = None,
    val_iterations_per_epoch: ValIterationsOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    recipe: RecipeOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
) -> int:
    """Do everything, from check to report.

    Predicts imagesTs too where there is one, and scores it where there is labelsTs.

    Steps that are done are skipped, and a training that was interrupted goes on.

    \b
    Examples:
      segwright run Dataset004_Hippocampus
      segwright run 4 -c 2d --epochs 50
      segwright run 27 --group-by '(patient[0-9]+)'
    """
    terminal = Terminal.open()
    steps = Steps(terminal)
    location = locate(dataset, workspace)
    flags = training_flags(
        epochs, iterations_per_epoch, val_iterations_per_epoch, batch_size, lr, seed=seed, recipe=recipe
    )
    # What is wrong with the command is told now, not after hours of preprocessing.
    chosen_fold = parse_fold(fold)
    refuse_bad_settings(flags)
    trainer_class_of(trainer)
    choose_device(device)
    with steps.step("check"):
        check_or_stop(terminal, location, workers, group_by)
    refuse_unknown_fold(location, chosen_fold, group_by)
    with steps.step("fingerprint and plan"):
        plan, _ = plan_dataset(
            terminal,
            location,
            planner=planner,
            gpu_memory=gpu_memory,
            group_by=group_by,
            workers=workers,
            checked=True,
        )
    name = configuration or ("3d_fullres" if "3d_fullres" in plan.configuration_names else "2d")
    plan.configuration(name)
    with steps.step("preprocess"):
        preprocess_configurations(terminal, location, plan, [name], workers=workers)
    with steps.step("train and validate"):
        outcome = train_fold(
            terminal,
            location,
            plan,
            name,
            chosen_fold,
            trainer=trainer,
            flags=flags,
            device=device,
            resume=True,
        )
    if outcome.summary is None:
        return finish(terminal, outcome, again=sys.argv[1:])
    test = predict_test_cases(terminal, steps, location, outcome.model_folder, chosen_fold, device)
    page = outcome.model_folder / "report.html"
    with steps.step("report"):
        write_page(
            location,
            page,
            model=outcome.model_folder,
            fold=chosen_fold,
            plans=plan.plans_name,
            test=None if test is None else test[0],
            steps=steps.times,
        )
    from segwright.dataset import DatasetDescription

    labels = DatasetDescription.read(location.raw / "dataset.json").labels
    terminal.answer(f"Validation cases of fold {fold}:")
    show_scores(terminal, outcome.summary, labels)
    if test is not None:
        terminal.answer("Test cases:")
        show_scores(terminal, test[1], labels)
    steps.show()
    terminal.answer(f"Model: {outcome.model_folder}")
    terminal.answer(f"Report: {page}")
    return 0


def refuse_unknown_fold(location: DatasetLocation, fold: Fold, group_by: str | None) -> None:
    """Look for a fold among the splits that the training will have.

    Raises:
        DatasetError: there is no such fold, or there are too few cases for cross-validation.
    """
    from segwright.dataset import RawDataset, create_splits, read_groups, read_splits, split_for_fold

    if fold == "all":
        return
    case_ids = [case.case_id for case in RawDataset.open(location.raw, environ=os.environ).cases]
    files = [folder / "splits_final.json" for folder in (location.preprocessed, location.raw)]
    written = next((file for file in files if file.is_file()), None)
    groups = None if group_by is None else read_groups(group_by, case_ids)
    split_for_fold(create_splits(case_ids, groups) if written is None else read_splits(written), fold, case_ids)


def predict_test_cases(
    terminal: Terminal, steps: Steps, location: DatasetLocation, model: Path, fold: Fold, device: str | None
) -> tuple[TestFolders, Summary] | None:
    """Predict imagesTs, if there is one, and score it, if there are labelsTs. Returns None where nothing was scored."""
    images, references = location.raw / "imagesTs", location.raw / "labelsTs"
    if not images.is_dir() or not any(images.iterdir()):
        return None
    from segwright.evaluation import evaluate_folder
    from segwright.inference import Predictor, predict_folder
    from segwright.report import TestFolders

    predictions = model / test_predictions_name(fold)
    predictor = Predictor.from_folder(model, folds=[fold], device=choose_device(device))
    with steps.step("predict test cases"), terminal.progress() as progress:
        result = predict_folder(
            predictor,
            images,
            predictions,
            overwrite=_is_older(predictions, model, fold),
            progress=progress,
            tile_progress=progress,
        )
    refuse_failures(result.failures, len(result.done) + len(result.skipped) + len(result.failures), "predicted")
    if not references.is_dir():
        return None
    with steps.step("score test cases"):
        summary = evaluate_folder(
            predictions,
            references,
            labels=predictor.description.labels,
            file_ending=predictor.description.file_ending,
            reader=_reader(predictor),
            compare_positions=False,  # the predictions were made on these very images
        )
        summary.write(predictions / "summary.json")
    return TestFolders(predictions=predictions, references=references, images=images), summary


def _is_older(predictions: Path, model: Path, fold: Fold) -> bool:
    """Whether predictions were made before the model was trained anew."""
    trained = (model / f"fold_{fold}" / "checkpoint_final.pth").stat().st_mtime
    return any(path.stat().st_mtime < trained for path in predictions.glob("*"))


def _reader(predictor: Any) -> Any:
    from segwright.io import reader_named

    return reader_named(predictor.plan.image_reader_writer)
