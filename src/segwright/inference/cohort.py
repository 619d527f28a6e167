"""Predict many cases: what is done is skipped, what fails is told, everything else is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segwright.dataset import Case, read_case_image
from segwright.dataset.case_ids import require_apart
from segwright.dataset.cases import scan_images
from segwright.inference.predictor import Predictor
from segwright.io import reader_named
from segwright.io.atomic import write_json_atomic
from segwright.parallel import CaseFailure, Progress


@dataclass(frozen=True)
class PredictionResult:
    """Ids of the cases that were predicted now and of those that were there already, and what failed."""

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[CaseFailure, ...]


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A preprocessed image, and the properties of its file that the label map is written with."""

    data: NDArray[np.float32]
    properties: dict[str, Any]


def predict_folder(
    predictor: Predictor,
    input_folder: Path,
    output_folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    tile_progress: Progress | None = None,
) -> PredictionResult:
    """Predict every case of a folder of images named as nnU-Net names them: ``CASE_0000.nii.gz``, ...

    A case whose files are incomplete or wrongly named is one of the failures. `progress` counts cases and
    `tile_progress` the tiles of the current one.

    Raises:
        MissingFileError: no such folder, or no image in it.
        DatasetError: not one case in it is complete.
    """
    description = predictor.description
    cases, problems = scan_images(Path(input_folder), description.file_ending, len(description.channel_names))
    if not cases and problems:
        raise problems[0].as_error()
    failures = [
        CaseFailure.of(problem.case_id or problem.file or str(input_folder), problem.as_error()) for problem in problems
    ]
    require_apart([case.case_id for case in cases], None, Path(output_folder))
    write_prediction_files(predictor, output_folder, input_folder=Path(input_folder), overwrite=overwrite)
    result = predict_cases(
        predictor, cases, output_folder, overwrite=overwrite, progress=progress, tile_progress=tile_progress
    )
    return PredictionResult(result.done, result.skipped, (*failures, *result.failures))


def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output_folder: Path,
    *,
    overwrite: bool = False,
    overlap: bool | None = None,
    progress: Progress | None = None,
    tile_progress: Progress | None = None,
) -> PredictionResult:
    """Predict cases and write their label maps to `output_folder`, each whole or not at all.

    A case that fails does not stop the others. With `overlap` the next case is read and the last one is decided and
    written while the device works, which holds three cases in memory; by default this is so on every device but the
    CPU.
    """
    output_folder = Path(output_folder)
    paths = {case.case_id: output_folder / f"{case.case_id}{predictor.description.file_ending}" for case in cases}
    skipped = tuple(case.case_id for case in cases if not overwrite and paths[case.case_id].is_file())
    wanted = [case for case in cases if case.case_id not in set(skipped)]
    run = _one_by_one if not (predictor.device.type != "cpu" if overlap is None else overlap) else _overlapped
    done: list[str] = []
    failures: list[CaseFailure] = []
    if progress is not None:
        progress("predict", len(skipped), len(cases))
    for number, (case_id, failure) in enumerate(run(predictor, wanted, paths, tile_progress), start=1):
        if failure is None:
            done.append(case_id)
        else:
            failures.append(failure)
        if progress is not None:
            progress("predict", len(skipped) + number, len(cases))
    return PredictionResult(tuple(done), skipped, tuple(failures))


def write_prediction_files(
    predictor: Predictor, output_folder: Path, *, input_folder: Path, overwrite: bool = False
) -> None:
    """Write what nnU-Net v2 writes beside predictions: predict_from_raw_data_args.json, dataset.json, plans.json."""
    output_folder = Path(output_folder)
    arguments = {
        "folder_with_segs_from_prev_stage": None,
        "list_of_lists_or_source_folder": str(input_folder),
        "num_parts": 1,
        "num_processes_preprocessing": 1,
        "num_processes_segmentation_export": 1,
        "output_folder_or_list_of_truncated_output_files": str(output_folder),
        "overwrite": overwrite,
        "part_id": 0,
        "save_probabilities": False,
    }
    write_json_atomic(output_folder / "predict_from_raw_data_args.json", arguments)
    predictor.description.write(output_folder / "dataset.json")
    predictor.plan.write(output_folder / "plans.json")


def _one_by_one(
    predictor: Predictor, cases: Sequence[Case], paths: Mapping[str, Path], tile_progress: Progress | None
) -> Iterator[tuple[str, CaseFailure | None]]:
    for case in cases:
        try:
            prepared = _prepare(predictor, case)
            logits = predictor.predict_logits(prepared.data, progress=tile_progress)
            _write(predictor, logits, prepared.properties, paths[case.case_id])
        except Exception as error:
            yield case.case_id, CaseFailure.of(case.case_id, error)
        else:
            yield case.case_id, None


def _overlapped(
    predictor: Predictor, cases: Sequence[Case], paths: Mapping[str, Path], tile_progress: Progress | None
) -> Iterator[tuple[str, CaseFailure | None]]:
    """Like `_one_by_one`, with one thread that reads one case ahead and one that writes one case behind."""
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        ahead: deque[Future[_Prepared]] = deque()
        behind: deque[tuple[str, Future[None]]] = deque()
        unread = iter(cases)
        for case in cases:
            while len(ahead) < 2 and (following := next(unread, None)) is not None:
                ahead.append(reading.submit(_prepare, predictor, following))
            try:
                prepared = ahead.popleft().result()
                logits = predictor.predict_logits(prepared.data, progress=tile_progress)
            except Exception as error:
                yield case.case_id, CaseFailure.of(case.case_id, error)
                continue
            behind.append(
                (case.case_id, writing.submit(_write, predictor, logits, prepared.properties, paths[case.case_id]))
            )
            del prepared, logits
            while len(behind) > 1:
                yield _written(*behind.popleft())
        for written in behind:
            yield _written(*written)


def _written(case_id: str, written: Future[None]) -> tuple[str, CaseFailure | None]:
    error = written.exception()
    if isinstance(error, Exception):
        return case_id, CaseFailure.of(case_id, error)
    if error is not None:
        raise error
    return case_id, None


def _prepare(predictor: Predictor, case: Case) -> _Prepared:
    reader = reader_named(predictor.plan.image_reader_writer)
    image = read_case_image(reader, case, len(predictor.description.channel_names))
    return _Prepared(*predictor.preprocess(image, where=f"case {case.case_id}"))


def _write(predictor: Predictor, logits: torch.Tensor, properties: Mapping[str, Any], path: Path) -> None:
    label_map = predictor.decide(logits, properties)
    reader_named(predictor.plan.image_reader_writer).write_labels(label_map, path, properties)
