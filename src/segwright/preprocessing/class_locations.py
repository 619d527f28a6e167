"""Where the voxels of each class are, for patches that must hold foreground (nnU-Net v2.8, `class_locations`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.labels import LabelOrRegion, Labels

SEED = 1234
MIN_SAMPLES = 10_000
MIN_SHARE = 0.01

ClassLocations = dict[LabelOrRegion, Any]
"""For each class an (n, 4) array of voxels (0, z, y, x), or an empty list where the class is absent."""


def classes_to_locate(labels: Labels) -> tuple[LabelOrRegion, ...]:
    """The scored classes, and with an ignore label all annotated voxels, as the tuple (-1, 0, 1, ...)."""
    annotated = () if labels.ignore_label is None else ((-1, *labels.all_labels),)
    return (*labels.classes, *annotated)


def sample_class_locations(seg: NDArray[np.integer[Any]], classes: Sequence[LabelOrRegion]) -> ClassLocations:
    """Draw voxels of each class from a label map (1, z, y, x): 10,000, or 1 % if that is more, or all there are.

    The same voxels in the same order as nnU-Net 2.8.1 draws.
    """
    rng = np.random.RandomState(SEED)
    wanted = sorted({value for entry in classes for value in _values(entry)})
    positions = np.flatnonzero(np.isin(seg, wanted))
    found = seg.ravel()[positions]
    order = np.argsort(found, kind="stable")
    positions, found = positions[order], found[order]
    locations: ClassLocations = {}
    for entry in classes:
        ranges = [np.searchsorted(found, [value, value + 1]) for value in _values(entry)]
        members = np.concatenate([positions[start:end] for start, end in ranges])
        if len(members) == 0:
            locations[entry] = []
            continue
        number = max(min(MIN_SAMPLES, len(members)), math.ceil(len(members) * MIN_SHARE))
        drawn = members[rng.choice(len(members), number, replace=False)]
        locations[entry] = np.stack(np.unravel_index(drawn, seg.shape), axis=1).astype(np.int32)
    return locations


def _values(entry: LabelOrRegion) -> tuple[int, ...]:
    return entry if isinstance(entry, tuple) else (entry,)
