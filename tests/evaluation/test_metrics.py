from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from examples import examples
from segwright.errors import DatasetError
from segwright.evaluation.metrics import METRIC_NAMES, compare_label_maps, joint_histogram
from segwright.labels import Labels

PLAIN = Labels.from_json({"background": 0, "edema": 1, "core": 2})
REGIONS = Labels.from_json({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4}, [1, 2, 3])


def slow_metrics(prediction, reference, value, ignore_label):
    """Voxel by voxel, as the definitions read."""
    members = value if isinstance(value, tuple) else (value,)
    tp = fp = fn = tn = 0
    for predicted, true in zip(prediction.ravel().tolist(), reference.ravel().tolist(), strict=True):
        if true == ignore_label:
            continue
        if predicted in members and true in members:
            tp += 1
        elif predicted in members:
            fp += 1
        elif true in members:
            fn += 1
        else:
            tn += 1
    empty = tp + fp + fn == 0
    return {
        "Dice": math.nan if empty else 2 * tp / (2 * tp + fp + fn),
        "IoU": math.nan if empty else tp / (tp + fp + fn),
        "TP": tp,
        "FP": fp,
        "FN": fn,
        "TN": tn,
        "n_pred": tp + fp,
        "n_ref": tp + fn,
    }


def assert_same(found, expected):
    assert tuple(found) == METRIC_NAMES
    np.testing.assert_equal(found, expected)


@examples(60)
@given(
    prediction=arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3)),
    reference=arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 4)),
    dtype=st.sampled_from([np.uint8, np.int16, np.float32]),
)
def test_regions_with_ignore_equal_the_slow_reference(prediction, reference, dtype):
    found = compare_label_maps(prediction.astype(dtype), reference.astype(dtype), REGIONS)
    assert list(found) == [(1, 2, 3), (2, 3), 3]
    for value, metrics in found.items():
        assert_same(metrics, slow_metrics(prediction, reference, value, 4))


@examples(40)
@given(
    prediction=arrays(np.int8, (3, 5), elements=st.integers(0, 2)),
    reference=arrays(np.int8, (3, 5), elements=st.integers(0, 2)),
)
def test_plain_labels_equal_the_slow_reference(prediction, reference):
    found = compare_label_maps(prediction, reference, PLAIN)
    assert list(found) == [1, 2]
    for value, metrics in found.items():
        assert_same(metrics, slow_metrics(prediction, reference, value, None))


def test_labels_with_gaps_are_counted_by_value():
    labels = Labels.from_json({"background": 0, "nerve": 255, "vessel": 7})
    prediction = np.array([[0, 255, 7, 7]])
    reference = np.array([[0, 255, 255, 7]])
    found = compare_label_maps(prediction, reference, labels)
    assert found[255]["Dice"] == pytest.approx(2 / 3)
    assert found[7]["IoU"] == 0.5


def test_a_class_in_neither_map_is_nan_and_a_missed_one_is_zero():
    reference = np.array([[0, 1]])
    found = compare_label_maps(np.zeros_like(reference), reference, PLAIN)
    assert found[1]["Dice"] == 0
    assert math.isnan(found[2]["Dice"])
    assert math.isnan(found[2]["IoU"])
    assert found[2]["TN"] == 2


def test_ignored_voxels_are_not_in_the_histogram():
    histogram = joint_histogram(np.array([[1, 2, 0]]), np.array([[4, 2, 0]]), REGIONS)
    assert histogram.sum() == 2
    assert histogram[2, 2] == 1


@pytest.mark.parametrize("wrong", [3, -1, 300, 1.5, math.nan])
@pytest.mark.parametrize("side", ["prediction", "reference"])
def test_an_undeclared_value_is_named(wrong, side):
    maps = {"prediction": np.zeros((2, 2)), "reference": np.zeros((2, 2))}
    maps[side][0, 1] = wrong
    with pytest.raises(DatasetError, match=rf"case A, {side}.*\[0, 1, 2\].* {wrong:g}\b"):
        compare_label_maps(maps["prediction"], maps["reference"], PLAIN, where="case A")


def test_a_prediction_must_not_hold_the_ignore_label():
    with pytest.raises(DatasetError, match=r"prediction: .* 4\b"):
        compare_label_maps(np.array([[4]]), np.array([[4]]), REGIONS)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(2, 1\)"):
        compare_label_maps(np.zeros((1, 2)), np.zeros((2, 1)), PLAIN)
