"""No damaged file is read as if it were whole, and each gets an error that names it."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from imageio import v3 as imageio

from segwright.errors import ImageError, MissingFileError
from segwright.io import reader_named

NOISE = np.random.default_rng(0).normal(size=(12, 30, 31)).astype(np.float32)
BYTES = np.random.default_rng(0).integers(0, 255, (1, 60, 61)).astype(np.uint8)


def write_whole(path: Path, *, compress: bool = True) -> None:
    ending = "".join(path.suffixes)
    if ending in (".png", ".bmp"):
        imageio.imwrite(path, BYTES[0])
    elif ending == ".tif":
        tifffile.imwrite(path, NOISE, compression="zlib")
    elif ending == ".nii":
        nibabel.save(nibabel.Nifti1Image(NOISE, np.eye(4)), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(path), useCompression=compress)


CASES = [
    ("SimpleITKIO", ".nii.gz", True),
    ("NibabelIO", ".nii.gz", True),
    ("NibabelIOWithReorient", ".nii.gz", True),
    ("SimpleITKIOWithReorient", ".nii.gz", True),
    ("SimpleITKIO", ".nrrd", True),
    ("SimpleITKIO", ".nrrd", False),
    ("SimpleITKIO", ".mha", True),
    ("SimpleITKIO", ".mha", False),
    ("SimpleITKIO", ".gipl", False),
    ("NibabelIO", ".nii", False),
    ("SimpleITKIO", ".nii", False),
    ("NaturalImage2DIO", ".png", True),
    ("NaturalImage2DIO", ".bmp", False),
    ("Tiff3DIO", ".tif", True),
]


@pytest.mark.parametrize(("name", "ending", "compress"), CASES)
@pytest.mark.parametrize("kept", [0.5, 0.98, 0.01])
@pytest.mark.filterwarnings("default")
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, ending: str, compress: bool, kept: float) -> None:
    path = tmp_path / f"case_0000{ending}"
    write_whole(path, compress=compress)
    reader_named(name).read_image([path])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ImageError, match=rf"case_0000{ending}"):
        reader_named(name).read_image([path])


@pytest.mark.parametrize(("name", "ending", "compress"), [case for case in CASES if case[2]])
@pytest.mark.filterwarnings("default")
def test_a_flipped_bit_in_compressed_voxels_is_refused(tmp_path: Path, name: str, ending: str, compress: bool) -> None:
    path = tmp_path / f"case_0000{ending}"
    write_whole(path, compress=compress)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match=rf"case_0000{ending}"):
        reader_named(name).read_image([path])


@pytest.mark.parametrize(("name", "compressed"), [("SimpleITKIO", True), ("SimpleITKIO", False), ("NibabelIO", True)])
def test_a_header_that_claims_terabytes_is_refused_before_anything_is_allocated(
    tmp_path: Path, name: str, compressed: bool
) -> None:
    header = bytearray(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)).to_bytes())
    struct.pack_into("<4h", header, 40, 3, 30000, 30000, 30000)
    path = tmp_path / "case_0000.nii.gz"
    path.write_bytes(gzip.compress(bytes(header)) if compressed else bytes(header))
    with pytest.raises(ImageError, match=rf"{path.name}.* {path.stat().st_size} bytes"):
        reader_named(name).read_image([path])


def test_a_gzip_file_that_lacks_voxels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case_0000.nii.gz"
    write_whole(path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-4]))
    with pytest.raises(ImageError, match=rf"{NOISE.nbytes + 352} bytes.* {NOISE.nbytes + 348}"):
        reader_named("SimpleITKIO").read_image([path])


def test_gzip_files_of_several_members_or_with_padding_are_read(tmp_path: Path) -> None:
    path = tmp_path / "case_0000.nii.gz"
    write_whole(path)
    content = gzip.decompress(path.read_bytes())
    expected = reader_named("NibabelIO").read_image([path]).array
    path.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]) + bytes(100))
    np.testing.assert_array_equal(reader_named("SimpleITKIO").read_image([path]).array, expected)


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO"])
@pytest.mark.parametrize("content", [b"", b"not an image at all\n" * 50, bytes(5000)])
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / f"case_0000{reader_named(name).file_endings[0]}"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=path.name):
        reader_named(name).read_image([path])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "case_0000.nii.gz")
    with pytest.raises(ImageError, match=r"case_0000\.nii\.gz"):
        reader_named("SimpleITKIO").read_image([tmp_path / "case_0000.nii.gz"])


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO"])
def test_folders_and_links_to_nothing_are_told(tmp_path: Path, name: str) -> None:
    ending = reader_named(name).file_endings[0]
    (tmp_path / f"folder_0000{ending}").mkdir()
    with pytest.raises(ImageError, match="folder_0000"):
        reader_named(name).read_image([tmp_path / f"folder_0000{ending}"])
    (tmp_path / f"link_0000{ending}").symlink_to("gone")
    with pytest.raises(MissingFileError, match="link_0000"):
        reader_named(name).read_image([tmp_path / f"link_0000{ending}"])


def test_long_lines_of_an_nrrd_header_are_refused_by_their_number_or_read(tmp_path: Path) -> None:
    path = tmp_path / "case_0000.nrrd"
    write_whole(path)
    whole, expected = path.read_bytes(), reader_named("SimpleITKIO").read_image([path]).array
    for line in (b"content: ", b"# ", b"key:="):
        path.write_bytes(whole.replace(b"endian", line + b"x" * 5000 + b"\nendian"))
        np.testing.assert_array_equal(reader_named("SimpleITKIO").read_image([path]).array, expected)
    path.write_bytes(whole.replace(b"endian: little", b"endian: little" + b" " * 887))
    with pytest.raises(ImageError, match=r"case_0000\.nrrd.* 900 bytes.* 902 .*line 10\b"):
        reader_named("SimpleITKIO").read_image([path])


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO"])
def test_a_name_that_is_not_utf8_is_refused_before_itk_dies_of_it(tmp_path: Path, name: str) -> None:
    reader = reader_named(name)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller_0000" + reader.file_endings[0].encode()))
    said = r"M\\udcfcller_0000.*UTF-8"
    with pytest.raises(ImageError, match=said):
        reader.read_image([path])
    with pytest.raises(ImageError, match=said):
        reader.write_labels(np.zeros((3, 4, 5), np.uint8), path, {})


def test_an_nrrd_file_too_deep_in_folders_is_refused(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["f" * 200] * 4)
    folder.mkdir(parents=True)
    write_whole(tmp_path / "case_0000.nrrd")
    (tmp_path / "case_0000.nrrd").rename(folder / "case_0000.nrrd")
    with pytest.raises(ImageError, match=r"case_0000\.nrrd.* 700 bytes"):
        reader_named("SimpleITKIO").read_image([folder / "case_0000.nrrd"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "case_0000.nii.gz"
    write_whole(path)
    path.chmod(0)
    with pytest.raises(ImageError, match=r"case_0000\.nii\.gz"):
        reader_named("SimpleITKIO").read_image([path])


def test_skewed_axes_come_with_a_remedy(tmp_path: Path) -> None:
    affine = np.array([[1.0, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_qform(None, code=0)
    image.set_sform(affine, code=1)
    nibabel.save(image, tmp_path / "case_0000.nii.gz")
    with pytest.raises(ImageError, match="NibabelIO"):
        reader_named("SimpleITKIO").read_image([tmp_path / "case_0000.nii.gz"])


def test_zero_spacing_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "case_0000.tif", NOISE)
    (tmp_path / "case.json").write_text('{"spacing": [0, 1, 1]}')
    with pytest.raises(ImageError, match=r"spacing.*\(0\.0, 1\.0, 1\.0\)"):
        reader_named("Tiff3DIO").read_image([tmp_path / "case_0000.tif"])
