"""`segwright predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segwright.cli.console import Terminal
from segwright.cli.options import DeviceOption, JsonOption, choose_device
from segwright.errors import MissingFileError, SettingsError, message
from segwright.results import parse_fold
from segwright.steps.failures import require_all_done


def predict(
    input_folder: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images: CASE_0000.nii.gz, ...")],
    output_folder: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the label maps.")],
    model: Annotated[
        Path, typer.Option("--model", metavar="FOLDER", help="Model folder: Trainer__plans__configuration.")
    ],
    folds: Annotated[
        list[str] | None,
        typer.Option("--folds", metavar="0 1 ...", help="Folds to average, such as 0 1 2. Default: all there are."),
    ] = None,
    no_mirroring: Annotated[bool, typer.Option("--no-mirroring", help="Up to 8 times faster, a little worse.")] = False,
    step_size: Annotated[
        float,
        typer.Option("--step-size", metavar="X", min=0.05, max=1.0, help="Step between tiles as a share of the patch."),
    ] = 0.5,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="FILE", help="File in each fold.")
    ] = "checkpoint_final.pth",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict finished cases anew.")] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Segment every image of a folder.

    Cases that are done are skipped; a bad one does not stop the others.

    \b
    Examples:
      segwright predict scans/ masks/ --model MODEL
      segwright predict scans/ masks/ --model MODEL --folds 0 1
    """
    from segwright.inference import Predictor, predict_folder

    terminal = Terminal.open()
    _require_model(model)
    if input_folder.resolve() == output_folder.resolve():
        raise SettingsError(
            message(
                "OUTPUT",
                expected="another folder than INPUT",
                got=str(output_folder),
                remedy="The next prediction would take the label maps for images.",
            )
        )
    predictor = Predictor.from_folder(
        model,
        folds=None if folds is None else [parse_fold(fold) for fold in folds],
        checkpoint_name=checkpoint,
        device=choose_device(device),
        step_size=step_size,
        mirroring=not no_mirroring,
    )
    for warning in predictor.warnings:
        terminal.note(f"Warning: {warning}")
    with terminal.progress() as progress:
        result = predict_folder(
            predictor, input_folder, output_folder, overwrite=overwrite, progress=progress, tile_progress=progress
        )
    failures = {failure.case_id: failure.message for failure in result.failures}
    if as_json:
        terminal.json({"done": list(result.done), "skipped": list(result.skipped), "failures": failures})
    else:
        terminal.answer(
            f"{len(result.done)} cases predicted, {len(result.skipped)} were done before, {len(failures)} failed: "
            f"{output_folder}"
        )
    num_cases = len(result.done) + len(result.skipped) + len(failures)
    require_all_done(result.failures, num_cases, "predicted")
    return 0


def _require_model(folder: Path) -> None:
    """Refuse a folder above or below that of a model, naming the right one.

    Raises:
        MissingFileError
    """
    if not folder.is_dir() or (folder / "plans.json").is_file():
        return
    near = [*folder.glob("*__*__*/plans.json"), *(parent / "plans.json" for parent in folder.resolve().parents)]
    models = sorted(str(path.parent) for path in near if path.is_file() and path.parent.name.count("__") == 2)
    raise MissingFileError(
        message(
            f"--model {folder}",
            expected="a model folder, Trainer__plans__configuration, with plans.json in it",
            got="one without plans.json",
            remedy=f"Try {' or '.join(models)}." if models else "Train a model, or correct the path.",
        )
    )
