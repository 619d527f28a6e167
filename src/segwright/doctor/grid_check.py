"""Cases whose voxel grid is unlike the others': where its axes point to, its spacing and its shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.problems import Kind, Problem, some
from segwright.doctor.case_summary import CaseSummary
from segwright.doctor.robust import middle_and_deviation

# Fewer cases than this say nothing about what is usual.
_ENOUGH_CASES = 8
_SPACING_FACTOR, _SHAPE_FACTOR = 2.5, 3.0
_DEVIATIONS = 5.0


def unlike_orientations(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    """Report that axes point to different directions, and name the cases that are not like most."""
    by_code: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.orientation is not None:
            by_code[case.orientation].append(case.case_id)
    if len(by_code) < 2:
        return
    usual = max(by_code, key=lambda code: len(by_code[code]))
    others = [(code, names) for code, names in sorted(by_code.items()) if code != usual]
    listed = ", ".join(f"{code} in {len(names)} ({some(names)})" for code, names in others)
    yield Problem(
        "warning",
        "orientation",
        None,
        "imagesTr",
        f"expected one orientation, got x, y, z axes pointing to {usual} in {len(by_code[usual])} cases, but to "
        f"{listed}",
        'The network sees the voxels as they are stored. Reorient these cases, or set "overwrite_image_reader_writer" '
        'to "SimpleITKIOWithReorient" in dataset.json.',
        tuple(name for _, names in others for name in names),
    )


def unlike_spacings(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    """Report spacings far from the median, axis by axis; an axis of one voxel has none, as z of a picture."""
    yield from _outliers(
        cases,
        np.array(
            [
                [mm if size > 1 else np.nan for mm, size in zip(case.spacing_mm, case.shape, strict=True)]
                for case in cases
            ]
        ).reshape(len(cases), 3),
        "spacing",
        " mm",
        _SPACING_FACTOR,
        "Look at the headers: a spacing that was lost is often written as 1. Real outliers may stay.",
    )


def unlike_shapes(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    """Report numbers of voxels far from the median, axis by axis."""
    yield from _outliers(
        cases,
        np.array([case.shape for case in cases], dtype=np.float64),
        "shape",
        " voxels",
        _SHAPE_FACTOR,
        "Look whether these are whole images of the same region, with their axes in the others' order. Real outliers "
        "may stay.",
    )


def _outliers(
    cases: Sequence[CaseSummary], values: NDArray[np.float64], kind: Kind, unit: str, factor: float, remedy: str
) -> Iterator[Problem]:
    """Find values (cases, 3), or NaN, of which one axis is `factor` times the median or its inverse, and rarely so."""
    if len(cases) < _ENOUGH_CASES:
        return
    logarithms = np.log(values)
    middle, deviation = middle_and_deviation(logarithms)
    distance = np.abs(logarithms - middle)
    is_odd = (distance > np.log(factor)) & (distance > _DEVIATIONS * deviation)
    for axis, name in enumerate("zyx"):
        odd = np.flatnonzero(is_odd[:, axis]).tolist()
        if odd:
            usual = f"{np.nanmedian(values[:, axis]):.4g}{unit}"
            found = [f"{values[index, axis]:.4g} in {cases[index].case_id}" for index in odd]
            yield Problem(
                "warning",
                kind,
                None,
                "imagesTr",
                f"expected a {kind} along {name} like the median, {usual}, got {some(found)}",
                remedy,
                tuple(cases[index].case_id for index in odd),
            )
