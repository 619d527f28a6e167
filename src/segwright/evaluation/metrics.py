"""Overlap of a predicted with a reference label map: every label and region from one joint histogram (nnU-Net v2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import DatasetError, message
from segwright.labels import LabelOrRegion, Labels

_VOXELS_AT_ONCE = 1 << 21  # bounds the memory for the indices of a large scan
METRIC_NAMES = ("Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref")
Metrics = dict[str, float]


def compare_label_maps(
    prediction: NDArray[Any], reference: NDArray[Any], labels: Labels, *, where: str = "label maps"
) -> dict[LabelOrRegion, Metrics]:
    """Score a prediction against a reference of the same shape, for each of `labels.classes`.

    Dice = 2 TP / (2 TP + FP + FN) and IoU = TP / (TP + FP + FN), both NaN where the class is in neither map; counts are
    voxels. Voxels with the ignore label in the reference are not counted. As nnU-Net v2's `compute_metrics`.

    Raises:
        DatasetError: a map holds a value that is not declared.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"Expected label maps of one shape, got {prediction.shape} and {reference.shape}.")
    joint = joint_histogram(prediction, reference, labels, where=where)
    return {value: _metrics_of(joint, _members(value, labels)) for value in labels.classes}


def joint_histogram(
    prediction: NDArray[Any], reference: NDArray[Any], labels: Labels, *, where: str = "label maps"
) -> NDArray[np.int64]:
    """Count voxels by (reference label, predicted label), both axes in the order of `labels.all_labels`.

    Voxels with the ignore label in the reference are left out.

    Raises:
        DatasetError: a map holds a value that is not declared, or the prediction holds the ignore label.
    """
    num_labels = len(labels.all_labels)
    size = num_labels + 2
    counts = np.zeros(size * size, dtype=np.int64)
    flat_prediction, flat_reference = prediction.reshape(-1), reference.reshape(-1)
    for start in range(0, flat_prediction.size, _VOXELS_AT_ONCE):
        part = slice(start, start + _VOXELS_AT_ONCE)
        columns = _label_indices(flat_prediction[part], labels.all_labels)
        rows = _label_indices(flat_reference[part], (*labels.all_labels, *_ignored(labels)))
        counts += np.bincount(rows * size + columns, minlength=size * size)
    table = counts.reshape(size, size)
    unknown_row = num_labels + len(_ignored(labels))
    if table[unknown_row].any():
        raise _undeclared(reference, labels.allowed_values, f"{where}, reference")
    if table[:, num_labels].any():
        raise _undeclared(prediction, frozenset(labels.all_labels), f"{where}, prediction")
    return table[:num_labels, :num_labels]


def _label_indices(label_map: NDArray[Any], known: tuple[int, ...]) -> NDArray[np.intp]:
    """Position of every voxel's value in `known`; `len(known)` for any other value."""
    top = max(known) + 1
    position = np.full(top + 1, len(known), dtype=np.intp)
    position[list(known)] = np.arange(len(known))
    if np.issubdtype(label_map.dtype, np.floating):
        whole = np.isfinite(label_map) & (label_map == np.rint(label_map))
        label_map = np.where(whole, label_map, top)
    inside = np.where((label_map >= 0) & (label_map < top), label_map, top)
    return position[inside.astype(np.intp)]


def _ignored(labels: Labels) -> tuple[int, ...]:
    return () if labels.ignore_label is None else (labels.ignore_label,)


def _undeclared(label_map: NDArray[Any], allowed: frozenset[int], where: str) -> DatasetError:
    found = [value for value in np.unique(label_map).tolist() if value not in allowed]
    listed = ", ".join(f"{value:g}" for value in found[:10]) + (", ..." if len(found) > 10 else "")
    return DatasetError(
        message(
            where,
            expected=f"only the declared labels {sorted(allowed)}",
            got=f"also {listed}",
            remedy="Correct the label map, or declare the label in dataset.json.",
        )
    )


def _members(value: LabelOrRegion, labels: Labels) -> NDArray[np.bool_]:
    wanted = value if isinstance(value, tuple) else (value,)
    return np.isin(labels.all_labels, wanted)


def _metrics_of(joint: NDArray[np.int64], members: NDArray[np.bool_]) -> Metrics:
    true_positive = int(joint[members][:, members].sum())
    false_positive = int(joint[~members][:, members].sum())
    false_negative = int(joint[members][:, ~members].sum())
    true_negative = int(joint[~members][:, ~members].sum())
    union = true_positive + false_positive + false_negative
    return {
        "Dice": 2 * true_positive / (union + true_positive) if union else float("nan"),
        "IoU": true_positive / union if union else float("nan"),
        "TP": true_positive,
        "FP": false_positive,
        "FN": false_negative,
        "TN": true_negative,
        "n_pred": true_positive + false_positive,
        "n_ref": true_positive + false_negative,
    }
