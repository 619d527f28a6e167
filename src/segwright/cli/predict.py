"""`segwright predict`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import (
    AcceptPlanOption,
    DeviceOption,
    JsonOption,
    TrainerOption,
    choose_device,
    trainer_class_of,
)
from segwright.errors import SettingsError, message
from segwright.results import ModelFolder, parse_fold
from segwright.steps.failures import require_all_done

if TYPE_CHECKING:
    from segwright.inference import PredictionResult

_REASONS = {
    "done": "as --overwrite asks",
    "unknown": "of unknown origin",
    "model": "by another model or other folds of it",
    "settings": "with other settings",
    "input": "of another image",
    "damaged": "damaged",
}


def predict(
    input_folder: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images: CASE_0000.nii.gz, ...")],
    output_folder: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the label maps.")],
    model: Annotated[
        Path, typer.Option("--model", metavar="FOLDER", help="Model folder, named Trainer__plans__configuration.")
    ],
    folds: Annotated[
        list[str] | None,
        typer.Option(
            "--folds", metavar="0 1 ...", help="Folds to ensemble, such as 0 1 2. Default: all trained folds."
        ),
    ] = None,
    no_mirroring: Annotated[
        bool,
        typer.Option("--no-mirroring", help="No test-time mirroring: up to 8 times faster, slightly less accurate."),
    ] = False,
    step_size: Annotated[
        float,
        typer.Option(
            "--step-size", metavar="X", min=0.05, max=1.0, help="Step between tiles as a fraction of the patch size."
        ),
    ] = 0.5,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="FILE", help="Checkpoint in each fold's folder.")
    ] = "checkpoint_final.pth",
    trainer: TrainerOption = None,
    accept_plan: AcceptPlanOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict finished cases again.")] = False,
    keep_existing: Annotated[
        bool, typer.Option("--keep-existing", help="Keep existing label maps of unknown origin, such as nnU-Net's.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Segment every image of a folder.

    Cases already predicted with this model, these settings and this image are skipped. A case that fails does not stop
    the others. Several processes, for example on two GPUs, can share one output folder.

    \b
    Examples:
      segwright predict scans/ masks/ --model MODEL
      segwright predict scans/ masks/ --model MODEL --folds 0 1
      segwright predict scans/ masks/ --model MODEL --trainer my_trainer.py:MyTrainer
    """
    from segwright.inference import Predictor, predict_folder

    terminal = Terminal.open()
    ModelFolder(model).require("--model")
    if os.path.realpath(input_folder) == os.path.realpath(output_folder):
        raise SettingsError(
            message(
                "OUTPUT",
                expected="another folder than INPUT",
                got=str(output_folder),
                remedy="Choose another folder, otherwise the next prediction would read the label maps as images.",
            )
        )
    predictor = Predictor.from_folder(
        model,
        folds=None if folds is None else [parse_fold(fold) for fold in folds],
        checkpoint_name=checkpoint,
        device=choose_device(device),
        step_size=step_size,
        mirroring=not no_mirroring,
        accept_plan=accept_plan,
        build=None if trainer is None else trainer_class_of(trainer).build_network_architecture,
    )
    for warning in predictor.warnings:
        terminal.note(f"Warning: {warning}")
    with terminal.progress() as progress:
        result = predict_folder(
            predictor,
            input_folder,
            output_folder,
            overwrite=overwrite,
            keep_existing=keep_existing,
            progress=progress,
            tile_progress=progress,
            note=terminal.note,
        )
    if result.foreign:
        terminal.note(
            f"Warning: {len(result.foreign)} label maps in {output_folder}, such as {result.foreign[0]}, were kept "
            "but come from another model or are of unknown origin; plans.json beside them was not changed."
        )
    failures = {failure.case_id: failure.message for failure in result.failures}
    if as_json:
        ids = {"done": result.done, "skipped": result.skipped, "shared": result.shared, "foreign": result.foreign}
        terminal.json({**ids, "remade": result.remade, "failures": failures})
    else:
        terminal.answer(f"{_in_words(result)}: {output_folder}")
    require_all_done(result.failures, result.num_cases, "predicted")
    return 0


def _in_words(result: PredictionResult) -> str:
    reasons = Counter(_REASONS[state] for state in result.remade.values())
    again = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return ", ".join(
        [
            f"{len(result.done)} cases predicted",
            *([f"{len(result.remade)} of them again ({again})"] if again else []),
            f"{len(result.skipped)} were done before",
            *([f"{len(result.shared)} done by another process"] if result.shared else []),
            f"{len(result.failures)} failed",
        ]
    )
