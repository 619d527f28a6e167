"""Where each class lies in a preprocessed label map, for samplers that want foreground (nnU-Net v2.8, same voxels)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segwright.cropping import OUTSIDE
from segwright.labels import LabelOrRegion, Labels

_SEED = 1234
_MIN_SAMPLES = 10_000
_MIN_SHARE = 0.01

ClassLocations = dict[LabelOrRegion, "NDArray[np.int32] | list[int]"]
"""Maps a label, or a region as a tuple, to voxels (n, 4) with a leading 0; to an empty list where it is absent."""


def annotated_key(labels: Labels) -> tuple[int, ...]:
    """Key of the entry with voxels of any label but the ignore label; there is one only with an ignore label."""
    return (OUTSIDE, *labels.all_labels)


def sample_class_locations(label_map: NDArray[np.integer], labels: Labels) -> ClassLocations:
    """Draw at most 10,000 voxels of each class in `label_map` (1, z, y, x), or 1 % of them if that is more."""
    wanted: list[LabelOrRegion] = list(labels.classes)
    if labels.ignore_label is not None:
        wanted.append(annotated_key(labels))
    flat = np.ascontiguousarray(label_map).reshape(-1)
    blocks = _voxels_by_label(flat, sorted({value for key in wanted for value in _values(key)}))
    random = np.random.RandomState(_SEED)
    return {key: _draw([blocks[value] for value in _values(key)], label_map.shape, random) for key in wanted}


def _values(key: LabelOrRegion) -> tuple[int, ...]:
    return key if isinstance(key, tuple) else (key,)


def _voxels_by_label(flat: NDArray[np.integer], values: list[int]) -> dict[int, NDArray[np.int64]]:
    """Flat indices of each label in ascending order; `values` are ascending."""
    chosen = np.flatnonzero((flat >= values[0]) & (flat <= values[-1]))
    found = flat[chosen]
    order = np.argsort(found, kind="stable")
    ordered = found[order]
    return {
        value: chosen[order[np.searchsorted(ordered, value) : np.searchsorted(ordered, value, side="right")]]
        for value in values
    }


def _draw(
    blocks: list[NDArray[np.int64]], shape: tuple[int, ...], random: np.random.RandomState
) -> NDArray[np.int32] | list[int]:
    voxels = np.concatenate(blocks)
    if voxels.size == 0:
        return []
    count = max(min(_MIN_SAMPLES, voxels.size), int(np.ceil(voxels.size * _MIN_SHARE)))
    drawn = voxels[random.choice(voxels.size, count, replace=False)]
    return np.stack(np.unravel_index(drawn, shape), axis=1).astype(np.int32)
