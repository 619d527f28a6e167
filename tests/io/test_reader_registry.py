from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from imageio import v3 as imageio

from segwright.errors import DatasetError, ImageError
from segwright.io import choose_reader, reader_named, readers_for

HEAVY = {"torch", "SimpleITK", "scipy", "numba", "nibabel", "tifffile", "matplotlib"}


@pytest.mark.parametrize(
    ("ending", "names"),
    [
        (".png", ["NaturalImage2DIO"]),
        (".bmp", ["NaturalImage2DIO"]),
        (".tif", ["NaturalImage2DIO", "Tiff3DIO"]),
        (".tiff", ["Tiff3DIO"]),
        (".nii.gz", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"]),
        (".NII.GZ", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"]),
        (".nii", ["NibabelIO", "NibabelIOWithReorient"]),
        (".nrrd", ["SimpleITKIO"]),
        (".mha", ["SimpleITKIO"]),
        (".gipl", ["SimpleITKIO"]),
        (".jpg", []),
    ],
)
def test_readers_are_tried_in_nnunets_order(ending: str, names: list[str]) -> None:
    assert [reader.name for reader in readers_for(ending)] == names


def test_without_an_example_the_first_for_the_ending_is_chosen() -> None:
    assert choose_reader(".tif").name == "NaturalImage2DIO"
    assert choose_reader(".nii.gz").name == "SimpleITKIO"


def test_the_first_that_can_read_the_example_is_chosen(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "flat_0000.tif", np.zeros((20, 30), np.uint8))
    tifffile.imwrite(tmp_path / "stack_0000.tif", np.zeros((10, 20, 30), np.uint8))
    assert choose_reader(".tif", example=tmp_path / "flat_0000.tif").name == "NaturalImage2DIO"
    assert choose_reader(".tif", example=tmp_path / "stack_0000.tif").name == "Tiff3DIO"


def test_the_reader_asked_for_is_taken() -> None:
    assert choose_reader(".nii.gz", wanted_name="SimpleITKIOWithReorient").name == "SimpleITKIOWithReorient"


def test_unknown_names_and_endings_list_the_known() -> None:
    with pytest.raises(DatasetError, match=r"NaturalImage2DIO, .*'MyIO'.*overwrite_image_reader"):
        reader_named("MyIO")
    with pytest.raises(DatasetError, match=r"key 'file_ending'.*\.bmp, .*'\.jpg'"):
        choose_reader(".jpg")


def test_an_example_that_none_can_read_has_each_ones_reason(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 2, 2), np.int16), np.eye(4)), tmp_path / "a_0000.nii.gz")
    with pytest.raises(ImageError, match=r"(?s)a_0000\.nii\.gz.* 5\b.*a_0000\.nii\.gz.*\(2, 2, 2, 2, 2\)"):
        choose_reader(".nii.gz", example=tmp_path / "a_0000.nii.gz")
    imageio.imwrite(tmp_path / "a_0000.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "b_0000.png").write_bytes((tmp_path / "a_0000.png").read_bytes()[:40])
    with pytest.raises(ImageError, match=r"b_0000\.png.*NaturalImage2DIO"):
        choose_reader(".png", example=tmp_path / "b_0000.png")


@pytest.mark.parametrize("module", ["segwright.io", "segwright.dataset"])
def test_importing_loads_no_heavy_library(module: str) -> None:
    code = f"import {module}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""
