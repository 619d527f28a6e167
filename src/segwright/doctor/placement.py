"""Bring a label map onto its image's voxel grid, by what their headers say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import GeometryError
from segwright.geometry import Geometry, displacement
from segwright.io import Image

# Nearest-neighbour sampling of a grid that is displaced by less than this gives the same voxels back.
_HALF_A_VOXEL = 0.5
# Less of what is labelled inside the image means that the header is wrong, not that the edge was cut.
LEAST_SHARE_INSIDE = 0.9
_MAX_SAMPLES = 1_000_000


def place_on_image(labels: Image, image: Image) -> tuple[NDArray[np.float32], str | None]:
    """Give the label map (z, y, x) on the grid of `image`, and what was done in words, None where it was there.

    With the image's shape and another spacing, with a header that says nothing, or less than half a voxel apart, the
    voxels stay and the header is taken for wrong. Else the header is believed, and the label map is sampled at the
    image's voxels, the nearest each.

    Raises:
        GeometryError: nothing says where the label map lies, or it lies beside the image.
    """
    label_map, shape = labels.array[0], image.array.shape[1:]
    if label_map.shape == shape:
        header = _harmless_difference(labels.geometry, image.geometry, shape)
        if header is not None:
            return label_map, header or None
    elif not (_has_position(labels) and _has_position(image)):
        raise GeometryError(
            f"its shape (z, y, x) is {label_map.shape}, the image's is {shape}, and no header says where it lies"
        )
    return _sample(label_map, labels.geometry, image.geometry, shape)


def share_inside(label_map: NDArray[Any], own: Geometry, wanted: Geometry, shape: tuple[int, ...]) -> float:
    """Share of the foreground, or of all voxels where there is none, that by its header lies within the image."""
    places = np.flatnonzero(label_map) if label_map.any() else np.arange(label_map.size)
    places = places[:: max(1, places.size // _MAX_SAMPLES)]
    matrix, offset = np.split(own.onto(wanted)[:3], [3], axis=1)
    indices = matrix @ np.array(np.unravel_index(places, label_map.shape)) + offset
    inside = (indices > -_HALF_A_VOXEL) & (indices < np.array(shape)[:, None] - _HALF_A_VOXEL)
    return float(inside.all(axis=0).mean())


def _harmless_difference(own: Geometry, wanted: Geometry, shape: tuple[int, ...]) -> str | None:
    """What is done to a header that is wrong, "" where none is, or None where the header is to be believed."""
    if not own.same_spacing(wanted):
        spacings = [" x ".join(f"{value:.6g}" for value in each.spacing_mm) for each in (own, wanted)]
        return f"header: spacing {spacings[0]} mm (z, y, x) set to the image's, {spacings[1]}; no voxel was changed"
    if own.same_position(wanted):
        return ""
    if _says_nothing(own):
        return "header: it had no position and was given the image's; no voxel was changed"
    found = displacement(own, wanted, shape)
    if found is not None and found.voxels < _HALF_A_VOXEL:
        return f"header: position set to the image's, at most {found.voxels:.2g} voxels away; no voxel was changed"
    return None


def _sample(
    label_map: NDArray[np.float32], own: Geometry, wanted: Geometry, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], str]:
    from scipy.ndimage import affine_transform

    share = share_inside(label_map, own, wanted, shape)
    if share < LEAST_SHARE_INSIDE:
        raise GeometryError(
            f"by the headers {share:.0%} of what is labelled lies in the image: the header of one of them is wrong"
        )
    # Of SciPy's modes only this one has the outer half of the voxels at the edge.
    placed = np.asarray(
        affine_transform(label_map, wanted.onto(own), output_shape=shape, order=0, mode="grid-constant")
    )
    text = f"voxels: sampled anew where the header puts them, from shape {label_map.shape} (z, y, x) to {shape}"
    if share < 1:
        text += f"; {1 - share:.2%} of what was labelled lies outside the image"
    lost = sorted(set(np.unique(label_map).tolist()) - set(np.unique(placed).tolist()))
    if lost:
        text += f"; no voxel was left of {', '.join(f'{value:g}' for value in lost)}"
    return placed, text


def _says_nothing(geometry: Geometry) -> bool:
    """Whether a header has the position that is written where none is known, but for the signs of the axes."""
    size = len(geometry.origin_mm)
    return bool(
        np.allclose(geometry.origin_mm, 0) and np.allclose(np.abs(geometry.direction), np.eye(size).ravel(), atol=1e-6)
    )


def _has_position(image: Image) -> bool:
    return any(key in image.properties for key in ("sitk_stuff", "nibabel_stuff"))
