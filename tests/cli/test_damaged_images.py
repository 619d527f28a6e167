"""Predicting a folder in which most images are damaged: the whole ones are predicted, the others named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from damage import STRANGE_NAMES, files_to_refuse
from segwright.cli.main import main

MODEL = "results/Dataset001_Balls/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_predict_does_the_whole_images_and_names_the_others(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    whole = next((trained / "raw/Dataset001_Balls/imagesTs").iterdir())
    for name in STRANGE_NAMES:
        shutil.copy(whole, scans / f"{name}_0000.nii.gz")
    bad = files_to_refuse()
    del bad["another_shape"]  # which is an image
    for name, content in bad.items():
        (scans / f"{name}_0000.nii.gz").write_bytes(content)
    (scans / "dangling_0000.nii.gz").symlink_to("gone")
    os.mkfifo(scans / "pipe_0000.nii.gz")
    (scans / "wrongly_named.nii.gz").write_bytes(b"")
    (scans / "folder_0000.nii.gz").mkdir()
    command = ["predict", str(scans), str(out), "--model", str(trained / MODEL), "--device", "cpu"]
    assert main(command) == 1
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told
    assert ".py, line" not in told
    assert [name for name in (*bad, "dangling", "pipe", "wrongly_named") if name not in told] == []
    assert {path.name for path in out.iterdir() if path.suffix == ".gz"} == {f"{name}.nii.gz" for name in STRANGE_NAMES}
    assert main(command) == 1
