"""The header of a NIfTI file, looked at before any library reads it.

ITK and nibabel silently correct some errors: a spacing that is zero, negative or NaN becomes 1 or positive,
a wrong place of the voxels is ignored and the voxels are read from somewhere else. Here such files are refused.
Source of the layout: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.io.image import LARGEST_SPACING_MM, SMALLEST_SPACING_MM
from segwright.io.integrity import GZIP_MAGIC, VoxelLayout, damaged, require_image_file
from segwright.io.signature import describe_content

FILE_ENDINGS = (".nii", ".nii.gz")
# Codes of real numbers, one a voxel, and the bytes of each.
_NUMBER_TYPES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 1536: 16}
_NUMPY_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_OTHER_TYPES = {
    1: "single bits",
    32: "complex numbers",
    1792: "complex numbers",
    2048: "complex numbers",
    128: "colours (RGB)",
    2304: "colours (RGBA)",
}
_KNOWN_FORM_CODES = range(6)


@dataclass(frozen=True)
class _Layout:
    """Where a version of the format keeps its fields: each an offset and a `struct` form.

    `geometry` are the bytes, first and end, that say where the voxels are, and how many.
    """

    size: int
    magic: bytes
    fields: Mapping[str, tuple[int, str]]
    geometry: tuple[tuple[int, int], ...]


_NIFTI_1 = _Layout(
    size=348,
    magic=b"n+1\0",
    fields={
        "magic": (344, "4s"),
        "dim": (40, "8h"),
        "datatype": (70, "h"),
        "bits": (72, "h"),
        "pixdim": (76, "8f"),
        "vox_offset": (108, "f"),
        "scale": (112, "2f"),
        "units": (123, "B"),
        "form_codes": (252, "2h"),
        "qform": (256, "6f"),
        "sform": (280, "12f"),
    },
    geometry=((39, 56), (76, 108), (123, 124), (252, 328)),
)
_NIFTI_2 = _Layout(
    size=540,
    magic=b"n+2\0",
    fields={
        "magic": (4, "4s"),
        "dim": (16, "8q"),
        "datatype": (12, "h"),
        "bits": (14, "h"),
        "pixdim": (104, "8d"),
        "vox_offset": (168, "q"),
        "scale": (176, "2d"),
        "units": (500, "i"),
        "form_codes": (344, "2i"),
        "qform": (352, "6d"),
        "sform": (400, "12d"),
    },
    geometry=((8, 12), (16, 80), (104, 168), (344, 496), (500, 504), (524, 525)),
)
_MAGIC_BYTES = 4
# Scale, shown range, description and name of another file in a NIfTI-1 header; code and bits of the type of bytes.
_OF_NUMBERS = ((112, 120), (124, 132), (148, 252))
_BYTES = (2, 8)
_LONGEST_HEADER = 540


def read_nifti1_header(path: Path) -> VoxelLayout:
    """Read and check the header of a file as `read_nifti_header`, and refuse NIfTI-2, which ITK does not know.

    Raises:
        ImageError: naming the field that is wrong.
    """
    voxels = read_nifti_header(path)
    if _find_layout(path, voxels.beginning)[0] is _NIFTI_2:
        raise ImageError(
            message(
                path,
                expected="a NIfTI-1 file",
                got="NIfTI-2",
                remedy='Convert it, or write "overwrite_image_reader_writer": "NibabelIO" in dataset.json.',
            )
        )
    return voxels


def read_nifti_header(path: Path) -> VoxelLayout:
    """Read and check the header of a .nii or .nii.gz file.

    Raises:
        MissingFileError, ImageError: naming the field that is wrong.
    """
    require_image_file(path)
    packed = _is_packed(path)
    content = _beginning(path, packed)
    layout, order = _find_layout(path, content)
    values = fields_of(content)
    if values["magic"][0] != layout.magic:
        text = values["magic"][0]
        remedy = "Header and voxels in two files, and Analyze files, must be converted to one NIfTI file."
        raise _wrong(path, "magic", repr(layout.magic), repr(text), remedy)
    shape = _shape(path, values["dim"])
    _check_spacing(path, shape, values["pixdim"])
    _check_forms(path, values)
    return VoxelLayout(
        file=path,
        shape=shape,
        voxel_bytes=_voxel_bytes(path, values["datatype"][0]),
        packed=packed,
        skipped=_voxels_begin(path, values["vox_offset"][0], layout.size + _MAGIC_BYTES),
        number_type=_number_type(order, values["datatype"][0], values["scale"]),
        beginning=content,
    )


def without_numbers(layout: VoxelLayout) -> bytes:
    """The header of a NIfTI-1 file, without what says of what type and how many its numbers are, and without texts.

    Files of one place have it in common; it is that of an image of bytes, two along each axis that has more than one.
    """
    header = bytearray(layout.beginning[: _NIFTI_1.size] + bytes(_MAGIC_BYTES))
    for first, end in _OF_NUMBERS:
        header[first:end] = bytes(end - first)
    order = "<" if layout.number_type is None else layout.number_type[0]
    struct.pack_into(f"{order}2h", header, _NIFTI_1.fields["datatype"][0], *_BYTES)
    sizes = [min(size, 2) for size in layout.shape]
    struct.pack_into(f"{order}{len(sizes)}h", header, _NIFTI_1.fields["dim"][0] + 2, *sizes)
    return bytes(header)


def fields_of(header: bytes) -> dict[str, tuple[Any, ...]]:
    """The fields of a header that was found sound, by the names above."""
    layout, order = _find_layout(Path(), header)
    return {name: struct.unpack_from(order + form, header, offset) for name, (offset, form) in layout.fields.items()}


def byte_order(header: bytes) -> str:
    """`struct`'s sign of the order of bytes in a sound header."""
    return _find_layout(Path(), header)[1]


def geometry_alone(header: bytes) -> bytes:
    """A header that has the geometry in common with a sound one, and nothing else: no names, texts or numbers."""
    layout, order = _find_layout(Path(), header)
    kept = bytearray(layout.size + _MAGIC_BYTES)
    for first, end in layout.geometry:
        kept[first:end] = header[first:end]
    struct.pack_into(f"{order}i", kept, 0, layout.size)
    for name, values in {"magic": (layout.magic,), "vox_offset": (len(kept),), "scale": (1, 0)}.items():
        offset, form = layout.fields[name]
        struct.pack_into(order + form, kept, offset, *values)
    return bytes(kept)


def header_for(geometry: bytes, label_map: NDArray[Any]) -> bytes:
    """The header of a label map (z, y, x) or (y, x) of bytes or uint16 with the geometry from `geometry_alone`."""
    layout, order = _find_layout(Path(), geometry)
    shape = label_map.shape[::-1]
    bits = 8 * label_map.dtype.itemsize
    header = bytearray(geometry)
    sizes = (len(shape), *shape, *(1,) * (7 - len(shape)))
    for name, values in {"dim": sizes, "datatype": (2 if bits == 8 else 512,), "bits": (bits,)}.items():
        offset, form = layout.fields[name]
        struct.pack_into(order + form, header, offset, *values)
    return bytes(header)


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return path.name.lower().endswith(".gz") and file.read(2) == GZIP_MAGIC


def _beginning(path: Path, packed: bool) -> bytes:
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read(_LONGEST_HEADER)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, "whole compressed data", str(error)) from error


def _find_layout(path: Path, content: bytes) -> tuple[_Layout, str]:
    """Layout and byte order, both known by the header's size, which comes first."""
    for layout in (_NIFTI_1, _NIFTI_2):
        for order in "<>":
            if content[:4] == struct.pack(f"{order}i", layout.size):
                if len(content) < layout.size:
                    raise damaged(path, f"a header of {layout.size} bytes", f"{len(content)}")
                return layout, order
    raise ImageError(
        message(
            path,
            expected="a NIfTI file, whose header begins with its size, 348 or 540",
            got=_instead(path, content),
            remedy="Copy or export it again.",
        )
    )


def _instead(path: Path, content: bytes) -> str:
    kind = describe_content(path)
    if kind == "a gzip file" and path.name.lower().endswith(".gz"):
        return "a gzip file of a gzip file" if content.startswith(GZIP_MAGIC) else "a gzip file of something else"
    return kind


def _shape(path: Path, dim: tuple[int, ...]) -> tuple[int, ...]:
    count = dim[0]
    if not 1 <= count <= 7:
        raise _wrong(path, "dim[0]", "a number of dimensions of 1 to 7", count)
    shape = dim[1 : count + 1]
    if min(shape) < 1:
        raise _wrong(path, "dim", "sizes of at least 1", shape)
    return shape


def _voxel_bytes(path: Path, datatype: int) -> int:
    if datatype in _NUMBER_TYPES:
        return _NUMBER_TYPES[datatype]
    remedy = "Write each component to a separate file, as channels _0000, _0001 and so on."
    got = _OTHER_TYPES.get(datatype)
    if got is None:
        raise _wrong(path, "datatype", "the code of a type of numbers, such as 4 or 16", datatype)
    raise _wrong(path, "datatype", "one number per voxel", f"{datatype}, {got}", remedy)


def _number_type(order: str, datatype: int, scale: tuple[float, ...]) -> str | None:
    is_scaled = scale not in ((0, 0), (1, 0))  # a slope of 0 means that there is none
    return None if is_scaled or datatype not in _NUMPY_TYPES else order + _NUMPY_TYPES[datatype]


def _voxels_begin(path: Path, offset: float, least: int) -> int:
    if not math.isfinite(offset) or offset != int(offset) or not least <= offset < 2**62:
        raise _wrong(path, "vox_offset", f"a whole number of at least {least}", offset)
    return int(offset)


def _check_spacing(path: Path, shape: tuple[int, ...], pixdim: tuple[float, ...]) -> None:
    """Refuse a spacing that no image has. Along an axis of one voxel it means nothing, and is often left 0."""
    spacing = tuple(value for size, value in zip(shape[:3], pixdim[1:4], strict=False) if size > 1)
    if not all(SMALLEST_SPACING_MM <= value <= LARGEST_SPACING_MM for value in spacing):
        raise _wrong(path, "pixdim", "positive voxel spacings in mm", tuple(pixdim[1 : len(shape) + 1][:3]))


def _check_forms(path: Path, values: Mapping[str, tuple[float, ...]]) -> None:
    """Refuse an orientation that is not one; beside a qform ITK does without the sform."""
    codes = values["form_codes"]
    if not all(code in _KNOWN_FORM_CODES for code in codes):
        raise _wrong(path, "qform_code and sform_code", "codes of 0 to 5", codes)
    for name, code in zip(("qform", "sform"), codes, strict=True):
        if code and not all(math.isfinite(value) for value in values[name]):
            raise _wrong(path, name, "finite numbers", values[name])
    if codes[1] and not codes[0]:
        axes = np.array(values["sform"]).reshape(3, 4)[:, :3]
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(axes, axis=0)
            volume = abs(np.linalg.det(axes / lengths)) if lengths.all() else 0.0
        if not volume > 1e-6:
            raise _wrong(path, "sform", "three axes in three directions", values["sform"])


def _wrong(path: Path, field: str, expected: str, got: object, remedy: str = "") -> ImageError:
    text = str(got)
    return ImageError(
        message(
            path,
            expected=f"{field} in its header to be {expected}",
            got=text if len(text) <= 200 else text[:200] + " ...",
            remedy=remedy or "Fix the header, or copy or export the file again.",
        )
    )
