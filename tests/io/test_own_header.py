"""A label map lies, by its header, exactly where its image does, however odd the image's header is."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from imageio import v3 as imageio
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image

from segwright.io import reader_named
from segwright.io.own_header import KEY
from segwright.io.safe_pickle import PROTOCOL, loads_pickle

ITK, ITK_TURNED = "SimpleITKIO", "SimpleITKIOWithReorient"
NIBABEL, NIBABEL_TURNED = "NibabelIO", "NibabelIOWithReorient"
SHAPE_XYZ = (4, 5, 6)
GEOMETRY_FIELDS = ("dim_info", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c")
GEOMETRY_FIELDS += ("quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def affine(
    spacing: tuple[float, ...] = (1.5, 2.0, 3.0), angles: tuple[float, ...] = (), signs: tuple[int, ...] = (1, 1, 1)
) -> np.ndarray:
    axes = np.diag(np.multiply(spacing, signs)).astype(float)
    for axis, angle in enumerate(angles):
        turn, (first, second) = np.eye(3), [other for other in range(3) if other != axis]
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        axes = turn @ axes
    return np.block([[axes, np.array([[-91.3], [0.1], [7.7]])], [np.zeros((1, 3)), np.ones((1, 1))]])


@dataclass(frozen=True)
class Nifti:
    """A NIfTI file with a header that most writers would not write."""

    what: str
    sform: np.ndarray = field(default_factory=affine)
    qform: np.ndarray = field(default_factory=affine)
    codes: tuple[int, int] = (1, 1)
    readers: tuple[str, ...] = (ITK, ITK_TURNED, NIBABEL, NIBABEL_TURNED)
    fields: dict[str, Any] = field(default_factory=dict)
    pixdim: tuple[float, ...] | None = None
    shape: tuple[int, ...] = SHAPE_XYZ
    order: str = "<"
    ending: str = ".nii.gz"
    kind: Any = Nifti1Image

    def write(self, path: Path) -> None:
        header = self.kind.header_class(endianness=self.order)
        header.set_data_dtype(np.int16)
        voxels = np.arange(np.prod(self.shape), dtype=np.int16).reshape(self.shape)
        image = self.kind(voxels, None, header)
        image.set_sform(self.sform, 1)
        image.set_qform(self.qform, 1)
        for name, value in self.fields.items():
            image.header[name] = value
        image.header["descrip"] = "somebody's name"
        content = bytearray(image.to_bytes())
        is_first, order = self.kind is Nifti1Image, self.order
        struct.pack_into(f"{order}2{'h' if is_first else 'i'}", content, 252 if is_first else 344, *self.codes)
        if self.pixdim is not None:
            struct.pack_into(f"{order}4f", content, 76, *self.pixdim)
        path.write_bytes(gzip.compress(bytes(content)) if self.ending == ".nii.gz" else bytes(content))


OBLIQUE = affine(angles=(0.1, -0.2, 0.3))
INEXACT = affine((0.1, 0.7, 3.3), (0.4, 0.2, -0.3))
ELSEWHERE = affine((1.5, 2.0, 3.0), (0.0, 0.0, 0.5))
ALONE = (NIBABEL, NIBABEL_TURNED)
NIFTI = (
    Nifti("plain"),
    Nifti("oblique", OBLIQUE, OBLIQUE),
    Nifti("oblique, numbers that floats do not hold", INEXACT, INEXACT),
    Nifti("oblique, not packed", INEXACT, INEXACT, ending=".nii"),
    Nifti("oblique, the other order of bytes", INEXACT, INEXACT, order=">"),
    Nifti("the other order of bytes, not packed", INEXACT, INEXACT, order=">", ending=".nii"),
    Nifti("left-handed", affine(signs=(-1, 1, 1)), affine(signs=(-1, 1, 1))),
    Nifti("all axes turned round", affine(signs=(-1, -1, -1)), affine(signs=(-1, -1, -1))),
    Nifti("axes in another order", affine()[[1, 2, 0, 3]], affine()[[1, 2, 0, 3]]),
    Nifti("tiny voxels", affine((1e-5, 2e-5, 3e-5)), affine((1e-5, 2e-5, 3e-5))),
    Nifti("huge voxels", affine((1e5, 2e5, 3e5)), affine((1e5, 2e5, 3e5))),
    Nifti("sform only", INEXACT, INEXACT, (0, 1)),
    Nifti("sform only, of an atlas", INEXACT, INEXACT, (0, 4)),
    Nifti("qform only", INEXACT, INEXACT, (1, 0)),
    Nifti("qform only, beside another sform", ELSEWHERE, INEXACT, (2, 0)),
    Nifti("neither, beside both", OBLIQUE, OBLIQUE, (0, 0)),
    Nifti("two places, sform of the scanner", ELSEWHERE, affine(), (2, 1)),
    Nifti("two places, sform of an atlas", ELSEWHERE, OBLIQUE, (1, 4)),
    Nifti("pixdim unlike sform", INEXACT, INEXACT, (1, 1), pixdim=(1, 0.4, 0.5, 2.5)),
    Nifti("pixdim unlike sform alone", OBLIQUE, OBLIQUE, (0, 2), pixdim=(1, 0.4, 0.5, 2.5)),
    Nifti("a hand that is none", OBLIQUE, OBLIQUE, (1, 0), pixdim=(0.5, 1.5, 2, 3)),
    Nifti("skewed sform beside a qform", affine() + 0.2 * np.eye(4, k=1) * np.eye(4)[:, :1], affine(), (1, 2)),
    Nifti("skewed sform alone", affine() + 0.2 * np.eye(4, k=1) * np.eye(4)[:, :1], affine(), (0, 2), ALONE),
    Nifti("millimetres and seconds", INEXACT, INEXACT, fields={"xyzt_units": 10}),
    Nifti("micrometres", INEXACT, INEXACT, fields={"xyzt_units": 3}),
    Nifti("metres", INEXACT, INEXACT, fields={"xyzt_units": 1}),
    Nifti("an unknown unit", INEXACT, INEXACT, fields={"xyzt_units": 5}),
    Nifti("axes named for the scanner", INEXACT, INEXACT, fields={"dim_info": 57}),
    Nifti("a slice", INEXACT, INEXACT, shape=(4, 5, 1)),
    Nifti("2D", affine(), affine(), readers=(ITK,), shape=(4, 5)),
    Nifti("2D, both codes 0", affine(), affine(), (0, 0), (ITK,), shape=(4, 5)),
    Nifti("channels in 4D", INEXACT, INEXACT, readers=(ITK,), shape=(4, 5, 6, 3), fields={"xyzt_units": 10}),
    Nifti("4D of one channel", INEXACT, INEXACT, readers=(ITK, ITK_TURNED), shape=(4, 5, 6, 1)),
    Nifti("NIfTI-2", INEXACT, INEXACT, readers=ALONE, kind=Nifti2Image),
    Nifti("NIfTI-2, the other order of bytes", INEXACT, INEXACT, (1, 4), ALONE, order=">", kind=Nifti2Image),
)
OBLIQUE_LINE = "space directions: (0.095,0.029,0) (-0.2068641446,0.66873554238,0) (0,0,3.3)"
NRRD = {
    "LPS": ["space: left-posterior-superior", OBLIQUE_LINE, "space origin: (0.1,-33.3,1e-3)"],
    "RAS": ["space: right-anterior-superior", OBLIQUE_LINE, "space origin: (0.1,-33.3,1e-3)"],
    "LAS in short": ["space: LAS", OBLIQUE_LINE, "space origin: (0.1,-33.3,1e-3)"],
    "no known space": ["space dimension: 3", OBLIQUE_LINE],
    "scanner-xyz, with kinds": ["kinds: space space space", "space: scanner-xyz", OBLIQUE_LINE],
    "tiny voxels": ["space: LPS", "space directions: (0.00001,0,0) (0,0.00002,0) (0,0,100000)"],
    "spacings alone": ["spacings: 0.1 0.7 3.3"],
    "an axis turned round": ["spacings: -0.1 0.7 3.3"],
    "units": ["space: LPS", 'space units: "um" "um" "um"', OBLIQUE_LINE],
    "skewed": ["space: LPS", "space directions: (1,0.3,0) (0,2,0) (0,0,3)"],
}
ROTATION = "TransformMatrix = 0.955336489125606 0.29552020666133955 0 -0.29552020666133955 0.955336489125606 0 0 0 1"
METAIMAGE = {
    "plain": ["ElementSpacing = 0.1 0.7 3.123456789012345", "Offset = 0.1 -33.3 1e-7"],
    "rotated about a centre": ["CenterOfRotation = 1 2 3", ROTATION, "ElementSpacing = 0.1 0.7 3.3"],
    "an orientation that says otherwise": ["AnatomicalOrientation = LPS", ROTATION, "ElementSpacing = 0.1 0.7 3.3"],
    "old names": ["Orientation = 0 1 0 1 0 0 0 0 1", "Position = 1 2 3.3", "ElementSize = 0.1 0.7 3.3"],
    "units": ["DistanceUnits = um", "ElementSpacing = 0.1 0.7 3.3"],
}
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(6, 5, 4)


def write_nrrd(path: Path, lines: list[str], voxels: np.ndarray = VOXELS) -> None:
    sizes = " ".join(map(str, voxels.shape[::-1]))
    head = ["NRRD0004", "type: short", f"dimension: {voxels.ndim}", f"sizes: {sizes}", "endian: little"]
    path.write_bytes("\n".join([*head, "encoding: raw", *lines, "", ""]).encode() + voxels.tobytes())


def write_metaimage(path: Path, lines: list[str]) -> None:
    head = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False", "DimSize = 4 5 6"]
    tail = ["ElementType = MET_SHORT", "ElementDataFile = LOCAL", ""]
    path.write_bytes("\n".join([*head, *lines, *tail]).encode() + VOXELS.tobytes())


def write_gipl(path: Path) -> None:
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing((0.1, 0.7, 3.3))
    image.SetOrigin((0.1, -33.3, 1e-3))
    SimpleITK.WriteImage(image, str(path))


def write_stack(path: Path) -> None:
    tifffile.imwrite(path, VOXELS, photometric="minisblack")
    (path.parent / "case.json").write_text('{"spacing": [3.3, 0.7, 0.1]}')


def cases() -> Iterator[Any]:
    for nifti in NIFTI:
        for reader in nifti.readers:
            yield pytest.param(reader, nifti.ending, nifti.write, id=f"{nifti.what}-{reader}")
    for what, lines in NRRD.items():
        for reader in (ITK, ITK_TURNED) if "skewed" not in what else (ITK,):
            yield pytest.param(
                reader, ".nrrd", lambda path, lines=lines: write_nrrd(path, lines), id=f"{what}-{reader}"
            )
    for what, lines in METAIMAGE.items():
        for reader in (ITK, ITK_TURNED):
            yield pytest.param(reader, ".mha", lambda path, lines=lines: write_metaimage(path, lines), id=what + reader)
    yield pytest.param(ITK, ".nrrd", lambda path: write_nrrd(path, [], VOXELS[0]), id="NRRD in 2D")
    four = np.stack([VOXELS, VOXELS])
    yield pytest.param(ITK, ".nrrd", lambda path: write_nrrd(path, ["spacings: 0.1 0.7 3.3 1"], four), id="NRRD in 4D")
    yield pytest.param(ITK, ".gipl", write_gipl, id="GIPL")
    yield pytest.param("Tiff3DIO", ".tif", write_stack, id="TIFF")
    yield pytest.param("NaturalImage2DIO", ".png", lambda path: imageio.imwrite(path, VOXELS[0].astype("u1")), id="PNG")


def place_by_itk(path: Path) -> tuple[tuple[float, ...], ...]:
    """Spacing, origin and direction of the axes in space, as nnU-Net's reader sees them."""
    image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() == 4:
        size = [*image.GetSize()[:3], 0]
        image = SimpleITK.Extract(image, size, [0] * 4)
    return image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@pytest.mark.parametrize("highest", [2, 300])
@pytest.mark.parametrize(("reader_name", "ending", "write"), list(cases()))
def test_a_label_map_has_the_geometry_of_its_image(
    tmp_path: Path, reader_name: str, ending: str, write: Callable[[Path], None], highest: int
) -> None:
    source, written = tmp_path / f"case_0000{ending}", tmp_path / f"case{ending}"
    write(source)
    reader = reader_named(reader_name)
    image = reader.read_image([source])
    label_map = np.random.default_rng(0).integers(0, highest + 1, image.array.shape[1:])
    label_map.flat[-1] = highest
    stored = pickle.dumps(image.properties, protocol=PROTOCOL)  # as beside a preprocessed case
    reader.write_labels(label_map, written, loads_pickle(stored, where="properties"))
    read = reader.read_labels(written)
    np.testing.assert_array_equal(read.array[0], label_map)
    assert read.geometry == image.geometry
    if ending in (".nii", ".nii.gz"):
        own, wanted = nibabel.load(written).header, nibabel.load(source).header
        assert type(own) is type(wanted)
        for name in GEOMETRY_FIELDS:
            assert own[name].tobytes() == wanted[name].tobytes(), name
        assert own["descrip"] == b""
    if reader_name in (ITK, ITK_TURNED):
        assert place_by_itk(written) == place_by_itk(source)


def test_there_are_enough_odd_headers() -> None:
    assert len(NIFTI) + len(NRRD) + len(METAIMAGE) > 40


@pytest.mark.parametrize("reader_name", [ITK, ITK_TURNED, NIBABEL, NIBABEL_TURNED])
@pytest.mark.parametrize("without", ["the header", "nothing"])
def test_where_the_properties_say_otherwise_the_header_is_not_believed(
    tmp_path: Path, reader_name: str, without: str
) -> None:
    """As in what nnU-Net or an older version preprocessed, and where the place was changed since."""
    Nifti("plain").write(tmp_path / "case_0000.nii.gz")
    Nifti("moved", affine((1, 2, 3)), affine((1, 2, 3))).write(tmp_path / "other_0000.nii.gz")
    reader = reader_named(reader_name)
    image, other = (reader.read_image([tmp_path / f"{name}_0000.nii.gz"]) for name in ("case", "other"))
    properties = dict(image.properties)
    if without == "the header":
        del properties[KEY]
    else:
        properties[KEY] = other.properties[KEY]
    reader.write_labels(np.zeros(image.array.shape[1:], np.uint8), tmp_path / "case.nii.gz", properties)
    written = reader.read_labels(tmp_path / "case.nii.gz").geometry
    assert written.same_spacing(image.geometry)
    assert written.same_position(image.geometry)
