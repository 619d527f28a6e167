"""`segwright check --fix`: a corrected copy, what was changed in it, and what `check` says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tiny_datasets import NUM_TRAINING, case_ids, write_volume


@pytest.fixture
def marked(raw: Path) -> Path:
    """Label maps of 0, 100 and 200 where 0, 1 and 2 are declared."""
    for case_id in case_ids("ballTr", NUM_TRAINING):
        path = raw / "labelsTr" / f"{case_id}.nii.gz"
        write_volume(path, sitk.GetArrayFromImage(sitk.ReadImage(str(path))) * 100)
    return raw


def test_the_copy_is_written_reported_and_checked(segwright, marked: Path, tmp_path: Path) -> None:
    outcome = segwright("check", marked, "--workers", 1)
    assert outcome.code == 2
    assert "--fix NEW_FOLDER" in outcome.out.splitlines()[-1]
    outcome = segwright("check", marked, "--workers", 1, "--fix", tmp_path / "fixed")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    files = ", ".join(f"labelsTr/{case_id}.nii.gz" for case_id in case_ids("ballTr", 5))
    assert f" 6 files ({files} and 1 more): " in lines[0]
    assert lines[0].endswith(" 100 -> 1, 200 -> 2.")
    assert re.match(rf"{tmp_path / 'fixed'}: .* 6 changes", lines[-2])
    assert lines[-1].startswith("fixed: 6 cases, 0 errors, 0 warnings")
    assert segwright("check", tmp_path / "fixed", "--workers", 1).code == 0
    assert segwright("check", marked, "--workers", 1).code == 2


def test_the_answer_for_programs(segwright, marked: Path, tmp_path: Path) -> None:
    (marked / "labelsTr" / "ballTr_003.nii.gz").write_bytes(b"torn")
    outcome = segwright("check", marked, "--workers", 1, "--json", "--fix", tmp_path / "fixed")
    assert outcome.code == 2
    answer = json.loads(outcome.out)
    assert answer["fix"]["num_cases"] == NUM_TRAINING
    assert len(answer["fix"]["changes"]) == NUM_TRAINING - 1
    assert [change["case_id"] for change in answer["fix"]["unmended"]] == ["ballTr_003"]
    assert answer["check"]["ok"] is False
    assert answer["check"]["folder"] == str(tmp_path / "fixed")


def test_what_cannot_be_fixed_is_reported(segwright, marked: Path, tmp_path: Path) -> None:
    (marked / "labelsTr" / "ballTr_003.nii.gz").write_bytes(b"torn")
    outcome = segwright("check", marked, "--workers", 1, "--fix", tmp_path / "fixed")
    assert outcome.code == 2
    assert re.search(r"case ballTr_000, labelsTr/ballTr_000\.nii\.gz: .* 100 -> 1, 200 -> 2\.", outcome.out)
    assert re.search(r"^not .*case ballTr_003, labelsTr/ballTr_003\.nii\.gz: ", outcome.out, flags=re.MULTILINE)
    assert "fixed: 6 cases, 1 error, 0 warnings" in outcome.out


def test_warnings_are_not_called_nothing(segwright, raw: Path) -> None:
    write_volume(raw / "labelsTr" / "ballTr_000.nii.gz", np.zeros((20, 24, 22), np.uint8))
    outcome = segwright("check", raw, "--workers", 1)
    assert outcome.code == 0
    assert "6 cases, 0 errors, 3 warnings" in outcome.out.splitlines()[-1]


def test_what_was_fixed_is_reported_although_the_splits_file_is_torn(segwright, marked: Path, tmp_path: Path) -> None:
    (marked / "splits_final.json").write_text("[{")
    outcome = segwright("check", marked, "--workers", 1, "--fix", tmp_path / "fixed")
    assert outcome.code == 2
    assert " 6 files" in outcome.out.splitlines()[0]
    assert re.search("^not .*splits_final.json", outcome.out, flags=re.MULTILINE)
    assert f"error: {tmp_path / 'fixed' / 'splits_final.json'}, line 1" in outcome.out


def test_what_was_fixed_is_reported_although_the_groups_are_refused(segwright, marked: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case,group\nballTr_000,a\n")
    outcome = segwright("check", marked, "--workers", 1, "--fix", tmp_path / "fixed", "--group-by", table)
    assert outcome.code == 2
    assert " 6 files" in outcome.out.splitlines()[0]
    assert "patients.csv: " in outcome.err


def test_the_original_is_never_written_over(segwright, marked: Path) -> None:
    outcome = segwright("check", marked, "--workers", 1, "--fix", marked)
    assert outcome.code == 2
    assert f"--fix {marked}" in outcome.err
    assert outcome.out == ""
