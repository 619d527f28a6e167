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
