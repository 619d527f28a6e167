"""The number of pooling steps along each axis of a patch, and the resulting strides and kernels (nnU-Net v2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MIN_FEATURE_MAP_EDGE = 4
# an axis is treated like the finest one while it is less than this many times as coarse
SIMILAR_SPACING = 2

StopReason = Literal["too short", "alone and too short", "too coarse"]


@dataclass(frozen=True)
class AxisStop:
    """Where the pooling of one axis ended and why: the edge of the deepest feature map and its spacing in mm.

    `too short`: another pooling step would leave an edge below 4. `alone and too short`: no other axis could be pooled
    with it, which takes an edge of 12. `too coarse`: at least 2 times as coarse as an axis that could still be pooled.
    """

    edge: int
    spacing_mm: float
    reason: StopReason


@dataclass(frozen=True)
class Topology:
    """Shape of a U-Net for a patch. One entry a stage in `strides` and `kernel_sizes`, the first stride being 1.

    `patch_size` is padded up to a multiple of `divisor`, 2 to the power of the number of pooling steps.
    """

    patch_size: tuple[int, ...]
    num_pool_per_axis: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    stops: tuple[AxisStop, ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each edge of the patch is divisible by."""
        return tuple(2**pools for pools in self.num_pool_per_axis)

    @property
    def num_stages(self) -> int:
        """Resolutions of the network, the full one included."""
        return len(self.strides)


def choose_topology(spacing_mm: Sequence[float], size: Sequence[float]) -> Topology:
    """Halve the axes of a patch while they are long enough, the finest first, and pad the patch to fit.

    `size` may end in .5, as median shapes do; the padding rounds it up.
    """
    dims = len(spacing_mm)
    spacing, edges = [float(value) for value in spacing_mm], list(size)
    pools, kernel = [0] * dims, [1] * dims
    strides, kernels = [(1,) * dims], []
    axes = _axes_to_halve(spacing, edges)
    while axes:
        finest = min(spacing)
        kernel = [3 if k == 3 or s / finest < SIMILAR_SPACING else 1 for k, s in zip(kernel, spacing, strict=True)]
        for axis in axes:
            pools[axis] += 1
            spacing[axis] *= 2
            edges[axis] = math.ceil(edges[axis] / 2)
        strides.append(tuple(2 if axis in axes else 1 for axis in range(dims)))
        kernels.append(tuple(kernel))
        axes = _axes_to_halve(spacing, edges)
    kernels.append((3,) * dims)
    return Topology(
        patch_size=tuple(_pad(edge, 2**pool) for edge, pool in zip(size, pools, strict=True)),
        num_pool_per_axis=tuple(pools),
        strides=tuple(strides),
        kernel_sizes=tuple(kernels),
        stops=_stops(spacing, edges),
    )


def _axes_to_halve(spacing: Sequence[float], edges: Sequence[float]) -> list[int]:
    axes = _similar(spacing, _long_enough(edges))
    if len(axes) == 1 and edges[axes[0]] < 3 * MIN_FEATURE_MAP_EDGE:
        return []
    return axes


def _long_enough(edges: Sequence[float]) -> list[int]:
    return [axis for axis, edge in enumerate(edges) if edge >= 2 * MIN_FEATURE_MAP_EDGE]


def _similar(spacing: Sequence[float], axes: Sequence[int]) -> list[int]:
    finest = min((spacing[axis] for axis in axes), default=math.inf)
    return [axis for axis in axes if spacing[axis] / finest < SIMILAR_SPACING]


def _stops(spacing: Sequence[float], edges: Sequence[float]) -> tuple[AxisStop, ...]:
    long_enough = _long_enough(edges)
    similar = _similar(spacing, long_enough)

    def reason(axis: int) -> StopReason:
        if axis not in long_enough:
            return "too short"
        return "alone and too short" if axis in similar else "too coarse"

    return tuple(
        AxisStop(edge=math.ceil(edge), spacing_mm=spacing[axis], reason=reason(axis)) for axis, edge in enumerate(edges)
    )


def _pad(edge: float, divisor: int) -> int:
    return int(math.ceil(edge / divisor) * divisor)
