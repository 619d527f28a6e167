"""One picture of a model's results: the best, the median and the worst case with their outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segwright.evaluation import CaseMetrics, Summary, extreme_cases
from segwright.io.atomic import atomic_path
from segwright.report.cases import CaseFiles, read_case
from segwright.report.content import Polyline
from segwright.report.outline import outlines
from segwright.report.slices import CaseImages
from segwright.report.views import Plane, case_planes

REFERENCE_COLOUR, PREDICTION_COLOUR = "#22d3ee", "#ff9d2e"
BACKGROUND, INK, SOFT_INK = "#10151b", "#e8edf3", "#a9b6c5"
_WIDTH_INCHES, _MAX_ROW_INCHES = 8.4, 4.0
_SIDE_BY_SIDE = 3
_GAP_INCHES, _HEAD_INCHES, _FOOT_INCHES = 0.12, 0.42, 0.45


def write_overview(path: Path, summary: Summary, files: CaseFiles, *, dots_per_inch: int = 110) -> None:
    """Write a PNG with a row for the best, the median and the worst case; dark, so that it suits any page.

    Raises:
        ValueError: no case of the summary has a score.
        MissingFileError, ImageError, GeometryError: a case cannot be read.
    """
    extremes = extreme_cases(summary)
    if extremes is None:
        raise ValueError("Expected at least one case with a score, got none.")
    named = (("best", extremes.best), ("median", extremes.median), ("worst", extremes.worst))
    rows = [(role, case, read_case(case.case_id, files)) for role, case in named]
    figure = _figure([(_title(role, case), _planes(images)) for role, case, images in rows])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dots_per_inch, facecolor=BACKGROUND)


def _title(role: str, case: CaseMetrics) -> str:
    dice = case.mean_foreground_dice
    return f"{role} case: Dice {'n/a' if math.isnan(dice) else f'{dice:.3f}'}"


def _planes(images: CaseImages) -> Sequence[Plane]:
    return case_planes(images)[:_SIDE_BY_SIDE]


def _figure(rows: Sequence[tuple[str, Sequence[Plane]]]) -> Any:
    """Lay the rows out in inches, each plane with its true aspect and all of a row equally high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [_row_height(planes) for _, planes in rows]
    width, height = _WIDTH_INCHES, sum(heights) + len(rows) * _HEAD_INCHES + _FOOT_INCHES
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    top = height
    for (title, planes), row_height in zip(rows, heights, strict=True):
        figure.text(_GAP_INCHES / width, (top - 0.3) / height, title, color=INK, fontsize=12, fontweight="bold")
        bottom, left = top - _HEAD_INCHES - row_height, _GAP_INCHES
        for plane in planes:
            plane_width = row_height * _aspect(plane)
            axes = figure.add_axes((left / width, bottom / height, plane_width / width, row_height / height))
            _draw(axes, plane)
            left += plane_width + _GAP_INCHES
        top = bottom
    _legend(figure, width, height)
    return figure


def _row_height(planes: Sequence[Plane]) -> float:
    """Height at which the planes of a row fill the width side by side."""
    room = _WIDTH_INCHES - _GAP_INCHES * (len(planes) + 1)
    return min(_MAX_ROW_INCHES, room / sum(_aspect(plane) for plane in planes))


def _aspect(plane: Plane) -> float:
    return plane.size_mm[0] / plane.size_mm[1]


def _draw(axes: Any, plane: Plane) -> None:
    height, width = plane.reference.shape
    axes.imshow(
        plane.shown, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest", aspect="auto"
    )
    _draw_lines(axes, outlines(plane.reference), REFERENCE_COLOUR, "solid")
    _draw_lines(axes, outlines(plane.prediction), PREDICTION_COLOUR, (0, (4, 3)))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()


def _draw_lines(axes: Any, lines: Sequence[Polyline], colour: str, style: Any) -> None:
    gap = np.full((1, 2), np.nan)
    points = np.concatenate([part for line in lines for part in (np.asarray(line), gap)] or [gap])
    axes.plot(points[:, 0], points[:, 1], color=colour, linestyle=style, linewidth=1.6)


def _legend(figure: Any, width: float, height: float) -> None:
    from matplotlib.lines import Line2D

    for left, colour, style, words in (
        (_GAP_INCHES, REFERENCE_COLOUR, "solid", "reference"),
        (_GAP_INCHES + 1.6, PREDICTION_COLOUR, (0, (4, 3)), "prediction"),
    ):
        y = 0.21 / height
        figure.add_artist(Line2D([left / width, (left + 0.4) / width], [y, y], color=colour, linestyle=style, lw=2))
        figure.text((left + 0.5) / width, y, words, color=SOFT_INK, fontsize=11, va="center")
