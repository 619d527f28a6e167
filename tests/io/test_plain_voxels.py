"""Voxels that are taken from the file without ITK are what ITK reads, and lie where it says."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from examples import examples
from segwright.errors import ImageError
from segwright.io import itk, nifti
from segwright.io.plain_voxels import PlainVoxels

NUMBERS = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


def as_itk_reads(path: Path) -> tuple[NDArray[np.float32], list[tuple[float, ...]]]:
    image = SimpleITK.ReadImage(str(path), imageIO="NiftiImageIO")
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    return array, [image.GetSpacing(), image.GetOrigin(), image.GetDirection()]


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(rng.normal(size=(3, 3)))[0])


def write(path: Path, rng: np.random.Generator, shape: tuple[int, ...], number_type: str, order: str) -> None:
    info = np.iinfo(number_type) if number_type[0] != "f" else None
    array: NDArray[Any] = (
        rng.normal(0, 1e3, shape).astype(number_type)
        if info is None
        else rng.integers(info.min, info.max, shape, dtype=number_type, endpoint=True)
    )
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(number_type))
    affine = np.eye(4)
    affine[:3, :3] = rotation(rng) * rng.uniform(0.3, 5, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    image = nibabel.Nifti1Image(array, affine, header=header)
    image.set_qform(affine, int(rng.integers(0, 5)))
    image.set_sform(affine, int(rng.integers(0, 5)))
    nibabel.save(image, path)


@examples(80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
    number_type=st.sampled_from(NUMBERS),
    order=st.sampled_from("<>"),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_files_are_read_as_itk_reads_them(
    tmp_path: Path, seed: int, shape: tuple[int, ...], number_type: str, order: str, ending: str
) -> None:
    path = tmp_path / ("packed.nii.gz" if ending == ".nii.gz" else "plain.nii")
    write(path, np.random.default_rng(seed), shape, number_type, order)
    voxels, places = as_itk_reads(path)
    read = itk.read_file(path)
    assert np.array_equal(read.array, voxels.reshape((1,) * (4 - voxels.ndim) + voxels.shape))
    assert read.array.dtype == np.float32
    assert list(read.properties["sitk_stuff"].values()) == places


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), number_type=st.sampled_from(NUMBERS), order=st.sampled_from("<>"))
def test_files_are_read_as_nibabel_reads_them(tmp_path: Path, seed: int, number_type: str, order: str) -> None:
    path = tmp_path / "image.nii.gz"
    write(path, np.random.default_rng(seed), (3, 4, 5), number_type, order)
    image = nibabel.load(path)
    read = nifti.read_file(path)
    assert np.array_equal(read.array[0], image.get_fdata().T.astype(np.float32))
    assert np.array_equal(read.properties["nibabel_stuff"]["original_affine"], image.affine)
    assert read.properties["spacing"] == [float(value) for value in image.header.get_zooms()[::-1]]

    turned = image.as_reoriented(io_orientation(image.affine))
    reoriented = nifti.read_file_reoriented(path)
    assert np.array_equal(reoriented.array[0], turned.get_fdata().T.astype(np.float32))
    assert np.array_equal(reoriented.properties["nibabel_stuff"]["reoriented_affine"], turned.affine)
    assert reoriented.properties["spacing"] == [float(value) for value in turned.header.get_zooms()[::-1]]


@pytest.mark.parametrize("scale", [(2.0, 0.0), (1.0, 5.0), (0.0, 5.0), (0.5, -3.0)])
def test_numbers_with_a_scale_are_left_to_itk(tmp_path: Path, scale: tuple[float, float]) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    path = tmp_path / "image.nii"
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array(scale, "<f4").tobytes()
    path.write_bytes(content)
    assert np.array_equal(itk.read_file(path).array[0], as_itk_reads(path)[0])
    assert itk.read_file(path).array.max() == 23 * (scale[0] or 1) + scale[1]


def test_itk_is_asked_once_for_files_of_one_place(tmp_path: Path) -> None:
    itk._place_by_itk.cache_clear()
    for number, number_type in enumerate(NUMBERS):
        shape = (2, 3 + number, 4)
        image = nibabel.Nifti1Image(np.full(shape, number, number_type), np.diag([1.5, 2, 3, 1]))
        image.header["descrip"] = f"number {number}"
        nibabel.save(image, tmp_path / f"{number}.nii.gz")
        assert np.array_equal(
            itk.read_file(tmp_path / f"{number}.nii.gz").array[0], np.full(shape[::-1], number, np.float32)
        )
    assert itk._place_by_itk.cache_info().misses == 1


def test_a_header_with_more_in_it_is_read(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1.5, 2, 3, 1]))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    path = tmp_path / "image.nii.gz"
    nibabel.save(image, path)
    assert itk.read_file(path).properties["sitk_stuff"]["spacing"] == (1.5, 2.0, 3.0)
    assert np.array_equal(itk.read_file(path).array[0], as_itk_reads(path)[0])


def test_voxels_are_not_those_of_an_unpacked_file_beside_it(tmp_path: Path) -> None:
    """ITK takes the header of one and the voxels of the other."""
    for ending, value in ((".nii", 1), (".nii.gz", 2)):
        nibabel.save(nibabel.Nifti1Image(np.full((2, 3, 4), value, np.int16), np.eye(4)), tmp_path / f"image{ending}")
    assert (as_itk_reads(tmp_path / "image.nii.gz")[0] == 1).all()
    assert (itk.read_file(tmp_path / "image.nii.gz").array == 2).all()


@pytest.mark.parametrize("read", [itk.read_file, itk.read_file_reoriented])
def test_what_itk_would_read_from_an_unpacked_file_beside_it_is_refused(tmp_path: Path, read: Any) -> None:
    for ending, value in ((".nii", 1), (".nii.gz", 2)):
        image = nibabel.Nifti1Image(np.full((2, 3, 4), value, np.int16), np.eye(4))
        image.header.set_slope_inter(2, 1)
        nibabel.save(image, tmp_path / f"image{ending}")
    assert (read(tmp_path / "image.nii").array == 3).all()
    with pytest.raises(ImageError, match=r"image\.nii\.gz.* image\.nii "):
        read(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("shape", [(3, 4, 1), (1, 4, 3), (3, 1, 4, 2)])
@pytest.mark.parametrize("order", "<>")
def test_an_axis_of_negative_spacing_is_turned_round_as_by_itk(
    tmp_path: Path, shape: tuple[int, ...], order: str
) -> None:
    """Only of axes of one voxel, and of that of the channels, may the spacing be negative."""
    path = tmp_path / "image.nii"
    write(path, np.random.default_rng(0), shape, "i2", order)
    content = bytearray(path.read_bytes())
    for axis, size in enumerate(shape):
        if size == 1 or axis == 3:
            content[80 + 4 * axis : 84 + 4 * axis] = np.array(-2, f"{order}f4").tobytes()
    path.write_bytes(content)
    voxels, places = as_itk_reads(path)
    read = itk.read_file(path)
    assert list(read.properties["sitk_stuff"].values()) == places
    assert np.array_equal(read.array, voxels.reshape((1,) * (4 - voxels.ndim) + voxels.shape))
    itk.write_file(np.zeros(voxels.shape[-3:], np.uint8), tmp_path / "labels.nii.gz", read.properties)
    assert SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz")).GetSpacing() == places[0][:3]


@pytest.mark.parametrize("scale", [0, 2])
def test_dimensions_that_itk_would_leave_out_are_refused(tmp_path: Path, scale: float) -> None:
    """Of a file whose numbers are told to be vectors it looks at five dimensions only."""
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4, 4, 1, 1, 5), np.int16), np.eye(4))
    image.header.set_intent("vector")
    path = tmp_path / "image.nii"
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:116] = np.array(scale, "<f4").tobytes()
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"2, 3 or 4 dimensions.* 7\b"):
        itk.read_file(path)


def test_no_copy_of_a_header_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "image.nii.gz"
    write(path, np.random.default_rng(0), (3, 4, 5), "i2", "<")
    itk.read_file(path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(ImageError, match=r"472 bytes.* 471\b"):
        itk.read_file(path)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_files_are_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    itk._place_by_itk.cache_clear()
    path = tmp_path / "image.nii.gz"
    write(path, np.random.default_rng(0), (3, 4, 5), "i2", "<")
    assert np.array_equal(itk.read_file(path).array[0], as_itk_reads(path)[0])
    itk._place_by_itk.cache_clear()


@examples(60)
@given(cuts=st.lists(st.integers(0, 240), max_size=8), number_type=st.sampled_from([">i2", "<i2", "<f4", ">f8"]))
def test_numbers_cut_by_the_pieces_are_put_together(cuts: list[int], number_type: str) -> None:
    voxels = np.random.default_rng(0).integers(-99, 99, 25).astype(number_type)
    content = b"h" * 17 + voxels.tobytes() + b"surplus"
    taken = PlainVoxels(number_type=number_type, header_bytes=17, num_voxels=25)
    for first, end in pairwise([0, *sorted(cuts), len(content)]):
        taken.take(content[first:end])
    assert np.array_equal(taken.array, voxels)
