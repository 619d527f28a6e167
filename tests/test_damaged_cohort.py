"""A data set in which most cases are damaged, each in its own way: all are named, and the whole ones are worked on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from damage import STRANGE_NAMES, files_to_refuse, gzipped, nifti
from segwright.cli.main import main
from segwright.dataset import RawDataset
from segwright.doctor.check import check
from segwright.errors import CasesFailedError
from segwright.fingerprint import fingerprint_dataset
from tiny_datasets import case_ids, make_3d, write_description

WHOLE = case_ids("ballTr", 6)


def add_damaged(raw: Path, *, num_labels: int = 12) -> list[str]:
    """Put damaged images, and a few damaged label maps, among the cases; the ids of all that is bad, sorted."""
    image, label_map = raw / f"imagesTr/{WHOLE[0]}_0000.nii.gz", raw / f"labelsTr/{WHOLE[0]}.nii.gz"
    files = files_to_refuse()
    bad = list(files)
    for case_id, content in files.items():
        (raw / f"imagesTr/{case_id}_0000.nii.gz").write_bytes(content)
        shutil.copy(label_map, raw / f"labelsTr/{case_id}.nii.gz")
    for case_id, content in list(files.items())[:: len(files) // num_labels]:
        shutil.copy(image, raw / f"imagesTr/label_{case_id}_0000.nii.gz")
        (raw / f"labelsTr/label_{case_id}.nii.gz").write_bytes(content)
        bad.append(f"label_{case_id}")
    for case_id, kind in (("dangling_image", "imagesTr"), ("dangling_label", "labelsTr")):
        shutil.copy(image, raw / f"imagesTr/{case_id}_0000.nii.gz")
        shutil.copy(label_map, raw / f"labelsTr/{case_id}.nii.gz")
        link = raw / kind / f"{case_id}{'_0000' if kind == 'imagesTr' else ''}.nii.gz"
        link.unlink()
        link.symlink_to("gone")
        bad.append(case_id)
    if hasattr(os, "mkfifo"):
        os.mkfifo(raw / "imagesTr/pipe_0000.nii.gz")
        shutil.copy(label_map, raw / "labelsTr/pipe.nii.gz")
        bad.append("pipe")
    for name in STRANGE_NAMES:
        shutil.copy(image, raw / f"imagesTr/{name}_0000.nii.gz")
        shutil.copy(label_map, raw / f"labelsTr/{name}.nii.gz")
    write_description(raw, numTraining=len(WHOLE) + len(STRANGE_NAMES) + len(bad))
    return sorted(bad)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_3d(tmp_path / "workspace" / "raw" / "Dataset001_Balls")


@pytest.mark.parametrize("workers", [1, 2])
def test_check_names_each_damaged_case_and_examines_the_others(raw: Path, workers: int) -> None:
    bad = add_damaged(raw)
    shutil.copy(raw / f"labelsTr/{WHOLE[0]}.nii.gz", raw / f"labelsTr/{WHOLE[3]}.nii.gz")
    (raw / f"labelsTr/{WHOLE[5]}.nii.gz").write_bytes(gzipped(nifti()))
    report = check(raw, workers=workers)
    assert sorted({problem.case_id for problem in report.errors}) == sorted([*bad, WHOLE[5]])
    assert len(bad) > 90
    assert not any("Traceback" in problem.text or ".py, line" in problem.text for problem in report.problems)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fingerprint_names_every_damaged_case(raw: Path, workers: int) -> None:
    bad = add_damaged(raw)
    with pytest.raises(CasesFailedError) as caught:
        fingerprint_dataset(RawDataset.open(raw), workers=workers)
    assert sorted(caught.value.failures) == bad
    assert not any(".py, line" in text for text in caught.value.failures.values())


def test_the_command_line_does_the_whole_cases_and_names_the_others(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("1", "--workspace", str(raw.parents[1]), "--workers", "1")
    assert main(["plan", *place]) == 0
    bad = add_damaged(raw)
    capsys.readouterr()
    for words, code in (
        (("check", *place), 2),
        (("plan", *place), 2),
        (("preprocess", *place, "-c", "3d_fullres"), 1),
    ):
        assert main(list(words)) == code
        captured = capsys.readouterr()
        told = captured.out + captured.err
        assert "Traceback" not in told
        assert ".py, line" not in told
        assert [case_id for case_id in bad if case_id not in told] == []
    stored = {path.name for path in raw.parents[1].glob("preprocessed/*/nnUNetPlans_3d_fullres/*.pkl")}
    assert stored == {f"{case_id}.pkl" for case_id in (*WHOLE, *STRANGE_NAMES)}
