from __future__ import annotations

import json
import math

import numpy as np
import pytest

from segwright.errors import DatasetError, MissingFileError
from segwright.evaluation.metrics import compare_label_maps
from segwright.evaluation.summary import CaseMetrics, Summary, key_of, label_of
from segwright.evaluation.tables import class_rows, extreme_cases
from segwright.labels import Labels

LABELS = Labels.from_json({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])


def case(name, prediction, reference, labels=LABELS):
    metrics = compare_label_maps(np.array(prediction), np.array(reference), labels)
    return CaseMetrics(f"pred/{name}.nii.gz", f"ref/{name}.nii.gz", metrics)


def two_cases():
    return Summary.from_cases([case("a", [0, 1, 2, 0], [0, 1, 2, 2]), case("b", [1, 1, 0, 0], [1, 0, 0, 0])])


def test_means_leave_out_nan_and_average_the_classes():
    summary = two_cases()
    assert summary.mean[(1, 2)]["Dice"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert summary.mean[2]["Dice"] == pytest.approx(2 / 3)
    assert summary.mean[2]["n_ref"] == 1.0
    assert summary.foreground_mean["Dice"] == pytest.approx((summary.mean[(1, 2)]["Dice"] + 2 / 3) / 2)


def test_a_class_in_no_case_is_nan_up_to_the_foreground_mean():
    summary = Summary.from_cases([case("b", [1, 0], [1, 0])])
    assert math.isnan(summary.mean[2]["Dice"])
    assert math.isnan(summary.foreground_mean["Dice"])


def test_file_has_nnunet_s_form(tmp_path):
    path = tmp_path / "summary.json"
    two_cases().write(path)
    text = path.read_text()
    value = json.loads(text)
    assert text == json.dumps(value, sort_keys=True, indent=4)
    assert '"(1, 2)": {' in text
    assert '"Dice": NaN' in text
    assert list(value) == ["foreground_mean", "mean", "metric_per_case"]
    assert list(value["metric_per_case"][0]) == ["metrics", "prediction_file", "reference_file"]
    assert list(value["mean"]["2"]) == ["Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"]
    assert isinstance(value["metric_per_case"][0]["metrics"]["2"]["TP"], int)
    assert isinstance(value["mean"]["2"]["TP"], float)


def test_written_summary_is_read_back(tmp_path):
    path = tmp_path / "summary.json"
    summary = two_cases()
    summary.write(path)
    np.testing.assert_equal(Summary.read(path).to_json(), summary.to_json())
    assert set(Summary.read(path).mean) == {(1, 2), 2}


@pytest.mark.parametrize("value", [1, 17, (1, 2, 3), (4,)])
def test_keys_of_labels_and_regions(value):
    assert label_of(key_of(value)) == value


def test_key_of_a_region_is_nnunet_s():
    assert key_of((1, 2, 3)) == "(1, 2, 3)"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"metric_per_case": [{}], "mean": {}, "foreground_mean": {}}',
        '{"metric_per_case": [], "mean": {"x": {}}, "foreground_mean": {}}',
        '{"metric_per_case": [], "mean": {"1": {"Dice": "high"}}, "foreground_mean": {}}',
        '{"metric_per_case": [], "mean": {}, "foreground_mean": {"Dice": -1e308, "IoU": 0.5}}',
        '{"metric_per_case": [], "mean": {}, "foreground_mean": {"Dice": 0.5, "IoU": 1.5}}',
        "{",
    ],
)
def test_a_damaged_summary_is_named(tmp_path, text):
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"summary\.json"):
        Summary.read(path)


def test_no_summary(tmp_path):
    with pytest.raises(MissingFileError, match=r"summary\.json.*segwright evaluate"):
        Summary.read(tmp_path / "summary.json")


def test_case_id_is_the_file_name():
    assert case("a.b", [0], [0]).case_id == "a.b"
    assert CaseMetrics("x/im_01.png", "y/im_01.png", {}).case_id == "im_01"


def test_rows_count_the_cases_that_have_the_class():
    whole, core = class_rows(two_cases(), LABELS)
    assert (whole.name, whole.num_cases) == ("whole", 2)
    assert (core.name, core.num_cases) == ("core", 1)
    assert core.median_dice == core.mean_dice == pytest.approx(2 / 3)
    assert (whole.min_dice, whole.max_dice) == pytest.approx((2 / 3, 4 / 5))


def test_rows_without_labels_are_ordered_by_value():
    assert [row.name for row in class_rows(two_cases())] == ["(1, 2)", "2"]


def test_a_row_of_an_absent_class_is_nan():
    row = class_rows(Summary.from_cases([case("b", [1, 0], [1, 0])]), LABELS)[1]
    assert row.num_cases == 0
    assert math.isnan(row.median_dice)


def test_best_median_worst():
    labels = Labels.from_json({"background": 0, "a": 1})
    cases = [
        case("d", [1, 0, 0, 0], [1, 1, 1, 1], labels),
        case("c", [1, 1, 0, 0], [1, 1, 1, 1], labels),
        case("b", [1, 1, 1, 0], [1, 1, 1, 1], labels),
        case("a", [1, 1, 1, 1], [1, 1, 1, 1], labels),
        case("empty", [0, 0, 0, 0], [0, 0, 0, 0], labels),
    ]
    chosen = extreme_cases(Summary.from_cases(cases))
    assert (chosen.best.case_id, chosen.median.case_id, chosen.worst.case_id) == ("a", "c", "d")


def test_no_extremes_without_scores():
    assert extreme_cases(Summary.from_cases([case("e", [0], [0])])) is None
