"""Outlines of the labels in a slice as lines that can be drawn dashed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray

from segwright.report.content import Polyline

_Point = tuple[float, float]


def outlines(label_slice: NDArray[Any]) -> tuple[Polyline, ...]:
    """Trace the borders of every label above 0 in a slice (rows, columns).

    Points are (x, y) in voxels, voxel (row, column) covering x in [column, column + 1] and y in [row, row + 1]. The
    lines run through the middles of the voxels' edges, so corners are cut; a border between two labels is traced once.
    A closed line ends with its first point.
    """
    seen: set[frozenset[_Point]] = set()
    lines: list[Polyline] = []
    for value in np.unique(label_slice):
        if value > 0:
            # just above a half, voxels that touch at a corner stay apart
            contours = contour_generator(z=np.pad(label_slice == value, 1).astype(float)).lines(0.5 + 1e-9)
            for contour in contours:
                points = np.round(np.asarray(contour) - 0.5, 3).tolist()  # the first voxel's middle is at 1, not 0.5
                lines.extend(_not_seen([(x, y) for x, y in points], seen))
    return tuple(lines)


def _not_seen(points: list[_Point], seen: set[frozenset[_Point]]) -> list[Polyline]:
    """The parts of a line that no line before it has; what is returned has been seen."""
    runs: list[list[_Point]] = [[]]
    for step in pairwise(points):
        if (edge := frozenset(step)) in seen:
            runs.append([])
        else:
            seen.add(edge)
            runs[-1].extend(step if not runs[-1] else step[1:])
    if len(runs) > 1 and runs[0] and runs[-1]:  # a loop that was cut goes on where it began
        runs[0] = runs.pop() + runs[0][1:]
    return [_without_collinear(run) for run in runs if run]


def _without_collinear(points: list[_Point]) -> Polyline:
    kept = points[:1]
    for here, after in pairwise(points[1:]):
        (x0, y0), (x1, y1), (x2, y2) = kept[-1], here, after
        if (x1 - x0) * (y2 - y1) != (y1 - y0) * (x2 - x1):
            kept.append(here)
    return (*kept, points[-1])
