"""Label maps for the deeper outputs of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.augmentation.intensity import nearest_exact_indices


def downsample_labels(seg: NDArray[Any], scales: Sequence[float | Sequence[float]]) -> list[NDArray[Any]]:
    """Shrink targets (k, ...) to each scale (one number, or one per axis) by the nearest voxel centre.

    A scale of 1 on all axes returns `seg` itself. The rule is torch's `interpolate(mode="nearest-exact")`.
    """
    return [_downsampled(seg, scale) for scale in scales]


def _downsampled(seg: NDArray[Any], scale: float | Sequence[float]) -> NDArray[Any]:
    shape = seg.shape[1:]
    per_axis = tuple(scale) if isinstance(scale, Sequence) else (scale,) * len(shape)
    if all(factor == 1 for factor in per_axis):
        return seg
    sizes = [round(edge * factor) for edge, factor in zip(shape, per_axis, strict=True)]
    indices = [nearest_exact_indices(edge, size) for edge, size in zip(shape, sizes, strict=True)]
    return seg[np.ix_(np.arange(seg.shape[0]), *indices)]
