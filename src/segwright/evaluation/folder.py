"""Scoring a folder of predicted label maps against a folder of reference label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from segwright.errors import CasesFailedError, DatasetError, GeometryError, MissingFileError, message
from segwright.evaluation.metrics import compare_label_maps
from segwright.evaluation.summary import CaseMetrics, Summary
from segwright.geometry import Geometry, displacement
from segwright.io import Image, ImageReaderWriter
from segwright.labels import Labels
from segwright.parallel import CaseFailure, Progress, run_cases

POSITION_TOLERANCE = 0.1  # of a voxel: NIfTI's float32 headers move oblique grids by far less
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Pair:
    case_id: str
    prediction: Path
    reference: Path


def evaluate_folder(
    predictions: Path,
    references: Path,
    *,
    labels: Labels,
    file_ending: str,
    reader: ImageReaderWriter,
    case_ids: Sequence[str] | None = None,
    compare_positions: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> Summary:
    """Score every case of two folders, which must hold the same cases; or only score `case_ids`.

    Without `compare_positions` only shapes and spacings must agree, as in training: images and references with
    different positions in their headers are common, and nnU-Net accepts them.

    Raises:
        DatasetError: the folders do not hold the same cases.
        CasesFailedError: cases with a wrong shape, geometry or values; no mean is computed without them.
    """
    pairs = _pair_up(predictions, references, file_ending, case_ids)
    scored = run_all(
        partial(_score, labels=labels, reader=reader, compare_positions=compare_positions),
        pairs,
        case_id=lambda pair: pair.case_id,
        what="Scoring",
        workers=workers,
        progress=progress,
    )
    return Summary.from_cases([scored[pair.case_id] for pair in pairs])


def label_map_files(folder: Path, file_ending: str) -> dict[str, Path]:
    """Files of a folder that end in `file_ending`, by case id in the order of their names.

    Raises:
        MissingFileError: there is no such folder.
    """
    if not folder.is_dir():
        raise MissingFileError(
            message(folder, expected="a folder of label maps", got="no such folder", remedy="Check the path.")
        )
    files = sorted(
        path for path in folder.iterdir() if path.name.endswith(file_ending) and not path.name.startswith(".")
    )
    return {path.name.removesuffix(file_ending): path for path in files if path.is_file()}


def _pair_up(
    predictions: Path, references: Path, file_ending: str, case_ids: Sequence[str] | None
) -> tuple[_Pair, ...]:
    predicted = label_map_files(predictions, file_ending)
    known = label_map_files(references, file_ending)
    wanted = set(case_ids) if case_ids is not None else predicted.keys() | known.keys()
    if not wanted:
        raise DatasetError(
            message(
                predictions,
                expected=f"label maps that end in {file_ending}",
                got="none",
                remedy="Check the folder and the file ending.",
            )
        )
    _require_all(wanted, predicted, predictions, "prediction")
    _require_all(wanted, known, references, "reference")
    return tuple(_Pair(case_id, predicted[case_id], known[case_id]) for case_id in sorted(wanted))


def _require_all(wanted: Iterable[str], found: Mapping[str, Path], folder: Path, kind: str) -> None:
    missing = sorted(set(wanted) - found.keys())
    if missing:
        raise DatasetError(
            message(
                folder,
                expected=f"a {kind} for every case",
                got=f"none for {len(missing)} of them: {_listed(missing)}",
                remedy="Add the missing label maps, or remove the same cases from the other folder.",
            )
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def run_all(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    case_id: Callable[[_Item], str],
    what: str,
    workers: int,
    progress: Progress | None,
) -> dict[str, _Result]:
    """Results by case id, of every item.

    Raises:
        CasesFailedError: the failed cases, each with its reason; all cases have been tried.
    """
    results: dict[str, _Result] = {}
    failures: dict[str, str] = {}
    for item, result in run_cases(function, items, workers=workers, case_id=case_id, what=what, progress=progress):
        if isinstance(result, CaseFailure):
            failures[case_id(item)] = result.message
        else:
            results[case_id(item)] = result
    if failures:
        raise _cases_failed(failures, len(items))
    return results


def _cases_failed(failures: Mapping[str, str], num_cases: int) -> CasesFailedError:
    named = dict(sorted(failures.items()))
    lines = "\n".join(f"  {case_id}: {text}" for case_id, text in named.items())
    text = f"{len(named)} of {num_cases} cases cannot be scored, so no scores are given:\n{lines}"
    return CasesFailedError(text, named)


def _score(pair: _Pair, *, labels: Labels, reader: ImageReaderWriter, compare_positions: bool) -> CaseMetrics:
    reference = reader.read_labels(pair.reference)
    prediction = reader.read_labels(pair.prediction)
    _require_same_grid(prediction, reference, pair, compare_positions)
    return CaseMetrics(
        prediction_file=str(pair.prediction),
        reference_file=str(pair.reference),
        metrics=compare_label_maps(prediction.array, reference.array, labels, where=f"case {pair.case_id}"),
    )


def _require_same_grid(prediction: Image, reference: Image, pair: _Pair, compare_positions: bool) -> None:
    if prediction.array.shape != reference.array.shape:
        raise GeometryError(
            message(
                pair.prediction,
                expected=f"the reference's shape {reference.array.shape[1:]}",
                got=f"{prediction.array.shape[1:]}",
                remedy="Predict the image that the reference was drawn on.",
            )
        )
    shape = prediction.array.shape[1:]
    if compare_positions and not same_grid(prediction.geometry, reference.geometry, (shape[0], shape[1], shape[2])):
        raise GeometryError(
            message(
                pair.prediction,
                expected=f"the reference's position in space, {_in_words(reference.geometry)}",
                got=_in_words(prediction.geometry),
                remedy="Predict the image that the reference was drawn on, or copy its header.",
            )
        )


def _in_words(geometry: Geometry) -> str:
    spacing = ", ".join(f"{value:g}" for value in geometry.spacing_mm)
    return f"spacing ({spacing}) mm (z, y, x), {geometry.position_in_words()}"


def same_grid(first: Geometry, second: Geometry, shape: tuple[int, int, int]) -> bool:
    """Whether the voxels of two grids of `shape` (z, y, x) have the same positions, to a tenth of a voxel.

    nnU-Net's tolerance (`numpy.allclose`) also rejects the rounding of a header that was written and read again.
    """
    if not np.allclose(first.spacing_mm, second.spacing_mm, rtol=1e-3, atol=0):
        return False
    found = displacement(first, second, shape)
    return first.same_position(second) if found is None else found.voxels <= POSITION_TOLERANCE
