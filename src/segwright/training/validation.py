"""The final validation: predict every held-out case on its original grid, and evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segwright.errors import ImageError, message
from segwright.evaluation import Summary, evaluate_folder
from segwright.inference.output_folder import OutputFolder, inputs_of, open_output_folder
from segwright.inference.predictor import Predictor
from segwright.io import ImageReaderWriter, reader_named
from segwright.io.leftovers import temporary_folder
from segwright.preprocessing.properties import require_properties
from segwright.preprocessing.store import PreprocessedStore
from segwright.training.interrupts import StopRequest

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer


def validate(trainer: Trainer, *, reference_folder: Path, stop: StopRequest) -> Summary | None:
    """Predict the validation cases with the trained network, write them to `validation/`, and evaluate them.

    A case already predicted with these weights, from the current arrays of the store, is not predicted again. Returns
    None if a stop was requested before the last case.

    Args:
        trainer: after training.
        reference_folder: label maps of the cases on their original grids (`gt_segmentations`).
        stop: checked before each case.
    """
    path = trainer.output_folder / "validation"
    ending, reader = trainer.description.file_ending, reader_named(trainer.plan.image_reader_writer)
    predictor = _predictor(trainer)
    trainer.set_deep_supervision_enabled(False)
    try:
        with open_output_folder(path, ending, predictor.origin, reader) as folder:
            for done, case_id in enumerate(trainer.split.val):
                if stop:
                    trainer.monitor.event("interrupted", {"signal": stop.signal_name, "validated": done})
                    return None
                _predict_unless_done(trainer, predictor, folder, case_id)
                values = {"case_id": case_id, "done": done + 1, "total": len(trainer.split.val)}
                trainer.monitor.event("validation", values)
    finally:
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    summary = evaluate_folder(
        path,
        reference_folder,
        labels=trainer.labels,
        file_ending=ending,
        reader=reader,
        case_ids=trainer.split.val,
        compare_positions=False,
    )
    summary.write(path / "summary.json")
    return summary


def require_usable_cases(
    store: PreprocessedStore, case_ids: Sequence[str], *, reader: ImageReaderWriter, file_ending: str
) -> None:
    """Check before training that each case's label map can be resampled to its image's grid and written.

    Raises:
        ImageError, CheckpointError: naming the case's properties and the key.
    """
    voxel = np.zeros((1, 1, 1), dtype=np.uint8)
    with temporary_folder() as folder:
        for case_id in case_ids:
            where = store.folder / f"{case_id}.pkl"
            properties = require_properties(store.read_properties(case_id), where)
            try:
                reader.write_labels(voxel, folder / f"voxel{file_ending}", properties)
            except ImageError as error:
                # what a reader keeps for its writer, such as 'sitk_stuff'
                kept = ", ".join(f"{key}={value!r}" for key, value in properties.items() if key.endswith("_stuff"))
                reason = f"{type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ else error
                raise ImageError(
                    message(
                        where,
                        expected=f"the position of its image in space, as read by {reader.name}",
                        got=f"{kept or 'none'} ({reason})",
                        remedy="Delete this file and preprocess again.",
                    )
                ) from error


def _predictor(trainer: Trainer) -> Predictor:
    return Predictor(
        task=trainer.task,
        networks=(trainer.network,),
        mirror_axes=trainer.mirror_axes,
        device=trainer.device,
        folds=(str(trainer.fold),),
    )


def _predict_unless_done(trainer: Trainer, predictor: Predictor, folder: OutputFolder, case_id: str) -> None:
    inputs = inputs_of(trainer.store.files(case_id))
    if folder.state(case_id, inputs) == "done":
        return
    properties = trainer.store.read_properties(case_id)
    label_map = predictor.predict_preprocessed(trainer.store.open(case_id).data[:], properties)
    with folder.replacing(case_id, inputs) as path:
        folder.reader.write_labels(label_map, path, properties)
