"""Size of the cases of a data set, to limit how many are in memory at once."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

from segwright.dataset.cases import Case
from segwright.io.headers import num_voxels_claimed
from segwright.parallel import workers_for

_FILES_LOOKED_AT = 10
_WORKER_BYTES = 300 << 20
_BYTES_PER_VOXEL = 24
_BYTES_PER_VOXEL_AND_CHANNEL = 8


def largest_case_voxels(cases: Sequence[Case], num_channels: int) -> int:
    """Voxels of one channel of the largest case, by the headers of the largest files."""
    candidates = heapq.nlargest(_FILES_LOOKED_AT, cases, key=lambda case: _size(case.image_paths[0]))
    claimed = (
        num_voxels_claimed(case.image_paths[0]) // (num_channels if len(case.image_paths) == 1 else 1)
        for case in candidates
    )
    return max(claimed, default=0)


def workers_for_reading(cases: Sequence[Case], num_channels: int) -> int:
    """Number of workers that may read and measure cases at once: as many as cores and memory allow."""
    per_voxel = _BYTES_PER_VOXEL + _BYTES_PER_VOXEL_AND_CHANNEL * num_channels
    return workers_for(len(cases), _WORKER_BYTES + per_voxel * largest_case_voxels(cases, num_channels))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
