"""What a header says that cannot be meant is a doubt; an image whose voxel size nobody gave is refused."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from segwright.errors import ImageError
from segwright.io import Image, reader_named

READERS = ("SimpleITKIO", "NibabelIO")
VOXELS = np.arange(1, 121, dtype=np.int16).reshape(6, 5, 4)
AFFINE = np.array([[1.5, 0, 0, -91], [0, 2, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]])
TURNED = np.array([[0, -2.0, 0, -91], [1.5, 0, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]])
NAN, INFINITE = float("nan"), float("inf")
# Offsets and forms of fields of NIfTI-1.
SCALE, PIXDIM, UNITS, QUATERNION = (112, "<2f"), (80, "<3f"), (123, "<B"), (256, "<3f")
SPACE = ["space: left-posterior-superior", "space directions: (1.5,0,0) (0,2,0) (0,0,3)", "space origin: (1,2,3)"]
PLACE = ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 1 2 3", "ElementSpacing = 1.5 2 3"]


def write_nifti(
    path: Path,
    field: tuple[int, str] | None = None,
    values: tuple[float, ...] = (),
    *,
    codes: tuple[int, int] = (1, 1),
    sform: np.ndarray = AFFINE,
    shape: tuple[int, ...] = (4, 5, 6),
) -> Path:
    image = nibabel.Nifti1Image(np.resize(VOXELS, shape), None)
    image.set_qform(AFFINE, 1)
    image.set_sform(sform, 1)
    content = bytearray(image.to_bytes())
    struct.pack_into("<2h", content, 252, *codes)  # nibabel would not write 0 for both
    if field is not None:
        struct.pack_into(field[1], content, field[0], *values)
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def write_nrrd(
    path: Path, lines: list[str], voxels: np.ndarray = VOXELS, *, surplus: int = 0, packed: bool = False
) -> Path:
    sizes = " ".join(map(str, voxels.shape[::-1]))
    head = ["NRRD0004", "type: short", f"dimension: {voxels.ndim}", f"sizes: {sizes}", "endian: little"]
    content = voxels.tobytes() + bytes(surplus)
    encoding = f"encoding: {'gzip' if packed else 'raw'}"
    body = gzip.compress(content) if packed else content
    path.write_bytes("\n".join([*head, encoding, *lines, "", ""]).encode() + body)
    return path


def write_metaimage(
    path: Path, lines: list[str], sizes: str = "4 5 6", *, surplus: int = 0, packed: bool = False
) -> Path:
    content = VOXELS.tobytes() + bytes(surplus)
    body = zlib.compress(content) if packed else content
    head = [
        "ObjectType = Image",
        f"NDims = {len(sizes.split())}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
    ]
    if packed:
        head += ["CompressedData = True", f"CompressedDataSize = {len(body)}"]
    tail = [f"DimSize = {sizes}", "ElementType = MET_SHORT", "ElementDataFile = LOCAL", ""]
    path.write_bytes("\n".join([*head, *lines, *tail]).encode() + body)
    return path


def read(path: Path, reader: str = "SimpleITKIO") -> Image:
    return reader_named(reader).read_image([path])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("values", [(0, 0), (1, 0), (2, 5)])
@pytest.mark.parametrize("unit", [0, 2, 10])
def test_sound_headers_raise_no_doubt(tmp_path: Path, reader: str, values: tuple[float, ...], unit: int) -> None:
    path = write_nifti(tmp_path / "a_0000.nii.gz", SCALE, values)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[UNITS[0]] = unit
    path.write_bytes(gzip.compress(bytes(content)))
    assert read(path, reader).doubts == ()


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (2, 4)])
def test_one_place_is_enough(tmp_path: Path, codes: tuple[int, int]) -> None:
    assert read(write_nifti(tmp_path / "a_0000.nii", codes=codes)).doubts == ()


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ((NAN, 0), "scl_slope"),
        ((INFINITE, 0), "scl_slope"),
        ((-INFINITE, 0), "scl_slope"),
        ((1e-30, 0), "scl_slope"),
        ((0, 5), "scl_inter"),
        ((2, NAN), "scl_inter"),
        ((2, INFINITE), "scl_inter"),
    ],
)
def test_a_scale_that_is_none_is_a_doubt(tmp_path: Path, values: tuple[float, ...], key: str) -> None:
    path = write_nifti(tmp_path / "a_0000.nii", SCALE, values)
    image = read(path)
    (doubt,) = image.doubts
    assert doubt.path == path
    assert key in doubt.what
    # Read as by nnU-Net, without a voxel that is made up.
    np.testing.assert_array_equal(image.array[0], SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    if np.isfinite(values[0]) and not np.isfinite(values[1]):
        with pytest.raises(ImageError):
            read(path, "NibabelIO")
    else:
        assert [each.what for each in read(path, "NibabelIO").doubts] == [doubt.what]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"field": UNITS, "values": (3,)}, ["xyzt_units"]),
        ({"field": UNITS, "values": (1,)}, ["xyzt_units"]),
        ({"field": UNITS, "values": (5,)}, ["xyzt_units"]),
        ({"field": PIXDIM, "values": (1.5, 2, 4)}, ["pixdim", "(1.5, 2, 4)", "(1.5, 2, 3)"]),
        ({"field": PIXDIM, "values": (1.5, 2, 4), "codes": (0, 2)}, ["pixdim", "(1.5, 2, 4)", "(1.5, 2, 3)"]),
        ({"sform": AFFINE + 2 * np.eye(4, k=3)}, ["qform", "sform"]),
        ({"sform": AFFINE * [[-1], [1], [1], [1]], "codes": (1, 4)}, ["qform", "sform"]),
        ({"sform": TURNED}, ["qform", "sform"]),
        ({"field": QUATERNION, "values": (0.9, 0.9, 0)}, ["quatern_b"]),
        ({"codes": (0, 0)}, ["qform_code", "sform_code"]),
    ],
)
def test_a_place_that_is_not_sure_is_a_doubt(
    tmp_path: Path, reader: str, arguments: dict[str, Any], words: list[str]
) -> None:
    (doubt,) = read(write_nifti(tmp_path / "a_0000.nii", **arguments), reader).doubts
    assert all(word in doubt.what for word in words)


def test_the_unit_is_that_of_the_spacing_as_for_nnunet(tmp_path: Path) -> None:
    assert read(write_nifti(tmp_path / "a_0000.nii", UNITS, (3,))).geometry.spacing_mm == (0.003, 0.002, 0.0015)


def test_a_flat_nifti_needs_no_place(tmp_path: Path) -> None:
    assert read(write_nifti(tmp_path / "a_0000.nii", shape=(4, 5), codes=(0, 0))).doubts == ()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("write", [write_nrrd, write_metaimage])
def test_bytes_after_the_last_voxel_are_a_doubt(tmp_path: Path, write: Any, packed: bool) -> None:
    path = tmp_path / ("a_0000.nrrd" if write is write_nrrd else "a_0000.mha")
    lines = SPACE if write is write_nrrd else PLACE
    assert read(write(path, lines, packed=packed)).doubts == ()
    image = read(write(path, lines, packed=packed, surplus=40))
    np.testing.assert_array_equal(image.array[0], VOXELS)
    (doubt,) = image.doubts
    assert "40 bytes" in doubt.what
    # A whole image more than the sizes say, as where a digit of them is damaged.
    many = "4 5 6" if write is write_metaimage else VOXELS
    (doubt,) = read(write(path, lines, many, packed=packed, surplus=VOXELS.nbytes)).doubts
    assert f"{VOXELS.nbytes} bytes" in doubt.what


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_bytes_after_the_last_voxel_of_a_nifti_file_are_a_doubt(tmp_path: Path, reader: str, ending: str) -> None:
    path = write_nifti(tmp_path / f"a_0000{ending}")
    content = path.read_bytes() if ending == ".nii" else gzip.decompress(path.read_bytes())
    path.write_bytes(content + bytes(40) if ending == ".nii" else gzip.compress(content + bytes(40)))
    (doubt,) = read(path, reader).doubts
    assert "40 bytes" in doubt.what


def test_voxels_beside_the_header_are_counted(tmp_path: Path) -> None:
    path = write_metaimage(tmp_path / "a_0000.mhd", PLACE)
    header = path.read_bytes().split(b"LOCAL")[0]
    path.write_bytes(header + b"a.raw\n")
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes() + bytes(20))
    (doubt,) = read(path).doubts
    assert "20 bytes" in doubt.what


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["spacings: 1.5 2 3"], "space directions"),
        (SPACE[:2], "space origin"),
        (["space dimension: 3", *SPACE[1:]], "space"),
        ([SPACE[0].replace("left-posterior-superior", "scanner-xyz"), *SPACE[1:]], "scanner-xyz"),
        ([SPACE[0], 'space units: "um" "um" "um"', *SPACE[1:]], "um"),
    ],
)
def test_what_an_nrrd_header_leaves_open_is_a_doubt(tmp_path: Path, lines: list[str], word: str) -> None:
    (doubt,) = read(write_nrrd(tmp_path / "a_0000.nrrd", lines)).doubts
    assert word in doubt.what


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (PLACE[:1] + PLACE[2:], "Offset"),
        (PLACE[1:], "TransformMatrix"),
        ([*PLACE, "DistanceUnits = um"], "um"),
        ([*PLACE, "CenterOfRotatiom = 1 2 3"], "CenterOfRotatiom"),
        ([*PLACE[1:], "TransformMatrix = 1 0.3 0 0 1 0 0 0 1"], "TransformMatrix"),
        ([*PLACE[1:], "TransformMatrix = 2 0 0 0 1 0 0 0 1"], "TransformMatrix"),
    ],
)
def test_what_a_metaimage_header_leaves_open_is_a_doubt(tmp_path: Path, lines: list[str], word: str) -> None:
    (doubt,) = read(write_metaimage(tmp_path / "a_0000.mha", lines)).doubts
    assert word in doubt.what


def test_keys_of_ones_own_are_no_doubt(tmp_path: Path) -> None:
    path = write_metaimage(
        tmp_path / "a_0000.mha", [*PLACE, "Scanner = a", "0008|0060 = CT", "ITK_original_spacing = 1"]
    )
    assert read(path).doubts == ()


NO_SPACING = [
    (".nrrd", []),
    (".nrrd", [SPACE[0], SPACE[2]]),
    (".nrrd", ["spacings: nan nan nan"]),
    (".nrrd", ["spacings: 1 NaN 2"]),
    (".nrrd", [SPACE[0], "space directions: none (0,2,0) (0,0,3)", SPACE[2]]),
    (".nrrd", ["spacings:=1 2 3"]),
    (".nrrd", ["spacinfs: 1 2 3"]),
    (".nrrd", ["spacings: 1.5 2q5 3"]),
    (".mha", []),
    (".mha", PLACE[:2]),
    (".mha", [*PLACE[:2], "ElementSpacinf = 1 2 3"]),
    (".mha", [PLACE[0], "Offseu = 1 2 3", PLACE[2]]),
    (".mha", ["TransformMatriy = 1 0 0 0 1 0 0 0 1", *PLACE[1:]]),
]


@pytest.mark.parametrize(("ending", "lines"), NO_SPACING)
def test_an_image_whose_geometry_would_be_made_up_is_refused(tmp_path: Path, ending: str, lines: list[str]) -> None:
    path = tmp_path / f"a_0000{ending}"
    (write_nrrd if ending == ".nrrd" else write_metaimage)(path, lines)
    with pytest.raises(ImageError, match=path.name):
        read(path)


@pytest.mark.parametrize(("ending", "lines"), [(".nrrd", []), (".mha", [])])
def test_a_label_map_without_spacing_is_read_so_that_it_can_be_fixed(
    tmp_path: Path, ending: str, lines: list[str]
) -> None:
    path = tmp_path / f"a{ending}"
    (write_nrrd if ending == ".nrrd" else write_metaimage)(path, lines)
    assert reader_named("SimpleITKIO").read_labels(path).geometry.spacing_mm == (1.0, 1.0, 1.0)


def test_a_flat_image_needs_no_spacing(tmp_path: Path) -> None:
    assert read(write_nrrd(tmp_path / "a_0000.nrrd", [], VOXELS[0])).doubts == ()
    assert read(write_nrrd(tmp_path / "b_0000.nrrd", [], VOXELS[:1])).doubts == ()
    assert read(write_metaimage(tmp_path / "a_0000.mha", [], "4 30")).doubts == ()


@pytest.mark.parametrize("bits", [(0, 5), pytest.param(range(8), marks=pytest.mark.slow)])
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_no_flipped_bit_in_a_key_passes_in_silence(tmp_path: Path, ending: str, bits: Sequence[int]) -> None:
    """It is refused, a doubt, or changes nothing."""
    path = tmp_path / f"a_0000{ending}"
    if ending == ".nrrd":
        write_nrrd(path, SPACE)
        content, separator = path.read_bytes(), b":"
        header = content[: content.index(b"\n\n")]
    else:
        write_metaimage(path, [*PLACE, "CenterOfRotation = 1 2 3", "AnatomicalOrientation = RAI"])
        content, separator = path.read_bytes(), b" ="
        header = content[: content.index(b"LOCAL")]
    whole = read(path)
    assert whole.doubts == ()
    place, silent = 0, []
    for line in header.split(b"\n"):
        for position in range(line.find(separator)):
            for bit in bits:
                flipped = bytearray(content)
                flipped[place + position] ^= 1 << bit
                path.write_bytes(flipped)
                try:
                    image = read(path)
                except ImageError:
                    continue
                same = image.geometry == whole.geometry and np.array_equal(image.array, whole.array)
                if not image.doubts and not same:
                    silent.append(bytes(flipped[place : place + len(line)]))
        place += len(line) + 1
    assert silent == []
