"""`--group-by` of check, plan, preprocess and run: a patient's scans are in one fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segwright.dataset import create_splits, leaking_groups, read_splits, write_splits
from tiny_datasets import NUM_TRAINING, case_ids, write_description, write_volume

NAME = "Dataset009_Pairs"
PATTERN = r"(p_\d+)"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two scans of each of six patients, in a workspace."""
    folder = tmp_path / "raw" / NAME
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for case_id in scans():
        label_map = np.zeros((12, 14, 13), np.uint8)
        label_map[3:8, 3:8, 3:8] = 1
        write_volume(folder / "imagesTr" / f"{case_id}_0000.nii.gz", rng.normal(size=label_map.shape) + label_map)
        write_volume(folder / "labelsTr" / f"{case_id}.nii.gz", label_map)
    write_description(
        folder,
        channel_names={"0": "MRI"},
        labels={"background": 0, "cube": 1},
        numTraining=2 * NUM_TRAINING,
        file_ending=".nii.gz",
    )
    return tmp_path


def scans() -> list[str]:
    return [f"{patient}_{scan}" for patient in case_ids("p", NUM_TRAINING) for scan in ("first", "second")]


def patients() -> dict[str, str]:
    return {case_id: case_id.rpartition("_")[0] for case_id in scans()}


def splits_file(workspace: Path) -> Path:
    return workspace / "preprocessed" / NAME / "splits_final.json"


def test_plan_writes_folds_that_keep_patients_together(segwright, pairs: Path) -> None:
    words = ("plan", 9, "--workspace", pairs, "--workers", 1, "--group-by", PATTERN)
    assert segwright(*words).code == 0
    splits = read_splits(splits_file(pairs))
    assert splits == create_splits(scans(), patients())
    assert leaking_groups(splits, patients()) == {}
    assert segwright(*words).code == 0
    assert read_splits(splits_file(pairs)) == splits


def test_plan_takes_patients_from_a_table(segwright, pairs: Path) -> None:
    table = pairs / "patients.csv"
    table.write_text("case_id,patient\n" + "".join(f"{case_id},{name}\n" for case_id, name in patients().items()))
    assert segwright("plan", 9, "--workspace", pairs, "--workers", 1, "--group-by", table).code == 0
    assert read_splits(splits_file(pairs)) == create_splits(scans(), patients())


@pytest.mark.parametrize("planned", [False, True])
def test_preprocess_writes_them_too(segwright, pairs: Path, planned: bool) -> None:
    where = (9, "--workspace", pairs, "--workers", 1)
    assert not planned or segwright("plan", *where).code == 0
    outcome = segwright("preprocess", *where, "-c", "2d", "--group-by", PATTERN)
    assert outcome.code == 0, outcome.err
    assert read_splits(splits_file(pairs)) == create_splits(scans(), patients())


@pytest.mark.parametrize("root", ["raw", "preprocessed"])
@pytest.mark.parametrize("verb", ["plan", "preprocess", "run"])
def test_other_folds_are_told_before_anything_is_measured(segwright, pairs: Path, verb: str, root: str) -> None:
    path = pairs / root / NAME / "splits_final.json"
    write_splits(path, create_splits(scans()))
    outcome = segwright(verb, 9, "--workspace", pairs, "--workers", 1, "--group-by", PATTERN)
    assert outcome.code == 2
    assert f"{root}/{NAME}/splits_final.json: " in outcome.err
    assert not (pairs / "preprocessed" / NAME / "dataset_fingerprint.json").exists()
    assert read_splits(path) == create_splits(scans())


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("(p", "expected a regular expression"), ("q", "got none in p_000_first"), ("p_", "one group with all cases")],
)
@pytest.mark.parametrize("verb", ["check", "plan", "preprocess", "run"])
def test_an_expression_that_groups_nothing_is_told(segwright, pairs: Path, verb: str, pattern: str, told: str) -> None:
    outcome = segwright(verb, 9, "--workspace", pairs, "--workers", 1, "--group-by", pattern)
    assert outcome.code == 2
    assert told in outcome.err
    assert not (pairs / "preprocessed").exists()


def test_check_tells_of_patients_on_both_sides_of_a_fold(segwright, pairs: Path) -> None:
    words = ("check", 9, "--workspace", pairs, "--workers", 1)
    told = "expected each group on one side of a fold"
    assert told not in segwright(*words, "--group-by", PATTERN).out
    write_splits(splits_file(pairs), create_splits(scans()))
    outcome = segwright(*words, "--group-by", PATTERN)
    assert outcome.code == 0
    assert told in outcome.out


def test_run_trains_on_the_grouped_folds(segwright, pairs: Path) -> None:
    words = ("run", 9, "--workspace", pairs, "--workers", 1, "--group-by", PATTERN, "-c", "2d", "--epochs", 1)
    outcome = segwright(*words, "--iterations-per-epoch", 1, "--val-iterations-per-epoch", 1, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert read_splits(splits_file(pairs)) == create_splits(scans(), patients())
    validated = next((pairs / "results").rglob("validation")).glob("*.nii.gz")
    assert sorted(path.name.removesuffix(".nii.gz") for path in validated) == sorted(
        create_splits(scans(), patients())[0].val
    )
