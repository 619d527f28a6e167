from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from segwright.errors import CasesFailedError, DatasetError, MissingFileError
from segwright.evaluation import evaluate_folder, labels_for_evaluation
from segwright.evaluation.folder import same_grid
from segwright.geometry import Geometry
from segwright.io import reader_named
from segwright.labels import Labels

LABELS = Labels.from_json({"background": 0, "a": 1, "b": 2})
READER = reader_named("SimpleITKIO")
ENDING = ".nii.gz"


def properties(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    return {
        "spacing": list(spacing),
        "sitk_stuff": {
            "spacing": tuple(spacing[::-1]),
            "origin": tuple(origin),
            "direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        },
    }


def write(folder: Path, case_id: str, label_map, **geometry):
    folder.mkdir(exist_ok=True)
    READER.write_labels(np.asarray(label_map, dtype=np.uint8), folder / f"{case_id}{ENDING}", properties(**geometry))


def volume(*values):
    return np.array(values, dtype=np.uint8).reshape(1, 2, -1)


def evaluate(tmp_path, **options):
    return evaluate_folder(
        tmp_path / "pred", tmp_path / "ref", labels=LABELS, file_ending=ENDING, reader=READER, **options
    )


def two_folders(tmp_path):
    for case_id in ("c2", "c1"):
        write(tmp_path / "ref", case_id, volume(0, 1, 1, 2))
        write(tmp_path / "pred", case_id, volume(0, 1, 2, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_case_is_scored_in_the_order_of_names(tmp_path, workers):
    two_folders(tmp_path)
    (tmp_path / "pred" / "plans.json").write_text("{}")
    heard = []
    summary = evaluate(tmp_path, workers=workers, progress=lambda *event: heard.append(event))
    assert [case.case_id for case in summary.metric_per_case] == ["c1", "c2"]
    assert summary.mean[1]["Dice"] == pytest.approx(2 / 3)
    assert summary.metric_per_case[0].reference_file == str(tmp_path / "ref" / "c1.nii.gz")
    assert heard[-1] == ("Scoring", 2, 2)


def test_positions_may_differ_where_only_the_voxel_grid_counts(tmp_path):
    write(tmp_path / "ref", "c1", volume(0, 1, 1, 2), origin=(0, 0, 50.0))
    write(tmp_path / "pred", "c1", volume(0, 1, 2, 2))
    with pytest.raises(CasesFailedError) as caught:
        evaluate(tmp_path)
    assert list(caught.value.failures) == ["c1"]
    assert "(0, 0, 50)" in caught.value.failures["c1"]
    assert evaluate(tmp_path, compare_positions=False).mean[1]["Dice"] == pytest.approx(2 / 3)


def test_a_missing_prediction_is_named(tmp_path):
    two_folders(tmp_path)
    write(tmp_path / "ref", "c3", volume(0, 1, 1, 2))
    with pytest.raises(DatasetError, match=r"pred: .*\b1 .* c3\."):
        evaluate(tmp_path)


def test_a_prediction_without_reference_is_named(tmp_path):
    two_folders(tmp_path)
    write(tmp_path / "pred", "c0", volume(0, 1, 1, 2))
    with pytest.raises(DatasetError, match=r"ref: .* c0"):
        evaluate(tmp_path)


def test_chosen_cases_need_no_equal_folders(tmp_path):
    two_folders(tmp_path)
    write(tmp_path / "ref", "c3", volume(0, 1, 1, 2))
    assert len(evaluate(tmp_path, case_ids=["c2"]).metric_per_case) == 1
    with pytest.raises(DatasetError, match="c3"):
        evaluate(tmp_path, case_ids=["c2", "c3"])


def test_bad_cases_are_all_named_and_no_mean_is_made(tmp_path):
    two_folders(tmp_path)
    write(tmp_path / "ref", "shape", volume(0, 1, 1, 2, 0, 0))
    write(tmp_path / "pred", "shape", volume(0, 1, 1, 2))
    write(tmp_path / "ref", "spacing", volume(0, 1), spacing=(1, 1, 2))
    write(tmp_path / "pred", "spacing", volume(0, 1))
    write(tmp_path / "ref", "origin", volume(0, 1), origin=(0, 5, 0))
    write(tmp_path / "pred", "origin", volume(0, 1))
    write(tmp_path / "ref", "label", volume(0, 1))
    write(tmp_path / "pred", "label", volume(0, 7))
    (tmp_path / "ref" / "torn.nii.gz").write_bytes(b"not an image")
    write(tmp_path / "pred", "torn", volume(0, 1))
    with pytest.raises(CasesFailedError, match="5 of 7") as caught:
        evaluate(tmp_path)
    failures = caught.value.failures
    assert list(failures) == ["label", "origin", "shape", "spacing", "torn"]
    assert " 7" in failures["label"]
    assert "(1, 1, 1)" in failures["origin"]
    assert re.search(r"\(1, 2, 3\).*\(1, 2, 2\)", failures["shape"])
    assert "(1, 1, 2)" in failures["spacing"]


def test_empty_and_missing_folders(tmp_path):
    (tmp_path / "pred").mkdir()
    with pytest.raises(MissingFileError, match="ref"):
        evaluate(tmp_path)
    (tmp_path / "ref").mkdir()
    with pytest.raises(DatasetError, match=r"pred.*\.nii\.gz"):
        evaluate(tmp_path)


def test_same_grid_bears_rounded_headers_but_no_shift():
    turned = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    rounded = tuple(value + 3e-7 for value in turned)
    first = Geometry((3.0, 0.5, 0.5), (-120.5, 80.25, 0.0), turned)
    assert same_grid(first, Geometry((3.0, 0.5, 0.5), (-120.5, 80.25, 1e-6), rounded), (30, 200, 200))
    assert not same_grid(first, Geometry((3.0, 0.5, 0.5), (-120.5, 80.35, 0.0), turned), (30, 200, 200))
    mirrored = (-0.8, -0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    assert not same_grid(first, Geometry((3.0, 0.5, 0.5), (-120.5, 80.25, 0.0), mirrored), (30, 200, 200))
    assert not same_grid(first, Geometry((3.0, 0.5, 0.51), (-120.5, 80.25, 0.0), turned), (30, 2, 2))


def description(folder: Path, labels):
    folder.mkdir(exist_ok=True)
    value = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ENDING}
    (folder / "dataset.json").write_text(json.dumps(value))


def test_labels_come_from_the_predictions_first(tmp_path):
    two_folders(tmp_path)
    description(tmp_path / "pred", {"background": 0, "in predictions": 1, "b": 2})
    description(tmp_path / "ref", {"background": 0, "in references": 1, "b": 2})
    setup = labels_for_evaluation(tmp_path / "pred", tmp_path / "ref")
    assert setup.labels.name_of(1) == "in predictions"
    assert setup.labels_from == str(tmp_path / "pred" / "dataset.json")
    assert setup.file_ending == ENDING
    assert setup.reader.name == "SimpleITKIO"


@pytest.mark.parametrize("place", ["ref", "."])
def test_labels_come_from_beside_the_references(tmp_path, place):
    two_folders(tmp_path)
    description(tmp_path / place, {"background": 0, "a": 1, "b": 2})
    setup = labels_for_evaluation(tmp_path / "pred", tmp_path / "ref")
    assert setup.labels.classes == (1, 2)
    assert Path(setup.labels_from) == (tmp_path / place / "dataset.json").resolve()


def test_labels_come_from_the_values_last(tmp_path):
    write(tmp_path / "pred", "c1", volume(0, 5))
    write(tmp_path / "ref", "c1", volume(0, 5))
    write(tmp_path / "ref", "c2", volume(9, 9))
    (tmp_path / "ref" / "notes.txt").write_text("")
    setup = labels_for_evaluation(tmp_path / "pred", tmp_path / "ref")
    assert setup.labels.classes == (5, 9)
    assert setup.labels.name_of(9) == "label 9"
    assert "values" in setup.labels_from
    assert setup.file_ending == ENDING


def test_no_labels_to_find(tmp_path):
    write(tmp_path / "ref", "c1", volume(0, 0))
    with pytest.raises(DatasetError, match="ref"):
        labels_for_evaluation(tmp_path / "pred", tmp_path / "ref")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        labels_for_evaluation(tmp_path / "pred", tmp_path / "empty")
    with pytest.raises(MissingFileError):
        labels_for_evaluation(tmp_path / "pred", tmp_path / "nowhere")


def test_unreadable_references_are_named(tmp_path):
    write(tmp_path / "ref", "c1", volume(0, 1))
    (tmp_path / "ref" / "c2.nii.gz").write_bytes(b"torn")
    with pytest.raises(CasesFailedError, match=r"c2\.nii\.gz"):
        labels_for_evaluation(tmp_path / "pred", tmp_path / "ref")
