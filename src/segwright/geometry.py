"""Where the voxels of an image lie in space.

Arrays, shapes and spacings are ordered (z, y, x) everywhere in Segwright. Origin and direction describe the world frame
and keep the order of the image file's own library (SimpleITK: x, y, z), so that they are written back bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AXES = ("z", "y", "x")

# Cosines of rotated grids, and rounded origins: what is nearer than this, in voxels, is the same.
_COSINE_TOLERANCE = 1e-2
_VOXEL_TOLERANCE = 1e-2
# Directions that span less than this, of 1 where they are orthogonal, lie in one plane.
_LEAST_VOLUME = 1e-6


@dataclass(frozen=True)
class Geometry:
    """Spacing in mm as (z, y, x); origin in mm and direction cosines (row-major) in world order (x, y, z)."""

    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, ...] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def same_spacing(self, other: Geometry) -> bool:
        """Whether both grids have the same spacing, by nnU-Net's tolerance (`numpy.allclose`)."""
        return bool(np.allclose(self.spacing_mm, other.spacing_mm))

    def same_position(self, other: Geometry) -> bool:
        """Whether both grids have the same origin and direction, by nnU-Net's tolerance (`numpy.allclose`)."""
        if len(self.origin_mm) != len(other.origin_mm) or len(self.direction) != len(other.direction):
            return False
        return bool(np.allclose(self.origin_mm, other.origin_mm) and np.allclose(self.direction, other.direction))

    @property
    def affine(self) -> NDArray[np.float64]:
        """The matrix (4, 4) from voxel indices (z, y, x, 1) to mm (x, y, z, 1); a 2D image lies at z = 0 mm."""
        size = len(self.origin_mm)
        affine = np.eye(4)
        affine[:size, :size] = np.reshape(self.direction, (size, size))
        affine[:size, 3] = self.origin_mm
        affine[:3, :3] *= self.spacing_mm[::-1]
        return affine[:, [2, 1, 0, 3]]

    def onto(self, other: Geometry) -> NDArray[np.float64]:
        """The matrix (4, 4) from voxel indices (z, y, x, 1) to those of `other` at the same place.

        Raises:
            numpy.linalg.LinAlgError: the axes of `other` lie in one plane.
        """
        return np.asarray(np.linalg.solve(other.affine, self.affine), dtype=np.float64)

    def nearest_axes(self) -> tuple[tuple[int, bool], ...] | None:
        """For z, y, x: the nearest world axis (0 to 2 for x, y, z), and whether they run towards its high end.

        None for 2D images, and where two axes are nearest to one world axis.
        """
        if len(self.direction) != 9:
            return None
        direction = np.reshape(self.direction, (3, 3))[:, ::-1]
        worlds = np.abs(direction).argmax(axis=0).tolist()
        if sorted(worlds) != [0, 1, 2]:
            return None
        return tuple((world, bool(direction[world, axis] > 0)) for axis, world in enumerate(worlds))

    def position_in_words(self) -> str:
        """Origin and direction, rounded for a message."""
        origin = ", ".join(f"{value:.4g}" for value in self.origin_mm)
        direction = ", ".join(f"{value:.4g}" for value in self.direction)
        return f"origin ({origin}), direction ({direction})"


@dataclass(frozen=True)
class Displacement:
    """Where a grid's header puts it on another's grid, by `displacement`.

    `voxels` is how far its corners lie from the other's with the same indices, at most and along an axis. `shift` is
    (z, y, x) in voxels of the other grid and counts from its first voxel, or from its last along the `mirrored` axes.
    `is_turned` says that the axes are others, so that there is neither a shift nor a mirroring.
    """

    voxels: float
    shift: tuple[float, ...]
    mirrored: tuple[str, ...]
    is_turned: bool

    @property
    def text(self) -> str:
        """The displacement in words, such as "mirrored along x and shifted by 2 voxels along z", or ""."""
        if self.is_turned:
            return "turned"
        shifted = [
            f"{value:+.4g} voxel{'' if abs(round(value, 4)) == 1 else 's'} along {axis}"
            for axis, value in zip(AXES, self.shift, strict=True)
            if abs(value) > _VOXEL_TOLERANCE
        ]
        parts = [f"mirrored along {' and '.join(self.mirrored)}"] if self.mirrored else []
        parts += [f"shifted by {', '.join(shifted)}"] if shifted else []
        return " and ".join(parts)


def displacement(grid: Geometry, other: Geometry, shape: Sequence[int]) -> Displacement | None:
    """Compare two grids of `shape` (z, y, x): where `grid` lies on `other`; None where axes lie in one plane."""
    volumes = [abs(np.linalg.det(each.affine)) / np.prod(each.spacing_mm) for each in (grid, other)]
    if min(volumes) < _LEAST_VOLUME:
        return None
    onto = grid.onto(other)
    cosines = onto[:3, :3] * np.divide.outer(other.spacing_mm, grid.spacing_mm)
    signs = np.sign(np.diag(cosines))
    is_turned = bool(np.abs(cosines - np.diag(signs)).max() > _COSINE_TOLERANCE)
    shift = onto[:3, 3] - np.where(signs < 0, np.asarray(shape) - 1.0, 0.0)
    return Displacement(
        voxels=float(np.abs(corner_steps(onto, np.eye(4), shape)).max()),
        shift=(0.0, 0.0, 0.0) if is_turned else tuple(shift.tolist()),
        mirrored=() if is_turned else tuple(axis for axis, sign in zip(AXES, signs, strict=True) if sign < 0),
        is_turned=is_turned,
    )


def corner_steps(affine: NDArray[np.float64], other: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """Vectors (8, axes) between the places of each corner of a grid of `shape` by two affines (axes, 4)."""
    corners = np.stack(np.meshgrid(*((0, size - 1) for size in shape), 1, indexing="ij"), axis=-1).reshape(-1, 4)
    return np.asarray(corners @ (affine - other).T, dtype=np.float64)


def axis_codes(geometry: Geometry) -> str | None:
    """Where the file's x, y and z axes point to, one letter each, such as LPS; None where the header does not say.

    L, R, P, A, S, I: left, right, posterior, anterior, superior, inferior. Oblique axes have the nearest letter.
    """
    nearest = geometry.nearest_axes()
    return None if nearest is None else "".join(("RAI", "LPS")[towards][world] for world, towards in reversed(nearest))


def shape_at_spacing(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], target_spacing_mm: tuple[float, ...]
) -> tuple[int, ...]:
    """Shape in voxels, (z, y, x), that an image of `shape` and `spacing_mm` has at `target_spacing_mm`.

    Rounds half to even, as nnU-Net does.
    """
    if not len(shape) == len(spacing_mm) == len(target_spacing_mm):
        raise ValueError(f"Expected as many spacings as axes, got {shape}, {spacing_mm} and {target_spacing_mm}.")
    return tuple(round(old / new * size) for size, old, new in zip(shape, spacing_mm, target_spacing_mm, strict=True))
