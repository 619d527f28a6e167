"""The final validation: predict every held-out case whole, on its original grid, and score it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from segwright.errors import ImageError, message
from segwright.evaluation import Summary, evaluate_folder
from segwright.inference.export import logits_to_label_map
from segwright.inference.sliding_window import predict_logits
from segwright.io import ImageReaderWriter, reader_named
from segwright.preprocessing.properties import require_properties
from segwright.preprocessing.store import PreprocessedStore
from segwright.results import FINAL
from segwright.training.interrupts import StopRequest

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer


def validate(trainer: Trainer, *, reference_folder: Path, stop: StopRequest) -> Summary | None:
    """Predict the validation cases with the trained network, write them to `validation/`, and score them.

    A case that was predicted after the final checkpoint was written is not predicted again. Returns None when a stop
    was asked for before the last case.

    Args:
        trainer: after training.
        reference_folder: label maps of the cases on their original grids (`gt_segmentations`).
        stop: looked at before each case.
    """
    folder = trainer.output_folder / "validation"
    folder.mkdir(exist_ok=True)
    ending = trainer.description.file_ending
    trained_at = (trainer.output_folder / FINAL).stat().st_mtime
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    try:
        for done, case_id in enumerate(trainer.split.val):
            if stop:
                trainer.monitor.event("interrupted", {"signal": stop.signal_name, "validated": done})
                return None
            path = folder / f"{case_id}{ending}"
            if not path.is_file() or path.stat().st_mtime < trained_at:
                _predict_case(trainer, case_id, path)
            trainer.monitor.event("validation", {"case_id": case_id, "done": done + 1, "total": len(trainer.split.val)})
    finally:
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    summary = evaluate_folder(
        folder,
        reference_folder,
        labels=trainer.labels,
        file_ending=ending,
        reader=reader_named(trainer.plan.image_reader_writer),
        case_ids=trainer.split.val,
        compare_positions=False,
    )
    summary.write(folder / "summary.json")
    return summary


def require_usable_cases(
    store: PreprocessedStore, case_ids: Sequence[str], *, reader: ImageReaderWriter, file_ending: str
) -> None:
    """See before training that each case's label map can be brought back to its image's grid and written there.

    Raises:
        ImageError, CheckpointError: naming the case's properties and the key.
    """
    voxel = np.zeros((1, 1, 1), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for case_id in case_ids:
            where = store.folder / f"{case_id}.pkl"
            properties = require_properties(store.read_properties(case_id), where)
            try:
                reader.write_labels(voxel, Path(folder) / f"voxel{file_ending}", properties)
            except ImageError as error:
                raise ImageError(
                    message(
                        where,
                        expected=f"where its image lies in space, as {reader.name} says it",
                        got=f"{type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ else error,
                        remedy="Delete this file and preprocess again, which makes it anew.",
                    )
                ) from error


def _predict_case(trainer: Trainer, case_id: str, path: Path) -> None:
    properties = trainer.store.read_properties(case_id)
    data = torch.from_numpy(trainer.store.open(case_id).data[:])
    logits = predict_logits(
        [trainer.network],
        data,
        patch_size=trainer.configuration.patch_size,
        num_outputs=trainer.labels.num_outputs,
        mirror_axes=trainer.mirror_axes,
        device=trainer.device,
    )
    label_map = logits_to_label_map(
        logits,
        properties=properties,
        plan=trainer.plan,
        configuration=trainer.configuration,
        labels=trainer.labels,
    )
    reader_named(trainer.plan.image_reader_writer).write_labels(label_map, path, properties)
