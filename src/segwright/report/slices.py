"""Which slices of a case to show, and how a radiologist expects to see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.geometry import Geometry
from segwright.report.content import View
from segwright.report.outline import outlines

ANISOTROPY_THRESHOLD = 3.0  # nnU-Net's: beyond it, cuts across the thick slices show steps instead of anatomy
MIN_VOXELS_FOR_A_VIEW = 12
SHORTER_SIDE_PIXELS = 320  # small images are enlarged to about this, by whole factors
MARGIN_OF_DETAIL = 0.6  # of the extent of the labels, on each side
MIN_MARGIN_VOXELS = 16
DETAIL_BELOW = 0.5  # share of the slice under which it is cut down to the labels' surroundings

_WORLD_EDGES = (("R", "L"), ("A", "P"), ("F", "H"))  # DICOM's letters at the low and high end of world x, y, z (LPS)
_PLANE_NAMES = ("sagittal", "coronal", "axial")
_AXIS_NAMES = ("z", "y", "x")


@dataclass(frozen=True)
class CaseImages:
    """A case to be shown: image (c, z, y, x), label maps (z, y, x), and whether its channels are red, green, blue.

    `oriented` tells that the direction in `geometry` is in the patient's frame of DICOM (LPS).
    """

    image: NDArray[np.float32]
    reference: NDArray[Any]
    prediction: NDArray[Any]
    geometry: Geometry
    is_rgb: bool = False
    oriented: bool = False
    channel_name: str = ""


@dataclass(frozen=True)
class _Cut:
    """A plane through the volume: across `axis` at `index`, its rows and columns being axes of the array."""

    axis: int
    index: int
    rows: int
    columns: int
    flip_rows: bool = False
    flip_columns: bool = False
    plane: str = ""
    edges: tuple[str, str, str, str] | None = None


def case_views(case: CaseImages, *, case_id: str, dice_in_words: str) -> tuple[View, ...]:
    """Slices of a case with its outlines.

    A 2D image is one view. A volume is cut in three orthogonal planes, each where it holds most foreground; where its
    slices are thick, three parallel slices are shown instead.
    """
    return tuple(_view(case, cut, case_id, dice_in_words) for cut in _choose_cuts(case))


def _choose_cuts(case: CaseImages) -> tuple[_Cut, ...]:
    shape = case.reference.shape
    foreground = (case.reference > 0) | (case.prediction > 0)
    if 1 in shape:
        return (_cut(case, shape.index(1), 0),)
    spacing = case.geometry.spacing_mm
    thick_axis = int(np.argmax(spacing))
    if max(spacing) / min(spacing) > ANISOTROPY_THRESHOLD:
        return tuple(_cut(case, thick_axis, index) for index in _spread_indices(foreground, thick_axis))
    axes = [
        axis for axis in range(3) if min(shape[other] for other in range(3) if other != axis) >= MIN_VOXELS_FOR_A_VIEW
    ]
    return tuple(_cut(case, axis, _fullest_index(foreground, axis)) for axis in axes or [0])


def _area_along(foreground: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(foreground.sum(axis=others), dtype=np.int64)


def _fullest_index(foreground: NDArray[np.bool_], axis: int) -> int:
    """Slice with most foreground; the middle one where there is none."""
    areas = _area_along(foreground, axis)
    return int(np.argmax(areas)) if areas.any() else len(areas) // 2


def _spread_indices(foreground: NDArray[np.bool_], axis: int) -> list[int]:
    """Up to three slices: at a fifth, at the half and at four fifths of the extent of the foreground."""
    filled = np.flatnonzero(_area_along(foreground, axis))
    if not len(filled):
        return [foreground.shape[axis] // 2]
    positions = {round(float(fraction) * (len(filled) - 1)) for fraction in (0.2, 0.5, 0.8)}
    return [int(filled[position]) for position in sorted(positions)]


def _cut(case: CaseImages, axis: int, index: int) -> _Cut:
    rows, columns = (other for other in range(3) if other != axis)
    plain = _Cut(axis=axis, index=index, rows=rows, columns=columns)
    worlds = _world_axes(case)
    return plain if worlds is None else _oriented(plain, worlds)


def _world_axes(case: CaseImages) -> dict[int, tuple[int, bool]] | None:
    """For each array axis the world axis (x, y, z) that it runs along and whether it runs towards the high end."""
    if not case.oriented or len(case.geometry.direction) != 9:
        return None
    direction = np.asarray(case.geometry.direction, dtype=float).reshape(3, 3)
    found: dict[int, tuple[int, bool]] = {}
    for axis in range(3):
        column = direction[:, 2 - axis]
        world = int(np.argmax(np.abs(column)))
        found[axis] = (world, bool(column[world] > 0))
    return found if len({world for world, _ in found.values()}) == 3 else None


def _oriented(cut: _Cut, worlds: Mapping[int, tuple[int, bool]]) -> _Cut:
    """Turn a cut as it is read at the light box: patient's right or front on the left, front or head up."""
    by_world = {world: axis for axis, (world, _) in worlds.items() if axis != cut.axis}
    columns, rows = by_world[min(by_world)], by_world[max(by_world)]
    (column_world, column_up), (row_world, row_up) = worlds[columns], worlds[rows]
    head_up = row_world == 2
    low_left, high_right = _WORLD_EDGES[column_world]
    low, high = _WORLD_EDGES[row_world]
    return _Cut(
        axis=cut.axis,
        index=cut.index,
        rows=rows,
        columns=columns,
        flip_rows=row_up == head_up,
        flip_columns=not column_up,
        plane=_PLANE_NAMES[worlds[cut.axis][0]],
        edges=(low_left, high, high_right, low) if head_up else (low_left, low, high_right, high),
    )


def _plane_of(volume: NDArray[Any], cut: _Cut) -> NDArray[Any]:
    """Slice (rows, columns, ...) of a volume (z, y, x, ...)."""
    plane: NDArray[Any] = np.take(volume, cut.index, axis=cut.axis)
    if cut.rows > cut.columns:
        plane = np.swapaxes(plane, 0, 1)
    plane = plane[::-1] if cut.flip_rows else plane
    return plane[:, ::-1] if cut.flip_columns else plane


def _view(case: CaseImages, cut: _Cut, case_id: str, dice_in_words: str) -> View:
    reference, prediction = _plane_of(case.reference, cut), _plane_of(case.prediction, cut)
    gray_or_rgb = _plane_of(np.moveaxis(case.image if case.is_rgb else case.image[:1], 0, -1), cut)
    window = _window_of_detail((reference > 0) | (prediction > 0))
    reference, prediction = reference[window], prediction[window]
    shown = _to_bytes(gray_or_rgb[window], case)
    height, width = reference.shape
    spacing = case.geometry.spacing_mm
    return View(
        png=_enlarged_png(shown),
        size_in_voxels=(width, height),
        size_mm=(width * spacing[cut.columns], height * spacing[cut.rows]),
        caption=_caption(case, cut, is_detail=(height, width) != gray_or_rgb.shape[:2]),
        alt=_alt(case, cut, case_id, reference, prediction, dice_in_words),
        reference_outline=outlines(reference),
        predicted_outline=outlines(prediction),
        edges=cut.edges,
    )


def _caption(case: CaseImages, cut: _Cut, *, is_detail: bool) -> str:
    parts = []
    count = case.reference.shape[cut.axis]
    if count > 1:
        place = f"slice {cut.index + 1} of {count} along {_AXIS_NAMES[cut.axis]}"
        parts.append(f"{cut.plane}, {place}" if cut.plane else place)
    if is_detail:
        parts.append("detail")
    if case.channel_name and not case.is_rgb and case.image.shape[0] > 1:
        parts.append(f"channel {case.channel_name}")
    text = ", ".join(parts) or "whole image"
    return text[0].upper() + text[1:]


def _alt(
    case: CaseImages, cut: _Cut, case_id: str, reference: NDArray[Any], prediction: NDArray[Any], dice_in_words: str
) -> str:
    plane = f"{cut.plane} slice" if cut.plane else ("slice" if case.reference.shape[cut.axis] > 1 else "image")
    areas = (
        f"the reference covers {np.count_nonzero(reference)} pixels and the prediction {np.count_nonzero(prediction)}"
    )
    return f"Case {case_id}, {plane} with outlines: {areas}. {dice_in_words}"


def _window_of_detail(foreground: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns to show: the surroundings of the foreground where it is a small part, else everything."""
    whole = (slice(0, foreground.shape[0]), slice(0, foreground.shape[1]))
    if not foreground.any():
        return whole
    spans = []
    margin = max(
        MIN_MARGIN_VOXELS, round(MARGIN_OF_DETAIL * max(np.ptp(places) + 1 for places in foreground.nonzero()))
    )
    for axis, size in enumerate(foreground.shape):
        places = np.flatnonzero(foreground.any(axis=1 - axis))
        spans.append(slice(max(0, int(places[0]) - margin), min(size, int(places[-1]) + 1 + margin)))
    area = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return (spans[0], spans[1]) if area < DETAIL_BELOW * foreground.size else whole


def _to_bytes(plane: NDArray[np.float32], case: CaseImages) -> NDArray[np.uint8]:
    """Bytes (rows, columns[, 3]); RGB in 0..255 stays, other intensities are windowed to the case's 0.5 to 99.5 %."""
    used = case.image[:3] if case.is_rgb else case.image[:1]
    finite = used[np.isfinite(used)]
    low, high = (0.0, 255.0) if case.is_rgb else (0.0, 1.0)
    if finite.size and not (case.is_rgb and finite.min() >= 0 and finite.max() <= 255):
        low, high = (float(value) for value in np.percentile(finite, (0.5, 99.5)))
    scaled = np.nan_to_num((plane[..., :3] - low) / (high - low if high > low else 1.0), nan=0.0)
    shown: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return shown if case.is_rgb else shown[..., 0]


def _enlarged_png(shown: NDArray[np.uint8]) -> bytes:
    """PNG of a slice; a small one is enlarged by a whole factor, so that its voxels stay sharp."""
    import imageio.v3 as imageio

    factor = max(1, round(SHORTER_SIDE_PIXELS / min(shown.shape[:2])))
    factor = min(factor, max(1, 1200 // max(shown.shape[:2])))
    enlarged = shown.repeat(factor, axis=0).repeat(factor, axis=1)
    return bytes(imageio.imwrite("<bytes>", np.ascontiguousarray(enlarged), extension=".png"))
