"""ITK reads NaN and infinity in NIfTI files as 0; they must not pass as sound voxels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from segwright.io import reader_named
from segwright.io.non_finite import NonFiniteVoxels

SHAPE = (7, 9, 11)


def noise(dtype: Any = np.float32, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    array = np.random.default_rng(1).normal(size=shape).astype(dtype)
    array[..., 1, 2, 3] = np.nan
    array[..., 4, 5, 6] = np.inf
    array[..., 6, 8, 10] = -np.inf
    return array


def write(path: Path, array: np.ndarray, *, endianness: str = "<") -> None:
    image = nibabel.Nifti1Image(array.T, np.eye(4), header=nibabel.Nifti1Header(endianness=endianness))
    image.set_data_dtype(array.dtype)
    nibabel.save(image, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_voxels_that_are_no_numbers_are_none_after_reading(
    tmp_path: Path, dtype: Any, ending: str, endianness: str
) -> None:
    path, array = tmp_path / f"case_0000{ending}", noise(dtype)
    write(path, array, endianness=endianness)
    read = reader_named("SimpleITKIO").read_image([path])
    finite = np.isfinite(array)
    assert np.array_equal(np.isfinite(read.array[0]), finite)
    assert np.array_equal(read.array[0][finite], array[finite].astype(np.float32))
    assert read.geometry.spacing_mm == (1.0, 1.0, 1.0)


def test_channels_in_a_fourth_dimension_and_reorientation_keep_the_places(tmp_path: Path) -> None:
    channels = noise(shape=(2, *SHAPE))
    write(tmp_path / "case_0000.nii.gz", channels)
    read = reader_named("SimpleITKIO").read_image([tmp_path / "case_0000.nii.gz"]).array
    assert np.array_equal(np.isfinite(read), np.isfinite(channels))
    write(tmp_path / "case_0000.nii.gz", channels[0])
    turned = reader_named("SimpleITKIOWithReorient").read_image([tmp_path / "case_0000.nii.gz"]).array
    as_nibabel = reader_named("NibabelIOWithReorient").read_image([tmp_path / "case_0000.nii.gz"]).array
    assert np.array_equal(np.isnan(turned), ~np.isfinite(as_nibabel))


def test_nan_in_a_label_map_is_not_background(tmp_path: Path) -> None:
    labels = np.ones(SHAPE, np.float32)
    labels[0, 0, 0] = np.nan
    write(tmp_path / "case.nii.gz", labels)
    assert np.isnan(reader_named("SimpleITKIO").read_labels(tmp_path / "case.nii.gz").array[0, 0, 0, 0])


def test_whole_numbers_are_not_looked_through(tmp_path: Path) -> None:
    # -1 as int32 has the bits of a NaN
    array = np.full(SHAPE, -1, np.int32)
    write(tmp_path / "case_0000.nii.gz", array)
    assert np.array_equal(reader_named("SimpleITKIO").read_image([tmp_path / "case_0000.nii.gz"]).array[0], array)


@examples(50)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=8),
    bad=st.sets(st.integers(0, 39)),
    code=st.sampled_from([("16", "f4"), ("64", "f8")]),
    order=st.sampled_from("<>"),
)
def test_places_do_not_depend_on_where_the_content_is_cut(
    cuts: list[int], bad: set[int], code: tuple[str, str], order: str
) -> None:
    values = np.arange(40, dtype=order + code[1])
    values[list(bad)] = np.nan
    content = np.array([348], order + "i4").tobytes() + bytes(60) + values.tobytes() + b"\xff" * 50
    edges = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    found = NonFiniteVoxels(datatype=code[0], header_bytes=64, num_voxels=40)
    for start, stop in pairwise(edges):
        found.take(content[start:stop])
    assert found.places.tolist() == sorted(bad)
