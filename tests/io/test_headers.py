from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from segwright.io.headers import num_voxels_claimed


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_voxels_are_those_of_the_header(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
    assert num_voxels_claimed(path) == 60


def test_a_picture_is_estimated_from_its_size(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"x" * 100)
    assert num_voxels_claimed(tmp_path / "image.png") == 800


def test_what_cannot_be_read_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "image.nii.gz").write_bytes(b"no image")
    for name in ("image.nii.gz", "nothing.nrrd", "nothing.png"):
        assert num_voxels_claimed(tmp_path / name) == 0


def test_a_header_that_claims_more_than_the_file_can_hold_claims_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
    header = path.read_bytes()
    path.write_bytes(header.replace(b"sizes: 5 4 3", b"sizes: 5000 4000 3000"))
    assert num_voxels_claimed(path) == 0


def test_an_image_that_will_not_fit_the_memory_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.nii"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), str(path))
    assert num_voxels_claimed(path) == 60
    monkeypatch.setattr("segwright.io.integrity.MUCH_MEMORY_BYTES", 0)
    monkeypatch.setattr("segwright.io.integrity.available_memory_bytes", lambda: 60 * 5 - 1)
    assert num_voxels_claimed(path) == 0
