"""Crop an image to its nonzero region, as nnU-Net v2 does before it measures or preprocesses a case."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1
"""Value in a label map of unlabelled voxels outside the nonzero region."""

BoundingBox = list[list[int]]
"""Half-open [[first, end], ...], one pair per axis."""


def bounding_box(mask: NDArray[np.bool_]) -> BoundingBox:
    """Smallest box around the true voxels; the whole array if there are none."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        box.append([int(occupied[0]), int(occupied[-1]) + 1] if occupied.size else [0, mask.shape[axis]])
    return box


def nonzero_box(image: NDArray[Any]) -> BoundingBox:
    """Smallest box around the voxels that are nonzero in any channel of `image` (c, z, y, x), as `crop_to_nonzero`."""
    return bounding_box(_any_nonzero(image))


def box_slices(box: BoundingBox) -> tuple[slice, ...]:
    """Index an array (z, y, x) with a bounding box."""
    return tuple(slice(first, end) for first, end in box)


def crop_to_nonzero(
    image: NDArray[np.float32], label_map: NDArray[Any] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int16], BoundingBox]:
    """Crop an image (c, z, y, x) and its label map (1, z, y, x) to the bounding box of the nonzero voxels.

    Returns a view of the image, a new int16 label map in which unlabelled voxels outside the filled nonzero region
    are -1 (without a label map, all others are 0), and the box. An image of zeros is kept whole.
    """
    mask = _any_nonzero(image)
    box = bounding_box(mask)
    inside = (slice(None), *box_slices(box))
    # what surrounds the box is connected to the border, so holes may be filled after cropping
    outside = ~_fill_holes(mask[box_slices(box)])[np.newaxis]
    if label_map is None:
        cropped = np.zeros(outside.shape, dtype=np.int16)
        cropped[outside] = OUTSIDE
    else:
        cropped = label_map[inside].astype(np.int16)
        cropped[outside & (cropped == 0)] = OUTSIDE
    return image[inside], cropped, box


def _any_nonzero(image: NDArray[Any]) -> NDArray[np.bool_]:
    mask = np.asarray(image[0] != 0)
    for channel in image[1:]:
        mask |= channel != 0
    return mask


def _fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes, which no face-connected path joins to the border; equal to `scipy.ndimage.binary_fill_holes`.

    One labelling of the background instead of a dilation repeated until nothing changes.
    """
    if mask.all() or 1 in mask.shape:
        return mask
    from scipy import ndimage

    components, count = ndimage.label(~mask)
    reached = np.zeros(count + 1, dtype=bool)
    for axis in range(mask.ndim):
        for end in (0, -1):
            reached[components.take(end, axis=axis)] = True
    if reached[1:].all():
        return mask
    reached[0] = False  # the mask itself
    return np.asarray(~reached[components])
