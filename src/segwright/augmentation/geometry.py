"""How large a crop the training augmentation needs, how far it rotates and which axes it mirrors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segwright.errors import PlanError, message

DUMMY_2D_ANISOTROPY = 3.0
"""A 3D patch whose longest edge exceeds its first one by more than this is rotated and scaled in-plane only."""

ELONGATED_2D_RATIO = 1.5
"""A 2D patch more elongated than this is rotated by a few degrees only."""

MINIMUM_SCALE = 0.85
"""The shrinking that the enlarged crop allows for: nnU-Net v2's constant, wider than its scaling range needs."""


@dataclass(frozen=True)
class AugmentationGeometry:
    """What follows from the patch size alone; axes are (z, y, x), or (y, x) for 2D patches."""

    patch_size: tuple[int, ...]
    initial_patch_size: tuple[int, ...]
    """Edge lengths of the crop that the patch is sampled from."""
    rotation_degrees: tuple[tuple[float, float], ...]
    """(lowest, highest) angle about each of the three axes in turn; one range where the rotation is in-plane."""
    dummy_2d: bool
    """The slices of a 3D patch are rotated and scaled in-plane, all alike, and never across the first axis."""
    mirror_axes: tuple[int, ...]


def geometry_for(patch_size: Sequence[int]) -> AugmentationGeometry:
    """Derive nnU-Net v2's augmentation geometry from a patch size of 2 or 3 axes.

    Raises:
        PlanError: the patch has another number of axes, or an edge below 1.
    """
    patch = tuple(int(edge) for edge in patch_size)
    if len(patch) not in (2, 3) or min(patch) < 1:
        raise PlanError(
            message(
                "key 'patch_size'",
                expected="2 or 3 whole numbers of at least 1",
                got=list(patch_size),
                remedy="Write the patch as [z, y, x], or [y, x] for a 2d configuration.",
            )
        )
    dummy_2d = len(patch) == 3 and max(patch) / patch[0] > DUMMY_2D_ANISOTROPY
    limit = _rotation_limit_degrees(patch, dummy_2d)
    initial = initial_patch_size(patch, limit_degrees=limit, minimum_scale=MINIMUM_SCALE, dummy_2d=dummy_2d)
    num_rotation_axes = 1 if len(patch) == 2 or dummy_2d else 3
    return AugmentationGeometry(
        patch_size=patch,
        initial_patch_size=initial,
        rotation_degrees=((-limit, limit),) * num_rotation_axes,
        dummy_2d=dummy_2d,
        mirror_axes=tuple(range(len(patch))),
    )


def _rotation_limit_degrees(patch: tuple[int, ...], dummy_2d: bool) -> float:
    if len(patch) == 2:
        return 15.0 if max(patch) / min(patch) > ELONGATED_2D_RATIO else 180.0
    return 180.0 if dummy_2d else 30.0


def initial_patch_size(
    patch_size: tuple[int, ...], *, limit_degrees: float, minimum_scale: float, dummy_2d: bool
) -> tuple[int, ...]:
    """Return the edges of the crop that holds the patch's corner rotated about each axis, then shrunk.

    The rule is nnU-Net v2's: the corner vector is turned by the limit (at most 90 degrees) about one axis at a time,
    the largest extents are divided by the smallest scale and cut to whole voxels.
    """
    angle = math.radians(min(90.0, abs(limit_degrees)))
    cosine, sine = math.cos(angle), math.sin(angle)
    extents = [float(edge) for edge in patch_size]
    # a row vector times a rotation: one of the two edges of the plane gains, the other loses, by the turn's sense
    for gaining, losing in ((1, 0),) if len(patch_size) == 2 else ((2, 1), (0, 2), (1, 0)):
        first, second = patch_size[losing], patch_size[gaining]
        extents[losing] = max(extents[losing], abs(cosine * first + sine * second))
        extents[gaining] = max(extents[gaining], abs(cosine * second - sine * first))
    initial = [int(extent / minimum_scale) for extent in extents]
    if dummy_2d:
        initial[0] = patch_size[0]
    return tuple(initial)
