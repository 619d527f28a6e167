"""Where the voxels of an image lie in space.

Arrays, shapes and spacings are ordered (z, y, x) everywhere in Segwright. Origin and direction describe the world frame
and keep the order of the image file's own library (SimpleITK: x, y, z), so that they are written back bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    def position_in_words(self) -> str:
        """Origin and direction, rounded for a message."""
        origin = ", ".join(f"{value:.4g}" for value in self.origin_mm)
        direction = ", ".join(f"{value:.4g}" for value in self.direction)
        return f"origin ({origin}), direction ({direction})"


def shape_at_spacing(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], target_spacing_mm: tuple[float, ...]
) -> tuple[int, ...]:
    """Shape in voxels, (z, y, x), that an image of `shape` and `spacing_mm` has at `target_spacing_mm`.

    Rounds half to even, as nnU-Net does.
    """
    if not len(shape) == len(spacing_mm) == len(target_spacing_mm):
        raise ValueError(f"Expected as many spacings as axes, got {shape}, {spacing_mm} and {target_spacing_mm}.")
    return tuple(round(old / new * size) for size, old, new in zip(shape, spacing_mm, target_spacing_mm, strict=True))
