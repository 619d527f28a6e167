"""Slices of a case as pictures, with the outlines of its reference and its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.report.content import View
from segwright.report.outline import outlines
from segwright.report.slices import CaseImages, Cut, choose_cuts, plane_of

SHORTER_SIDE_PIXELS = 320  # small slices are enlarged to about this, by whole factors
LONGER_SIDE_PIXELS = 1200  # and large ones reduced to at most this
DETAIL_OF_2D_FROM = 256  # a 2D image with sides of this many pixels is also shown in detail
DETAIL_SHARE = 3  # the detail has sides of a third
MARGIN_OF_DETAIL = 0.6  # of the extent of the labels, on each side
MIN_MARGIN_VOXELS = 16
DETAIL_BELOW = 0.5  # share of the slice under which it is cut down to the labels' surroundings
MAX_VOXELS_FOR_LIMITS = 4_000_000

_AXIS_NAMES = ("z", "y", "x")
_Window = tuple[slice, slice]


@dataclass(frozen=True)
class Plane:
    """A slice as it is shown: gray or RGB bytes and the two label maps, rows first."""

    shown: NDArray[np.uint8]
    reference: NDArray[Any]
    prediction: NDArray[Any]
    size_mm: tuple[float, float]
    cut: Cut
    words: str = ""


def case_views(case: CaseImages, *, case_id: str, dice_in_words: str) -> tuple[View, ...]:
    """Slices of a case with its outlines, as PNG and lines."""
    return tuple(
        View(
            png=_png(plane.shown),
            size_in_voxels=(plane.reference.shape[1], plane.reference.shape[0]),
            size_mm=plane.size_mm,
            caption=caption_of(plane, case),
            alt=_alt(plane, case, case_id, dice_in_words),
            reference_outline=outlines(plane.reference),
            predicted_outline=outlines(plane.prediction),
            edges=plane.cut.edges,
        )
        for plane in case_planes(case)
    )


def case_planes(case: CaseImages) -> tuple[Plane, ...]:
    """The slices to show, windowed, cut to what matters and no larger than a screen."""
    low, high = _intensity_limits(case)
    planes = []
    for cut in choose_cuts(case):
        reference, prediction = plane_of(case.reference, cut), plane_of(case.prediction, cut)
        intensities = plane_of(np.moveaxis(case.image[:3] if case.is_rgb else case.image[:1], 0, -1), cut)
        scaled = np.nan_to_num((intensities - low) / (high - low), nan=0.0)
        shown: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
        spacing = (case.geometry.spacing_mm[cut.rows], case.geometry.spacing_mm[cut.columns])
        for window, words in _windows(reference, prediction, is_2d=1 in case.reference.shape):
            step = -(-max(reference[window].shape) // LONGER_SIDE_PIXELS)
            height, width = reference[window].shape
            planes.append(
                Plane(
                    shown=_reduced(shown[window] if case.is_rgb else shown[window][..., 0], step),
                    reference=reference[window][::step, ::step],
                    prediction=prediction[window][::step, ::step],
                    size_mm=(width * spacing[1], height * spacing[0]),
                    cut=cut,
                    words=words,
                )
            )
    return tuple(planes)


def caption_of(plane: Plane, case: CaseImages) -> str:
    """What a slice is, such as "Axial, slice 15 of 38 along z"."""
    cut, parts = plane.cut, []
    count = case.reference.shape[cut.axis]
    if count > 1:
        place = f"slice {cut.index + 1} of {count} along {_AXIS_NAMES[cut.axis]}"
        parts.append(f"{cut.plane}, {place}" if cut.plane else place)
    if plane.words:
        parts.append(plane.words)
    if case.channel_name and not case.is_rgb and case.image.shape[0] > 1:
        parts.append(f"channel {case.channel_name}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def _alt(plane: Plane, case: CaseImages, case_id: str, dice_in_words: str) -> str:
    counts = [np.count_nonzero(label_slice) for label_slice in (plane.reference, plane.prediction)]
    areas = f"the reference covers {counts[0]} pixels and the prediction {counts[1]}"
    return f"Case {case_id}, {caption_of(plane, case)}. Outlines: {areas}. {dice_in_words}"


def _windows(reference: NDArray[Any], prediction: NDArray[Any], *, is_2d: bool) -> list[tuple[_Window, str]]:
    """Parts of a slice to show, with a word on each."""
    foreground = (reference > 0) | (prediction > 0)
    surroundings = _surroundings(foreground)
    if not is_2d:
        return [(surroundings, "detail") if surroundings != _whole(foreground) else (surroundings, "")]
    windows = [(_whole(foreground), "whole image")]
    if surroundings != _whole(foreground):
        windows.append((surroundings, "detail"))
    elif min(foreground.shape) >= DETAIL_OF_2D_FROM:
        windows.append((_where_most(reference != prediction), "detail where the two differ most"))
    return windows


def _whole(mask: NDArray[np.bool_]) -> _Window:
    return slice(0, mask.shape[0]), slice(0, mask.shape[1])


def _surroundings(foreground: NDArray[np.bool_]) -> _Window:
    """Rows and columns around the foreground where it is a small part of the slice, else everything."""
    if not foreground.any():
        return _whole(foreground)
    extent = max(int(np.ptp(places)) + 1 for places in foreground.nonzero())
    margin = max(MIN_MARGIN_VOXELS, round(MARGIN_OF_DETAIL * extent))
    spans = []
    for axis, size in enumerate(foreground.shape):
        places = np.flatnonzero(foreground.any(axis=1 - axis))
        spans.append(slice(max(0, int(places[0]) - margin), min(size, int(places[-1]) + 1 + margin)))
    area = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return (spans[0], spans[1]) if area < DETAIL_BELOW * foreground.size else _whole(foreground)


def _where_most(mask: NDArray[np.bool_]) -> _Window:
    """The window of a third of each side that holds most of a mask; of equal ones the most central."""
    height, width = (size // DETAIL_SHARE for size in mask.shape)
    sums = np.pad(mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    held = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    rows, columns = np.nonzero(held == held.max())
    distance = np.abs(rows - held.shape[0] / 2) + np.abs(columns - held.shape[1] / 2)
    nearest = int(np.argmin(distance))
    row, column = int(rows[nearest]), int(columns[nearest])
    return slice(row, row + height), slice(column, column + width)


def _intensity_limits(case: CaseImages) -> tuple[float, float]:
    """What is shown black and white: 0 and 255 of RGB in bytes, else the case's 0.5 and 99.5 percentile.

    The lowest value is left out of these: it mostly fills what lies outside the body.
    """
    used = (case.image[:3] if case.is_rgb else case.image[:1]).reshape(-1)
    used = used[:: max(1, used.size // MAX_VOXELS_FOR_LIMITS)]
    finite = used[np.isfinite(used)]
    if not finite.size:
        return 0.0, 1.0
    if case.is_rgb and finite.min() >= 0 and finite.max() <= 255:
        return 0.0, 255.0
    inside = finite[finite > finite.min()]
    low, high = (float(value) for value in np.percentile(inside if inside.size else finite, (0.5, 99.5)))
    return low, high if high > low else low + 1.0


def _reduced(shown: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Mean over blocks of `step` pixels; blocks that the border cuts take its last pixels again."""
    if step == 1:
        return shown
    missing = [(0, -size % step) for size in shown.shape[:2]]
    padded = np.pad(shown, [*missing, *[(0, 0)] * (shown.ndim - 2)], mode="edge")
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step, *shown.shape[2:])
    reduced: NDArray[np.uint8] = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return reduced


def _png(shown: NDArray[np.uint8]) -> bytes:
    """PNG of a slice; a small one is enlarged by a whole factor, so that its voxels stay sharp."""
    from imageio import v3 as imageio

    wanted = round(SHORTER_SIDE_PIXELS / min(shown.shape[:2]))
    factor = max(1, min(wanted, LONGER_SIDE_PIXELS // max(shown.shape[:2])))
    enlarged = shown.repeat(factor, axis=0).repeat(factor, axis=1)
    return bytes(imageio.imwrite("<bytes>", np.ascontiguousarray(enlarged), extension=".png"))
