"""What is wrong with the voxels of one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.cases import Case, file_and_words, read_case_image, short_name
from segwright.dataset.problems import Kind, Problem
from segwright.doctor.case_summary import CaseSummary, summarise_case
from segwright.doctor.placement import LEAST_SHARE_INSIDE, share_inside
from segwright.errors import GeometryError, SegwrightError
from segwright.geometry import displacement
from segwright.io import Image, reader_named

# Headers that differ by less than this, in voxels, were rounded.
_ROUNDED_VOXELS = 0.01
# Up to here one comparison for each value is quicker than counting them all in one pass.
_FEW_LABELS = 15

Measure = Callable[[Case, Image, Image], Any]
"""Takes the image and the label map of a case, so that cases are read once for whatever is wanted of them."""


@dataclass(frozen=True)
class CaseTask:
    """What a worker needs to examine one case; `measure` is called with what it read, if there is no error."""

    case: Case
    reader_name: str
    num_channels: int
    measure: Measure | None = None


@dataclass(frozen=True)
class CaseFindings:
    """Problems of a case, and how many voxels of its label map have each value that is a number.

    `summary` is for comparing the case with others; None where it cannot be. `measurement` is what `measure` returned.
    """

    problems: tuple[Problem, ...]
    label_counts: Mapping[float, int] = field(default_factory=dict)
    summary: CaseSummary | None = None
    measurement: Any = None


def check_case(task: CaseTask) -> CaseFindings:
    """Read the image and the label map of a case and report everything that is wrong with them."""
    case, reader = task.case, reader_named(task.reader_name)
    problems: list[Problem] = []
    image = labels = None
    try:
        image = read_case_image(reader, case, task.num_channels)
    except SegwrightError as error:
        problems.extend(_image_problems(task, error))
    if case.label_path is not None:
        try:
            labels = reader.read_labels(case.label_path)
        except SegwrightError as error:
            problems.append(_told_by_reader(case, [case.label_path], error))
    for read in (image, labels):
        problems.extend(_header_problems(case, read))
    if image is not None:
        problems.extend(_voxel_problems(case, image))
    if labels is not None:
        problems.extend(_label_problems(case, labels.array))
    if image is not None and labels is not None:
        problems.extend(_agreement_problems(case, image, labels))
    label_map = None if labels is None else _as_integers(labels.array[0])
    counts = {} if label_map is None else _count_values(label_map)
    summary = measurement = None
    if image is not None and not any(problem.kind == "not_a_number" for problem in problems):
        matches = label_map is not None and label_map.shape == image.array.shape[1:]
        summary = summarise_case(case.case_id, image, label_map if matches else None)
    if image is not None and labels is not None and not any(problem.severity == "error" for problem in problems):
        measurement = None if task.measure is None else task.measure(case, image, labels)
    return CaseFindings(problems=tuple(problems), label_counts=counts, summary=summary, measurement=measurement)


def _error(kind: Kind, case: Case, file: str | None, what: str, remedy: str = "") -> Problem:
    return Problem("error", kind, case.case_id, file, what.rstrip("."), remedy)


def _told_by_reader(case: Case, paths: Sequence[Path], error: SegwrightError) -> Problem:
    """Turn a reader's error into a problem; the path that it begins with becomes the problem's file."""
    path, text = file_and_words(paths, error)
    return _error("geometry" if isinstance(error, GeometryError) else "unreadable", case, short_name(path), text)


def _image_problems(task: CaseTask, error: SegwrightError) -> list[Problem]:
    """Every channel that cannot be read by itself; if each can, what is wrong is between them."""
    case, reader = task.case, reader_named(task.reader_name)
    problems = []
    if len(case.image_paths) > 1:
        for path in case.image_paths:
            try:
                reader.read_image([path])
            except SegwrightError as alone:
                problems.append(_told_by_reader(case, [path], alone))
    return problems or [_told_by_reader(case, case.image_paths, error)]


def _header_problems(case: Case, read: Image | None) -> list[Problem]:
    doubts = () if read is None else read.doubts
    return [
        Problem("warning", "header", case.case_id, short_name(doubt.path), doubt.what, doubt.remedy) for doubt in doubts
    ]


def _voxel_problems(case: Case, image: Image) -> list[Problem]:
    problems = [
        Problem(
            "warning",
            "position",
            case.case_id,
            "imagesTr",
            text,
            "Look whether they overlap; only the voxel grid is used.",
        )
        for text in image.warnings
    ]
    for channel, voxels in enumerate(image.array):
        if np.isfinite(voxels.min()) and np.isfinite(voxels.max()):
            continue
        count = int(np.count_nonzero(~np.isfinite(voxels)))
        file = case.image_paths[channel if len(case.image_paths) > 1 else 0]
        problems.append(
            _error(
                "not_a_number",
                case,
                short_name(file),
                f"expected numbers only, got {count} voxels of channel {channel} that are NaN or infinite",
                "Replace them, for example by the image's background value.",
            )
        )
    return problems


def _label_problems(case: Case, label_map: NDArray[np.float32]) -> list[Problem]:
    if case.label_path is None or (np.isfinite(label_map.min()) and np.isfinite(label_map.max())):
        return []
    count = int(np.count_nonzero(~np.isfinite(label_map)))
    return [
        _error(
            "not_a_number",
            case,
            short_name(case.label_path),
            f"expected labels only, got {count} voxels that are NaN or infinite",
            "Set them to a declared label.",
        )
    ]


def _agreement_problems(case: Case, image: Image, labels: Image) -> list[Problem]:
    file = short_name(case.label_path) if case.label_path else ""
    remedy = "Resample the label map onto its image's grid, with nearest-neighbour sampling."
    problems = []
    if image.array.shape[1:] != labels.array.shape[1:]:
        shapes = f"expected the image's shape {image.array.shape[1:]} (z, y, x), got {labels.array.shape[1:]}"
        problems.append(_error("geometry", case, file, shapes, remedy))
    if not image.geometry.same_spacing(labels.geometry):
        spacings = [tuple(round(value, 6) for value in each.geometry.spacing_mm) for each in (image, labels)]
        text = f"expected the image's spacing {spacings[0]} mm (z, y, x), got {spacings[1]}"
        problems.append(_error("geometry", case, file, text, remedy))
    if not image.geometry.same_position(labels.geometry):
        problems.extend(_position_problems(case, file, image, labels))
    return problems


def _position_problems(case: Case, file: str, image: Image, labels: Image) -> list[Problem]:
    found = displacement(labels.geometry, image.geometry, labels.array.shape[1:])
    if found is None:
        wanted, got = image.geometry.position_in_words(), labels.geometry.position_in_words()
        text = f"expected the image's position, {wanted}, got {got}"
        remedy = "Look whether they overlap; only the voxel grid is used."
    else:
        if found.voxels < _ROUNDED_VOXELS:
            return []
        share = share_inside(labels.array[0], labels.geometry, image.geometry, image.array.shape[1:])
        text = (
            "expected the image's position, got a label map that by the headers is "
            f"{found.text or f'up to {found.voxels:.2g} voxels apart'} against its image, with {share:.0%} of what is "
            "labelled within it"
        )
        remedy = "Only the voxel grid is used. Look whether image and label map fit as voxels; " + (
            "the header of one of them is wrong."
            if share < LEAST_SHARE_INSIDE
            else "if the headers are right, segwright check --fix NEW_FOLDER puts the label map onto the image's grid."
        )
    return [Problem("warning", "position", case.case_id, file, text, remedy)]


def _as_integers(label_map: NDArray[np.float32]) -> NDArray[Any]:
    """Store the label map (z, y, x) in one or two bytes a voxel; one with other values than 0, 1, 2, ... stays."""
    high = float(label_map.max())  # NaN where there is any
    if not 0 <= high <= np.iinfo(np.uint16).max or label_map.min() < 0:
        return label_map
    whole = label_map.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    return whole if np.array_equal(whole, label_map) else label_map


def _count_values(label_map: NDArray[Any]) -> dict[float, int]:
    if label_map.dtype != np.float32:
        high = int(label_map.max())
        if high <= _FEW_LABELS:
            totals = np.array([np.count_nonzero(label_map == value) for value in range(high + 1)])
        else:
            totals = np.bincount(label_map.ravel())
        return {float(value): int(totals[value]) for value in np.flatnonzero(totals)}
    values, counts = np.unique(label_map[np.isfinite(label_map)], return_counts=True)
    found: dict[float, Any] = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return found
