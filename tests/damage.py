"""Damaged image files by the hundred, made from whole ones: the same seed makes the same files."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import SimpleITK
import tifffile
from imageio import v3 as imageio

# What may come of reading one: an error; an error or exactly what the whole file holds; an error or any sane image.
Verdict = Literal["refused", "refused or right", "refused or sane"]

ITK = ("SimpleITKIO",)
NIFTI = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient")
NIFTI_HEADER_BYTES = 352
SHAPE = (5, 6, 7)
VOXELS = np.random.default_rng(7).normal(100, 30, SHAPE).astype(np.float32)
PIXELS = np.random.default_rng(8).integers(0, 255, (24, 20)).astype(np.uint8)
COLOURS = np.random.default_rng(9).integers(0, 255, (12, 10, 3)).astype(np.uint8)
SPACING_XYZ = (0.75, 0.5, 2.5)
# Of cases that are whole; no name may end anything.
STRANGE_NAMES = ("with space", "ünïcode 日本", "dots. and + (1)", "quote'\"", "%s{0}")
SPACING_FILE = b'{"spacing": [2.5, 0.5, 0.75]}'


@dataclass(frozen=True)
class Specimen:
    """A file to write as ``case_0000ENDING``, the files that belong beside it, and who is to read it."""

    what: str
    ending: str
    content: bytes
    verdict: Verdict
    readers: tuple[str, ...]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    right: np.ndarray = field(default_factory=lambda: VOXELS)

    def write(self, folder: Path) -> Path:
        """Write the files into a folder of their own and say where the image is."""
        folder.mkdir(parents=True)
        path = folder / f"case_0000{self.ending}"
        path.write_bytes(self.content)
        for name, content in self.beside.items():
            (folder / name).write_bytes(content)
        return path


@dataclass(frozen=True)
class Whole:
    """A whole file; the first `header_bytes` are its header. `checked` says what of it a checksum covers."""

    what: str
    ending: str
    content: bytes
    readers: tuple[str, ...]
    header_bytes: int
    checked: Literal["nothing", "voxels", "all"] = "nothing"
    beside: Mapping[str, bytes] = field(default_factory=dict)
    right: np.ndarray = field(default_factory=lambda: VOXELS)

    def changed(self, what: str, content: bytes, verdict: Verdict) -> Specimen:
        return Specimen(f"{self.what}: {what}", self.ending, content, verdict, self.readers, self.beside, self.right)


def nifti(
    array: np.ndarray = VOXELS, *, sform: bool = True, spacing_xyz: tuple[float, ...] = SPACING_XYZ, two: bool = False
) -> bytes:
    """A plain NIfTI file of an array (z, y, x)."""
    affine = np.diag([*spacing_xyz, *([1.0] * (3 - len(spacing_xyz))), 1.0])
    image = (nibabel.Nifti2Image if two else nibabel.Nifti1Image)(array.transpose(), affine)
    image.set_sform(affine, code=1 if sform else 0)
    image.set_qform(affine, code=1)
    return image.to_bytes()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def through_itk(folder: Path, ending: str, array: np.ndarray = VOXELS, *, compress: bool = False) -> dict[str, bytes]:
    """The files that ITK writes, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array, isVector=False)
    image.SetSpacing(SPACING_XYZ[: image.GetDimension()] + (1.0,) * (image.GetDimension() - 3))
    SimpleITK.WriteImage(image, str(folder / f"case_0000{ending}"), useCompression=compress)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    for path in list(folder.iterdir()):
        path.unlink()
    return files


def tiff(array: np.ndarray, **options: str) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"photometric": "minisblack", **options})
    return file.getvalue()


def whole_files(folder: Path) -> tuple[Whole, ...]:
    """One whole file of each kind that the readers know; `folder` is for files on the way."""
    plain = nifti()
    kinds = [
        Whole("nifti", ".nii", plain, NIFTI, NIFTI_HEADER_BYTES),
        Whole("nifti-2", ".nii", nifti(two=True), NIFTI[1:3], 544),
        Whole(
            "nifti of int16",
            ".nii",
            nifti(VOXELS.astype(np.int16), sform=False),
            NIFTI,
            NIFTI_HEADER_BYTES,
            right=VOXELS.astype(np.int16),
        ),
        Whole("gzipped nifti", ".nii.gz", gzipped(plain), NIFTI, 10, checked="all"),
    ]
    for ending, compress, end_of_header in (
        (".nrrd", False, b"\n\n"),
        (".nrrd", True, b"\n\n"),
        (".mha", False, b"LOCAL\n"),
        (".mha", True, b"LOCAL\n"),
    ):
        (content,) = through_itk(folder, ending, compress=compress).values()
        header_bytes = content.index(end_of_header) + len(end_of_header)
        what = f"{'packed ' if compress else ''}{ending.removeprefix('.')}"
        kinds.append(Whole(what, ending, content, ITK, header_bytes, checked="voxels" if compress else "nothing"))
    (gipl,) = through_itk(folder, ".gipl").values()
    kinds.append(Whole("gipl", ".gipl", gipl, ITK, 256))
    for ending, compress in ((".mhd", False), (".mhd", True), (".nhdr", True)):
        files = through_itk(folder, ending, compress=compress)
        content = files.pop(f"case_0000{ending}")
        kinds.append(
            Whole(f"{ending.removeprefix('.')} with voxels beside", ending, content, ITK, len(content), beside=files)
        )
    grey, colours = (imageio.imwrite("<bytes>", pixels, extension=".png") for pixels in (PIXELS, COLOURS))
    natural = ("NaturalImage2DIO",)
    stacks = ("Tiff3DIO",)
    beside = {"case.json": SPACING_FILE}
    return (
        *kinds,
        Whole("png", ".png", grey, natural, 33, checked="all", right=PIXELS),
        Whole("coloured png", ".png", colours, natural, 33, checked="all", right=COLOURS),
        Whole("bmp", ".bmp", imageio.imwrite("<bytes>", PIXELS, extension=".bmp"), natural, 54, right=PIXELS),
        Whole("flat tif", ".tif", tiff(PIXELS), natural, 300, right=PIXELS),
        Whole("packed flat tif", ".tif", tiff(PIXELS, compression="zlib"), natural, 300, right=PIXELS),
        Whole("tif stack", ".tif", tiff(VOXELS), stacks, 400, beside=beside),
        Whole("packed tif stack", ".tiff", tiff(VOXELS, compression="zlib"), stacks, 400, beside=beside),
    )


def damaged(whole: Whole, rng: np.random.Generator, count: int) -> Iterator[Specimen]:
    """What befalls files of every kind; `count` bit flips and truncations each of the header and of the voxels."""
    content, header = whole.content, min(whole.header_bytes, len(whole.content))
    yield whole.changed("empty", b"", "refused")
    yield whole.changed("a single byte", content[:1], "refused")
    if header < len(content) or whole.beside.keys() <= {"case.json"}:
        yield whole.changed("without its last byte", content[:-1], "refused or right")
    yield whole.changed("zeros instead", bytes(len(content)), "refused")
    yield whole.changed("noise instead", rng.bytes(len(content)), "refused")
    yield whole.changed("text added at the end", content + b"\nhello\n" * 3, "refused or right")
    yield whole.changed("a text", b"This was never an image.\n" * 100, "refused")
    for start, stop, part in ((0, header, "header"), (header, len(content), "voxels")):
        if start == stop:
            continue
        for place in sorted({int(place) for place in rng.integers(start, stop, count)}):
            verdict: Verdict = "refused or right" if part == "voxels" else "refused or sane"
            yield whole.changed(f"ends in the {part} at byte {place}", content[:place], verdict)
        for bit in sorted({int(bit) for bit in rng.integers(start * 8, stop * 8, count)}):
            is_checked = whole.checked == "all" or whole.checked == part
            verdict = "refused or right" if is_checked else "refused or sane"
            yield whole.changed(f"bit {bit} flipped in the {part}", flipped(content, bit), verdict)
    for number in range(count // 4):
        many = content
        for bit in rng.integers(0, len(content) * 8, 20):
            many = flipped(many, int(bit))
        yield whole.changed(f"20 bits flipped, {number}", many, "refused or sane")


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def all_specimens(folder: Path, *, seed: int, count: int) -> list[Specimen]:
    """Every kind of damage to every kind of file; about 100 `count` files."""
    rng = np.random.default_rng(seed)
    specimens = [specimen for whole in whole_files(folder) for specimen in damaged(whole, rng, count)]
    return [
        *specimens,
        *absurd_nifti(),
        *wrong_gzip(),
        *other_kinds(folder),
        *absurd_text_headers(folder),
        *absurd_pictures(),
    ]


def with_fields(content: bytes, *fields: tuple[int, str, tuple[float, ...]]) -> bytes:
    """A NIfTI file with values packed into places of its header."""
    changed = bytearray(content)
    for offset, form, values in fields:
        struct.pack_into(form, changed, offset, *values)
    return bytes(changed)


DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, INTERCEPT = 40, 70, 72, 76, 108, 112, 116
QFORM_CODE, SFORM_CODE, QUATERN, SROW, MAGIC = 252, 254, 256, 280, 344


def absurd_nifti() -> Iterator[Specimen]:
    """Headers of NIfTI files that no scanner means."""
    plain, no_sform = nifti(), nifti(sform=False)
    nan, inf = float("nan"), float("inf")

    def header(
        what: str, verdict: Verdict, *fields: tuple[int, str, tuple[float, ...]], base: bytes = plain
    ) -> Iterator[Specimen]:
        content = with_fields(base, *fields)
        yield Specimen(f"nifti header: {what}", ".nii", content, verdict, NIFTI)
        yield Specimen(f"gzipped nifti header: {what}", ".nii.gz", gzipped(content), verdict, NIFTI)

    for dim in (
        (3, -7, 6, 5),
        (3, 0, 6, 5),
        (3, 7, 6, 0),
        (3, 32767, 32767, 32767),
        (3, 7, 6, 32767),
        (0, 7, 6, 5),
        (-1, 7, 6, 5),
        (8, 7, 6, 5),
        (32767, 7, 6, 5),
        (3, 7, 6, 6),
    ):
        yield from header(f"dim {dim}", "refused", (DIM, "<4h", dim))
    yield from header("dim of 4 dimensions without voxels for them", "refused", (DIM, "<5h", (4, 7, 6, 5, 9)))
    yield from header("dim of 7 dimensions", "refused", (DIM, "<8h", (7, 7, 6, 5, 2, 2, 2, 2)))
    yield from header("dim halved", "refused or sane", (DIM, "<4h", (3, 7, 6, 2)))
    for code in (0, 1, 3, 255, -1, 9999, 32, 128, 1792, 2304):
        yield from header(f"datatype {code}", "refused", (DATATYPE, "<h", (code,)))
    for bits in (0, 8, 16, 64, -32, 32767, 7):
        yield from header(f"bitpix {bits}", "refused or right", (BITPIX, "<h", (bits,)))
    for offset in (nan, inf, -inf, -352.0, -1e30, 1e9, 1e30, 3.4e38, 2.0**31, 2.0**63, 353.0 + 840):
        yield from header(f"vox_offset {offset}", "refused", (VOX_OFFSET, "<f", (offset,)))
    for offset in (0.0, 1.0, 100.0, 347.0, 352.5):
        yield from header(f"vox_offset {offset}", "refused or sane", (VOX_OFFSET, "<f", (offset,)))
    for spacing in (0.0, -0.8, nan, inf, -inf, 1e-30, 1e30, 3.4e38, 1e-45, -1e30):
        yield from header(f"spacing {spacing}", "refused", (PIXDIM + 8, "<f", (spacing,)))
        yield from header(f"spacing {spacing}, no sform", "refused", (PIXDIM + 8, "<f", (spacing,)), base=no_sform)
    yield from header("spacing zero everywhere", "refused", (PIXDIM + 4, "<3f", (0, 0, 0)))
    for name, offset in (("slope", SLOPE), ("intercept", INTERCEPT)):
        for value in (nan, inf, -inf, 3.4e38, 1e30):
            yield from header(f"{name} {value}", "refused or sane", (SLOPE, "<2f", (1, 0)), (offset, "<f", (value,)))
    yield from header("slope zero", "refused or right", (SLOPE, "<2f", (0, 0)))
    for name, row in (
        ("NaN", (nan,) * 12),
        ("zero", (0,) * 12),
        ("infinite", (inf,) * 12),
        ("huge", (1e38,) * 12),
        ("singular", (1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0)),
        ("one axis zero", (0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)),
        ("an origin that is NaN", (0.7, 0, 0, nan, 0, 0.8, 0, 0, 0, 0, 2.5, 0)),
    ):
        yield from header(f"sform {name}", "refused", (SROW, "<12f", row), (QFORM_CODE, "<h", (0,)))
        yield from header(f"sform {name} beside a qform", "refused or right", (SROW, "<12f", row))
    for name, quaternion in (
        ("NaN", (nan,) * 6),
        ("infinite", (inf,) * 6),
        ("huge", (1e38,) * 6),
        ("too long", (1, 1, 1, 0, 0, 0)),
        ("an origin that is NaN", (0, 0, 0, nan, 0, 0)),
    ):
        yield from header(f"qform {name}", "refused or sane", (QUATERN, "<6f", quaternion), base=no_sform)
    for code in (-1, 99, 32767):
        yield from header(f"form codes {code}", "refused or sane", (QFORM_CODE, "<2h", (code, code)))
    yield from header("magic of a pair of files", "refused", (MAGIC, "4s", (b"ni1\0",)))
    yield from header("no magic", "refused or sane", (MAGIC, "4s", (b"\0\0\0\0",)))
    yield from header("magic of nobody", "refused or sane", (MAGIC, "4s", (b"abcd",)))
    for size in (0, 347, 540, -1, 1 << 30):
        yield from header(f"header size {size}", "refused or sane", (0, "<i", (size,)))
    yield from header("extension that is longer than the file", "refused or right", (348, "<4B", (1, 0, 0, 0)))
    volumes = nifti(np.stack([VOXELS, VOXELS]))
    yield Specimen("nifti of 4 dimensions", ".nii", volumes, "refused", NIFTI[1:])
    yield Specimen(
        "nifti of 5 dimensions", ".nii", nifti(np.stack([VOXELS] * 4).reshape(2, 2, *SHAPE)), "refused", NIFTI
    )
    yield Specimen("nifti of 1 dimension", ".nii", nifti(VOXELS[0, 0]), "refused", NIFTI)
    yield Specimen("nifti of 2 dimensions", ".nii", nifti(VOXELS[0]), "refused", NIFTI[1:])
    for dtype in (np.complex64, np.complex128):
        yield Specimen(f"nifti of {dtype.__name__}", ".nii", nifti(VOXELS.astype(dtype)), "refused", NIFTI)
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    yield Specimen("nifti of colours", ".nii.gz", gzipped(nifti(rgb)), "refused", NIFTI)
    vectors = nifti(np.stack([VOXELS] * 3)[:, None])
    yield Specimen("nifti of vectors", ".nii.gz", gzipped(with_fields(vectors, (68, "<h", (1007,)))), "refused", NIFTI)


def wrong_gzip() -> Iterator[Specimen]:
    """Files named .nii.gz whose compression is wrong; some of it gzip allows."""
    plain = nifti()
    packed = gzipped(plain)
    middle = len(packed) // 2
    crc, size = packed[-8:-4], packed[-4:]

    def gz(what: str, content: bytes, verdict: Verdict) -> Specimen:
        return Specimen(f"gzip: {what}", ".nii.gz", content, verdict, NIFTI)

    yield gz("not compressed at all", plain, "refused or right")
    yield gz("compressed twice", gzipped(packed), "refused")
    yield gz("zlib instead", zlib.compress(plain), "refused")
    yield gz("raw deflate instead", zlib.compress(plain)[2:-4], "refused")
    yield gz("wrong checksum", packed[:-8] + bytes([crc[0] ^ 1]) + packed[-7:], "refused")
    yield gz("wrong size", packed[:-4] + struct.pack("<I", int.from_bytes(size, "little") + 1), "refused")
    yield gz("no checksum and size", packed[:-8], "refused")
    yield gz("two members", gzipped(plain[:400]) + gzipped(plain[400:]), "refused or right")
    yield gz("a second member that is damaged", gzipped(plain[:400]) + gzipped(plain[400:])[:-9], "refused")
    yield gz("an empty member first", gzipped(b"") + packed, "refused or right")
    yield gz("an empty member last", packed + gzipped(b""), "refused or right")
    yield gz("a member of another file last", packed + gzipped(plain), "refused or right")
    yield gz("zeros at the end", packed + bytes(700), "refused or right")
    yield gz("noise at the end", packed + b"noise" * 30, "refused or right")
    yield gz("the magic of a member at the end", packed + b"\x1f\x8b", "refused or right")
    yield gz("nothing but a gzip header", packed[:10], "refused")
    yield gz("an empty content", gzipped(b""), "refused")
    yield gz("unknown method", packed[:2] + b"\x09" + packed[3:], "refused")
    yield gz("reserved flags", packed[:3] + b"\xe0" + packed[4:], "refused")
    yield gz("a file name that never ends", packed[:3] + b"\x08" + packed[4:10] + b"a" * 5000, "refused")
    yield gz("a hole of zeros", packed[: middle - 50] + bytes(100) + packed[middle + 50 :], "refused")
    yield gz("a block twice", packed[:middle] + packed[middle - 100 :], "refused")
    huge = with_fields(plain, (DIM, "<4h", (3, 30000, 30000, 30000)))
    yield gz("a header that claims 27 billion voxels", gzipped(huge), "refused")
    yield Specimen("a header that claims 27 billion voxels", ".nii", huge, "refused", NIFTI)
    member = gzipped(bytes(64 << 20))
    header = with_fields(plain, (DIM, "<4h", (3, 32000, 32000, 8)))
    yield gz("a bomb of 32 GiB, as its header says", gzipped(header) + member * 512, "refused")
    yield gz("a bomb of 32 GiB behind a small image", packed + member * 512, "refused")


def other_kinds(folder: Path) -> Iterator[Specimen]:
    """Files of another kind than their name says."""
    dicom = folder / "a.dcm"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(PIXELS), str(dicom))
    contents = {
        "a DICOM file": dicom.read_bytes(),
        "a page of HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20,
        "a pickle": pickle.dumps({"image": VOXELS}),
        "a numpy file": numpy_file(VOXELS),
        "a png": imageio.imwrite("<bytes>", PIXELS, extension=".png"),
        "a tif": tiff(VOXELS),
        "a nifti": nifti(),
        "a gzipped nifti": gzipped(nifti()),
        "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a zip": b"PK\x03\x04" + bytes(60),
        "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(500),
        "a MINC-1 file": b"CDF\x01" + bytes(500),
        "a JPEG 2000 file": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(500),
    }
    dicom.unlink()
    for ending, readers in (
        (".nii.gz", NIFTI),
        (".nii", NIFTI),
        (".nrrd", ITK),
        (".mha", ITK),
        (".gipl", ITK),
        (".png", ("NaturalImage2DIO",)),
        (".bmp", ("NaturalImage2DIO",)),
        (".tif", ("NaturalImage2DIO", "Tiff3DIO")),
    ):
        for what, content in contents.items():
            # a picture's format is found by its content, and a gzip file's
            right = what.endswith("nifti") and ending.startswith(".nii")
            picture = what in ("a png", "a tif") and ending in (".png", ".bmp", ".tif")
            verdict: Verdict = "refused or right" if right else "refused or sane" if picture else "refused"
            yield Specimen(f"{what} named {ending}", ending, content, verdict, readers)


def numpy_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def absurd_text_headers(folder: Path) -> Iterator[Specimen]:
    """NRRD and MetaImage files, whose headers are text, with words that no scanner means."""
    for ending, compress in ((".nrrd", False), (".nrrd", True), (".mha", False), (".mha", True)):
        (content,) = through_itk(folder, ending, compress=compress).values()
        for old, news in TEXT_CHANGES[ending].items():
            assert old in content, (old, content[:600])
            for new, verdict in news.items():
                what = f"{'packed ' if compress else ''}{ending}: {new.decode()!r} for {old.decode()!r}"
                yield Specimen(what, ending, content.replace(old, new, 1), verdict, ITK)
    yield from long_nrrd_lines(folder)
    for ending in (".nrrd", ".mha"):
        for what, array in (("5 dimensions", np.stack([VOXELS] * 4).reshape(2, 2, *SHAPE)), ("vectors", None)):
            image = (
                SimpleITK.GetImageFromArray(array, isVector=False)
                if array is not None
                else SimpleITK.GetImageFromArray(np.stack([VOXELS] * 3, axis=-1), isVector=True)
            )
            path = folder / f"a{ending}"
            SimpleITK.WriteImage(image, str(path))
            yield Specimen(f"{ending} of {what}", ending, path.read_bytes(), "refused", ITK)
            path.unlink()


def long_nrrd_lines(folder: Path) -> Iterator[Specimen]:
    """NRRD files with lines of all lengths, of which some are longer than what teem has room for."""
    (content,) = through_itk(folder, ".nrrd").values()
    for length in (850, 900, 1006, 1100, 5000):
        long = b"x" * length
        verdict: Verdict = "refused" if length > 900 else "refused or right"
        for old in (b"endian: little", b"encoding: ", b"space: ", b"kinds: "):
            for filled in (long, b" " * length):
                yield Specimen(
                    f"{old.decode()!r} and {length} of {filled[:1].decode()!r}",
                    ".nrrd",
                    content.replace(old, old + filled),
                    verdict,
                    ITK,
                )
        for line in (b"foo: " + long, long, long + b": foo", b"content:" + long, b" #" + long, b"a: b" + long + b":=c"):
            told = f"a line of {length} that begins {line[:8].decode()!r}"
            with_line = content.replace(b"endian", line + b"\nendian")
            yield Specimen(told, ".nrrd", with_line, verdict, ITK)
        for line in (b"content: " + long, b"#" + long, b"key:=" + long, long + b":=value"):
            told = f"a line of {length} that may be long, {line[:8].decode()!r}"
            with_line = content.replace(b"endian", line + b"\nendian")
            yield Specimen(told, ".nrrd", with_line, "refused or right", ITK)


TEXT_CHANGES: Mapping[str, Mapping[bytes, Mapping[bytes, Verdict]]] = {
    ".nrrd": {
        b"sizes: 7 6 5": {
            b"sizes: 7 6 -5": "refused",
            b"sizes: 7 6 0": "refused",
            b"sizes: 7 6": "refused",
            b"sizes: 7 6 five": "refused",
            b"sizes: 7 6 5000": "refused",
            b"sizes: 30000 30000 30000": "refused",
            b"sizes: 4294967296 4294967296 4294967296": "refused",
            b"sizes: 99999999999999999999 6 5": "refused",
        },
        b"type: float": {
            b"type: complex": "refused",
            b"type: block": "refused",
            b"type: double": "refused",
            b"type: uchar": "refused or sane",
            b"type:": "refused",
        },
        b"dimension: 3": {
            b"dimension: 0": "refused",
            b"dimension: -3": "refused",
            b"dimension: 4": "refused",
            b"dimension: 100000": "refused",
            b"dimension: three": "refused",
        },
        b"(0,0.5,0)": {
            b"(0,nan,0)": "refused",
            b"(0,inf,0)": "refused",
            b"(0,0,0)": "refused",
            b"(0,1e-30,0)": "refused",
            b"(0,1e30,0)": "refused",
            b"(0,1e400,0)": "refused",
            b"none": "refused or sane",
        },
        b"space origin: (0,0,0)": {
            b"space origin: (nan,0,0)": "refused or sane",
            b"space origin: (0,0)": "refused or sane",
            b"data file: /etc/passwd": "refused",
            b"data file: /dev/zero": "refused",
            b"data file: LIST\n/dev/zero": "refused",
            b"data file: slices%d.raw 1 1000000000 1": "refused",
            b"line skip: 1000000000": "refused",
            b"byte skip: 1000000000": "refused",
            b"byte skip: -5": "refused",
            b"kinds: domain domain vector": "refused or sane",
        },
        b"encoding: ": {
            b"encoding: zebra": "refused",
            b"encoding: hex\ncomment: ": "refused or sane",
            b"encoding: bzip2\ncomment: ": "refused or sane",
            b"encoding: ascii\ncomment: ": "refused or sane",
        },
    },
    ".mha": {
        b"DimSize = 7 6 5": {
            b"DimSize = 7 6 -5": "refused",
            b"DimSize = 7 6 0": "refused",
            b"DimSize = 7 6": "refused",
            b"DimSize = 7 6 five": "refused",
            b"DimSize = 7 6 5000": "refused",
            b"DimSize = 30000 30000 30000": "refused",
            b"DimSize = 99999999999999999999 6 5": "refused",
        },
        b"NDims = 3": {
            b"NDims = 0": "refused",
            b"NDims = -3": "refused",
            b"NDims = 4": "refused",
            b"NDims = 11": "refused",
            b"NDims = 100000": "refused",
        },
        b"ElementSpacing = 0.75 0.5": {
            b"ElementSpacing = 0.75 nan": "refused",
            b"ElementSpacing = 0.75 inf": "refused",
            b"ElementSpacing = 0.75 0": "refused",
            b"ElementSpacing = 0.75 -0.5": "refused",
            b"ElementSpacing = 0.75 1e-30": "refused",
            b"ElementSpacing = 0.75 1e30": "refused",
            b"ElementSpacing = 0.75": "refused or sane",
            b"ElementSpacing = a b": "refused",
        },
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1": {
            b"TransformMatrix = 0 0 0 0 0 0 0 0 0": "refused or sane",
            b"TransformMatrix = nan 0 0 0 1 0 0 0 1": "refused or sane",
            b"TransformMatrix = 1 1 0 0 1 0 0 0 1": "refused or sane",
            b"TransformMatrix = 1": "refused or sane",
        },
        b"MET_FLOAT": {
            b"MET_NOTHING": "refused",
            b"MET_DOUBLE": "refused",
            b"MET_STRING": "refused",
            b"MET_FLOAT_ARRAY": "refused",
            b"MET_FLOAT\nElementNumberOfChannels = 3": "refused",
            b"MET_FLOAT\nElementNumberOfChannels = -1": "refused or sane",
            b"MET_FLOAT\nElementNumberOfChannels = 1000000000": "refused",
        },
        b"BinaryData = True": {b"BinaryData = False": "refused or sane", b"BinaryData = Yes": "refused"},
        b"CompressedData": {b"CompressedDato": "refused or right", b"ComprescedData": "refused or right"},
        b"ElementDataFile = LOCAL": {
            b"ElementDataFile = gone.raw": "refused",
            b"ElementDataFile = /dev/zero": "refused",
            b"ElementDataFile = LIST": "refused",
            b"ElementDataFile = slice%d.raw 1 1000000 1": "refused",
            b"ElementDataFile = ": "refused",
            b"ElementDataFile = .": "refused",
            b"HeaderSize = -1\nElementDataFile = LOCAL": "refused or sane",
            b"HeaderSize = 1000000000\nElementDataFile = LOCAL": "refused",
        },
    },
}


def absurd_pictures() -> Iterator[Specimen]:
    """Pictures and stacks whose headers claim too much, or whose spacing file is wrong."""
    png = imageio.imwrite("<bytes>", PIXELS, extension=".png")
    for size in ((0, 24), (60000, 60000), (12000, 10000), (1 << 31, 1 << 31), ((1 << 31) - 1, 1), (20, 25), (19, 24)):
        body = b"IHDR" + struct.pack(">2I", *(value & 0xFFFFFFFF for value in size)) + png[24:29]
        content = png[:12] + body + struct.pack(">I", zlib.crc32(body)) + png[33:]
        yield Specimen(
            f"png of {size}",
            ".png",
            content,
            "refused or sane" if size in ((19, 24), (20, 25)) else "refused",
            ("NaturalImage2DIO",),
        )
    bmp = imageio.imwrite("<bytes>", PIXELS, extension=".bmp")
    for size in ((0, 24), (60000, 60000), (12000, 10000), (-20, 24), (20, 25), (20, -(2**31))):
        yield Specimen(
            f"bmp of {size}", ".bmp", bmp[:18] + struct.pack("<2i", *size) + bmp[26:], "refused", ("NaturalImage2DIO",)
        )
    for what, text in WRONG_SPACING_FILES.items():
        yield Specimen(
            f"tif stack whose spacing file is {what}",
            ".tif",
            tiff(VOXELS),
            "refused",
            ("Tiff3DIO",),
            {"case.json": text},
        )
    for what, array in (
        ("four dimensions", np.stack([VOXELS] * 5)),
        ("complex numbers", VOXELS.astype(np.complex64)),
    ):
        yield Specimen(f"tif of {what}", ".tif", tiff(array), "refused", ("Tiff3DIO", "NaturalImage2DIO"))
    yield Specimen("tif of one slice", ".tif", tiff(PIXELS), "refused", ("Tiff3DIO",))
    for compression in ("none", "zlib"):
        content = tiff(VOXELS, **({} if compression == "none" else {"compression": compression}))
        for tag, name in (
            (256, "width"),
            (257, "height"),
            (258, "bits"),
            (259, "compression"),
            (277, "samples"),
            (273, "offsets"),
            (278, "rows"),
            (279, "byte counts"),
            (339, "sample format"),
        ):
            for value in (0, 1, 65535, 2000000000):
                yield Specimen(
                    f"tif stack ({compression}) with {name} {value}",
                    ".tif",
                    with_tag(content, tag, value),
                    "refused or sane",
                    ("Tiff3DIO",),
                    {"case.json": SPACING_FILE},
                )


def with_tag(content: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF file with one tag of its first page set to a 32-bit number."""
    changed = bytearray(content)
    (start,) = struct.unpack_from("<I", changed, 4)
    (entries,) = struct.unpack_from("<H", changed, start)
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", changed, place) == (tag,):
            struct.pack_into("<HHII", changed, place, tag, 4, 1, value)
    return bytes(changed)


WRONG_SPACING_FILES = {
    "empty": b"",
    "no JSON": b"spacing = 1 1 1",
    "truncated": SPACING_FILE[:-4],
    "in UTF-16": SPACING_FILE.decode().encode("utf-16"),
    "a list": b"[1, 1, 1]",
    "without spacing": b'{"spacings": [1, 1, 1]}',
    "of two numbers": b'{"spacing": [1, 1]}',
    "of zero": b'{"spacing": [0, 1, 1]}',
    "of a negative number": b'{"spacing": [1, -1, 1]}',
    "of NaN": b'{"spacing": [NaN, 1, 1]}',
    "of infinity": b'{"spacing": [Infinity, 1, 1]}',
    "of 1e30": b'{"spacing": [1e30, 1, 1]}',
    "of 1e-30": b'{"spacing": [1e-30, 1, 1]}',
    "of a number with 500 digits": b'{"spacing": [' + b"9" * 500 + b", 1, 1]}",
    "of a number with 5000 digits": b'{"spacing": [' + b"9" * 5000 + b", 1, 1]}",
    "of text": b'{"spacing": ["1", "1", "1"]}',
    "nested too deeply": b'{"spacing": ' + b"[" * 100000 + b"]" * 100000 + b"}",
}


def files_to_refuse() -> dict[str, bytes]:
    """Small files named .nii.gz by case id, none of which may be read as an image like the others of its data set."""
    specimens = [
        specimen
        for specimen in (*absurd_nifti(), *wrong_gzip())
        if specimen.ending == ".nii.gz" and specimen.verdict == "refused" and len(specimen.content) < 1 << 20
    ]
    contents = {f"bad_{number:03d}": specimen.content for number, specimen in enumerate(specimens)}
    return {**contents, "bad_empty": b"", "bad_html": b"<html>404</html>", "another_shape": gzipped(nifti())}
