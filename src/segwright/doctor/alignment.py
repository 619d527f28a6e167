"""How two voxel grids of one shape lie to each other, by what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segwright.geometry import Geometry

_AXES = ("z", "y", "x")
# Cosines of rotated grids and rounded origins: what is nearer than this is the same.
_COSINE_TOLERANCE = 1e-2
_VOXEL_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Displacement:
    """Where a grid's header puts it on another's grid.

    `shift` is (z, y, x) in voxels of the other grid and counts from its first voxel, or from its last along the
    `mirrored` axes. `is_turned` tells that the axes are others, so that there is neither a shift nor a mirroring.
    """

    shift: tuple[float, float, float]
    mirrored: tuple[str, ...]
    is_turned: bool

    @property
    def text(self) -> str:
        """The displacement in words, such as "mirrored along x and shifted by 2 voxels along z", or ""."""
        if self.is_turned:
            return "turned"
        shifted = [
            f"{value:+.4g} voxel{'' if abs(round(value, 4)) == 1 else 's'} along {axis}"
            for axis, value in zip(_AXES, self.shift, strict=True)
            if abs(value) > _VOXEL_TOLERANCE
        ]
        parts = [f"mirrored along {' and '.join(self.mirrored)}"] if self.mirrored else []
        parts += [f"shifted by {', '.join(shifted)}"] if shifted else []
        return " and ".join(parts)


def displacement(grid: Geometry, other: Geometry, shape: Sequence[int]) -> Displacement | None:
    """Say where the header of `grid`, of `shape` (z, y, x), puts it on `other`; None where a header has no position.

    Spacings are taken to be those of `other`.
    """
    if len(grid.origin_mm) != 3 or len(other.origin_mm) != 3:
        return None
    axes, reference = (np.asarray(each.direction).reshape(3, 3) for each in (grid, other))
    spacing = np.asarray(other.spacing_mm[::-1])
    if min(abs(np.linalg.det(axes)), abs(np.linalg.det(reference))) < 0.5:
        return None
    inverse = np.linalg.inv(reference)
    turn = inverse @ axes
    signs = np.sign(np.diag(turn))
    if np.abs(turn - np.diag(signs)).max() > _COSINE_TOLERANCE:
        return Displacement((0.0, 0.0, 0.0), (), is_turned=True)
    first = inverse @ (np.asarray(grid.origin_mm) - np.asarray(other.origin_mm)) / spacing
    last = np.where(signs < 0, np.asarray(shape[::-1]) - 1.0, 0.0)
    shift = tuple(float(value) for value in (first - last)[::-1])
    mirrored = tuple(axis for axis, sign in zip(_AXES, signs[::-1], strict=True) if sign < 0)
    return Displacement((shift[0], shift[1], shift[2]), mirrored, is_turned=False)


def axis_codes(geometry: Geometry) -> str | None:
    """Where the file's x, y and z axes point to, one letter each, such as LPS; None where the header does not say.

    L, R, P, A, S, I: left, right, posterior, anterior, superior, inferior. Oblique axes have the nearest letter.
    """
    if len(geometry.direction) != 9:
        return None
    direction = np.asarray(geometry.direction).reshape(3, 3)
    nearest = np.abs(direction).argmax(axis=0)
    if sorted(nearest.tolist()) != [0, 1, 2]:
        return None
    return "".join(("RAI", "LPS")[int(direction[world, axis] > 0)][world] for axis, world in enumerate(nearest))
