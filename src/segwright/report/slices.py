"""Which slices of a case to show, and which way up a radiologist expects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.geometry import Geometry

ANISOTROPY_THRESHOLD = 3.0  # nnU-Net's: beyond it, cuts across the thick slices show steps instead of anatomy
MIN_VOXELS_FOR_A_VIEW = 12

_WORLD_EDGES = (("R", "L"), ("A", "P"), ("F", "H"))  # DICOM's letters at the low and high end of world x, y, z (LPS)
_PLANE_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class CaseImages:
    """A case to be shown: image (c, z, y, x), label maps (z, y, x), and whether its channels are red, green, blue.

    `oriented` says whether the direction in `geometry` is in the patient's frame of DICOM (LPS).
    """

    image: NDArray[np.float32]
    reference: NDArray[Any]
    prediction: NDArray[Any]
    geometry: Geometry
    is_rgb: bool = False
    oriented: bool = False
    channel_name: str = ""


@dataclass(frozen=True)
class Cut:
    """A plane through the volume: across `axis` at `index`, its rows and columns being axes of the array."""

    axis: int
    index: int
    rows: int
    columns: int
    flip_rows: bool = False
    flip_columns: bool = False
    plane: str = ""
    edges: tuple[str, str, str, str] | None = None


def choose_cuts(case: CaseImages) -> tuple[Cut, ...]:
    """The planes to show: the only one of a 2D image; of a volume three orthogonal ones, each where it holds most
    foreground; where the slices are thick, three parallel ones instead.
    """
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


def _cut(case: CaseImages, axis: int, index: int) -> Cut:
    rows, columns = (other for other in range(3) if other != axis)
    plain = Cut(axis=axis, index=index, rows=rows, columns=columns)
    worlds = case.geometry.nearest_axes() if case.oriented else None
    return plain if worlds is None else _oriented(plain, worlds)


def _oriented(cut: Cut, worlds: Sequence[tuple[int, bool]]) -> Cut:
    """Turn a cut as it is read at the light box: patient's right or front on the left, front or head up."""
    by_world = {world: axis for axis, (world, _) in enumerate(worlds) if axis != cut.axis}
    columns, rows = by_world[min(by_world)], by_world[max(by_world)]
    (column_world, column_up), (row_world, row_up) = worlds[columns], worlds[rows]
    head_up = row_world == 2
    low_left, high_right = _WORLD_EDGES[column_world]
    low, high = _WORLD_EDGES[row_world]
    return Cut(
        axis=cut.axis,
        index=cut.index,
        rows=rows,
        columns=columns,
        flip_rows=row_up == head_up,
        flip_columns=not column_up,
        plane=_PLANE_NAMES[worlds[cut.axis][0]],
        edges=(low_left, high, high_right, low) if head_up else (low_left, low, high_right, high),
    )


def plane_of(volume: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """Slice (rows, columns, ...) of a volume (z, y, x, ...)."""
    plane: NDArray[Any] = np.take(volume, cut.index, axis=cut.axis)
    if cut.rows > cut.columns:
        plane = np.swapaxes(plane, 0, 1)
    plane = plane[::-1] if cut.flip_rows else plane
    return plane[:, ::-1] if cut.flip_columns else plane
