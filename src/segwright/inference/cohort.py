"""Predict many cases: what is done is skipped, what fails is reported, everything else is written."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segwright.dataset import Case, read_case_image
from segwright.dataset.case_ids import require_apart
from segwright.dataset.cases import scan_images
from segwright.dataset.description import FILE_NAME as DATASET_JSON
from segwright.dataset.problems import some
from segwright.errors import SettingsError, message
from segwright.inference.output_folder import (
    OWN_FOLDER,
    Inputs,
    OutputFolder,
    State,
    inputs_of,
    open_output_folder,
)
from segwright.inference.predictor import Predictor
from segwright.io import reader_named
from segwright.io.atomic import write_json_atomic
from segwright.parallel import CaseFailure, Progress

ARGUMENTS_NAME = "predict_from_raw_data_args.json"
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class PredictionResult:
    """Ids of the cases by what became of them, and what failed.

    Args:
        done: predicted now.
        skipped: there already, made with this model, these settings and these images.
        failures: what could not be predicted.
        remade: those of `done` that were there already, and why that did not do.
        shared: predicted meanwhile by another process.
        foreign: label maps that stay in the folder and are of another model, or of unknown origin.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[CaseFailure, ...]
    remade: Mapping[str, State] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def num_cases(self) -> int:
        """How many cases there were."""
        return len(self.done) + len(self.skipped) + len(self.shared) + len(self.failures)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A preprocessed image, the properties that its label map is written with, and the files that it was read from."""

    data: NDArray[np.float32]
    properties: dict[str, Any]
    inputs: Inputs


def predict_folder(
    predictor: Predictor,
    input_folder: Path,
    output_folder: Path,
    *,
    overwrite: bool = False,
    keep_existing: bool = False,
    progress: Progress | None = None,
    tile_progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> PredictionResult:
    """Predict every case of a folder of images named as nnU-Net names them: ``CASE_0000.nii.gz``, ...

    A case whose files are incomplete or wrongly named is one of the failures. `progress` counts cases and
    `tile_progress` the tiles of the current one. The other arguments are those of `predict_cases`. nnU-Net's files
    beside the label maps, plans.json among them, are written only if every label map there is of this model.

    Raises:
        MissingFileError: no such folder, or no image in it.
        DatasetError: not one case in it is complete.
        SettingsError, LockedError: as of `predict_cases`.
    """
    description = predictor.description
    cases, problems = scan_images(Path(input_folder), description.file_ending, len(description.channel_names))
    if not cases and problems:
        raise problems[0].as_error()
    failures = [
        CaseFailure.of(problem.case_id or problem.file or str(input_folder), problem.as_error()) for problem in problems
    ]
    require_apart([case.case_id for case in cases], None, Path(output_folder))
    output_folder = Path(output_folder)
    _refuse_to_replace(output_folder, cases, predictor, overwrite=overwrite, keep_existing=keep_existing)
    with _opened(predictor, output_folder) as folder:
        written = _write_side_files(predictor, folder, input_folder, overwrite)
        result = _predict(
            predictor,
            cases,
            folder,
            overwrite=overwrite,
            keep_existing=keep_existing,
            progress=progress,
            tile_progress=tile_progress,
            note=note,
        )
        if not written:
            _write_side_files(predictor, folder, input_folder, overwrite)
    return dataclasses.replace(result, failures=(*failures, *result.failures))


def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output_folder: Path,
    *,
    overwrite: bool = False,
    keep_existing: bool = False,
    overlap: bool | None = None,
    progress: Progress | None = None,
    tile_progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> PredictionResult:
    """Predict cases and write their label maps to `output_folder`, each whole or not at all.

    A case that fails does not stop the others. Label maps that were made with this model, these settings and these
    images are skipped, all others made again. Processes that predict into one folder at the same time share the work.

    Args:
        predictor: the model.
        cases: to predict.
        output_folder: for the label maps.
        overwrite: predict what is done again, too.
        keep_existing: take label maps of unknown origin, such as those of nnU-Net, as done.
        overlap: read the next case and decide and write the last one while the device works, which holds three cases
            in memory. By default so on every device but the CPU.
        progress: counts cases.
        tile_progress: counts the tiles of the current case.
        note: called with a sentence when nothing is left but to wait for another process.

    Raises:
        SettingsError: the folder is of a data set or model, or holds label maps of these cases, and was not written by
            a prediction.
        LockedError: another process predicts into the folder with another model or other settings.
    """
    output_folder = Path(output_folder)
    _refuse_to_replace(output_folder, cases, predictor, overwrite=overwrite, keep_existing=keep_existing)
    with _opened(predictor, output_folder) as folder:
        return _predict(
            predictor,
            cases,
            folder,
            overwrite=overwrite,
            keep_existing=keep_existing,
            overlap=overlap,
            progress=progress,
            tile_progress=tile_progress,
            note=note,
        )


def _opened(predictor: Predictor, path: Path) -> AbstractContextManager[OutputFolder]:
    reader = reader_named(predictor.plan.image_reader_writer)
    return open_output_folder(path, predictor.description.file_ending, predictor.origin, reader)


def _predict(
    predictor: Predictor,
    cases: Sequence[Case],
    folder: OutputFolder,
    *,
    overwrite: bool,
    keep_existing: bool,
    overlap: bool | None = None,
    progress: Progress | None,
    tile_progress: Progress | None,
    note: Callable[[str], None] | None,
) -> PredictionResult:
    run = _one_by_one if not (predictor.device.type != "cpu" if overlap is None else overlap) else _overlapped
    finished: set[State] = {"done", "unknown"} if keep_existing else {"done"}
    before = {case.case_id: folder.state(case.case_id, inputs_of(case.image_paths)) for case in cases}
    if overwrite:
        for case_id in before:
            folder.withdraw(case_id)
    skipped = [case_id for case_id, state in before.items() if state in finished and not overwrite]
    left = [case for case in cases if case.case_id not in set(skipped)]
    done: list[str] = []
    shared: list[str] = []
    failures: list[CaseFailure] = []
    if progress is not None:
        progress("predict", len(skipped), len(cases))
    while left:
        busy: list[Case] = []
        for case_id, failure in run(predictor, _claimed(folder, left, shared, busy), folder, tile_progress):
            folder.release(case_id)
            if failure is None:
                done.append(case_id)
            else:
                failures.append(failure)
            if progress is not None:
                progress("predict", len(skipped) + len(shared) + len(done) + len(failures), len(cases))
        left = busy
        if left:
            if note is not None:
                note(f"Waiting for another process that predicts {some([case.case_id for case in left])}.")
                note = None
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return PredictionResult(
        done=tuple(done),
        skipped=tuple(skipped),
        failures=tuple(failures),
        remade={case_id: before[case_id] for case_id in done if before[case_id] != "absent"},
        shared=tuple(shared),
        foreign=folder.of_other_models(),
    )


def _claimed(folder: OutputFolder, cases: Sequence[Case], shared: list[str], busy: list[Case]) -> Iterator[Case]:
    """Cases for this process to predict now; what another one has done or is at goes to the lists."""
    for case in cases:
        if not folder.claim(case.case_id):
            busy.append(case)
        elif folder.state(case.case_id, inputs_of(case.image_paths)) == "done":
            folder.release(case.case_id)
            shared.append(case.case_id)
        else:
            yield case


def _refuse_to_replace(
    output_folder: Path, cases: Sequence[Case], predictor: Predictor, *, overwrite: bool, keep_existing: bool
) -> None:
    """Refuse to replace label maps in a folder that no prediction made: they may be someone's references."""
    if overwrite and keep_existing:
        raise SettingsError(
            message(
                "settings 'overwrite' and 'keep_existing'",
                expected="one of them at most",
                got="both",
                remedy="Leave one out.",
            )
        )
    made = (output_folder / ARGUMENTS_NAME).is_file() or (output_folder / OWN_FOLDER).is_dir()
    if not made:
        _refuse_part_of_a_dataset_or_model(output_folder)
    if overwrite or keep_existing or made:
        return
    paths = [output_folder / f"{case.case_id}{predictor.description.file_ending}" for case in cases]
    there = [path.name for path in paths if path.is_file()]
    if there:
        raise SettingsError(
            message(
                output_folder,
                expected="an empty folder, or one of earlier predictions",
                got=f"{len(there)} label maps of unknown origin for these cases, such as {there[0]}",
                remedy="Choose another folder, replace them with --overwrite, or keep them with --keep-existing.",
            )
        )


def _refuse_part_of_a_dataset_or_model(output_folder: Path) -> None:
    """Refuse a raw or preprocessed data set or a model, which hold a dataset.json, and what lies in their folders."""
    place = Path(os.path.realpath(output_folder))
    # New folders may lie in them; labelsTr is one level down and fold_0/validation two.
    folders = (place, *place.parents[:2]) if place.is_dir() and any(place.iterdir()) else ()
    for folder in folders:
        if (folder / DATASET_JSON).is_file() and not (folder / ARGUMENTS_NAME).is_file():
            raise SettingsError(
                message(
                    output_folder,
                    expected="a separate folder for predictions",
                    got=f"files of the data set or model {folder}",
                    remedy="Choose a new folder; nothing was changed.",
                )
            )


def _write_side_files(predictor: Predictor, folder: OutputFolder, input_folder: Path, overwrite: bool) -> bool:
    """Write what nnU-Net v2 writes beside predictions, unless there are label maps of another model among them."""
    if folder.of_other_models():
        return False
    arguments = {
        "folder_with_segs_from_prev_stage": None,
        "list_of_lists_or_source_folder": str(input_folder),
        "num_parts": 1,
        "num_processes_preprocessing": 1,
        "num_processes_segmentation_export": 1,
        "output_folder_or_list_of_truncated_output_files": str(folder.path),
        "overwrite": overwrite,
        "part_id": 0,
        "save_probabilities": False,
    }
    write_json_atomic(folder.path / ARGUMENTS_NAME, arguments)
    predictor.description.write(folder.path / DATASET_JSON)
    predictor.plan.write(folder.path / "plans.json")
    return True


def _one_by_one(
    predictor: Predictor, cases: Iterable[Case], folder: OutputFolder, tile_progress: Progress | None
) -> Iterator[tuple[str, CaseFailure | None]]:
    for case in cases:
        try:
            prepared = _prepare(predictor, case)
            logits = predictor.predict_logits(prepared.data, progress=tile_progress)
            _write(predictor, logits, prepared, folder, case.case_id)
        except Exception as error:
            yield case.case_id, CaseFailure.of(case.case_id, error)
        else:
            yield case.case_id, None


def _overlapped(
    predictor: Predictor, cases: Iterable[Case], folder: OutputFolder, tile_progress: Progress | None
) -> Iterator[tuple[str, CaseFailure | None]]:
    """Like `_one_by_one`, with one thread that reads one case ahead and one that writes one case behind."""
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        ahead: deque[tuple[str, Future[_Prepared]]] = deque()
        behind: deque[tuple[str, Future[None]]] = deque()
        unread = iter(cases)
        while True:
            while len(ahead) < 2 and (following := next(unread, None)) is not None:
                ahead.append((following.case_id, reading.submit(_prepare, predictor, following)))
            if not ahead:
                break
            case_id, reading_it = ahead.popleft()
            try:
                prepared = reading_it.result()
                logits = predictor.predict_logits(prepared.data, progress=tile_progress)
            except Exception as error:
                yield case_id, CaseFailure.of(case_id, error)
                continue
            behind.append((case_id, writing.submit(_write, predictor, logits, prepared, folder, case_id)))
            del prepared, logits, reading_it
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
    inputs = inputs_of(case.image_paths)  # before they are read, so that a change in between is not overlooked
    reader = reader_named(predictor.plan.image_reader_writer)
    image = read_case_image(reader, case, len(predictor.description.channel_names))
    return _Prepared(*predictor.preprocess(image, where=f"case {case.case_id}"), inputs)


def _write(predictor: Predictor, logits: torch.Tensor, prepared: _Prepared, folder: OutputFolder, case_id: str) -> None:
    label_map = predictor.decide(logits, prepared.properties)
    with folder.replacing(case_id, prepared.inputs) as path:
        folder.reader.write_labels(label_map, path, prepared.properties)
