"""The headers of MetaImage and NRRD files, which are text, looked at before ITK reads them.

ITK's reader of MetaImage crashes on some numbers of dimensions, that of NRRD on long lines, and both take voxels from
whatever a header names, a device for instance. Here the voxels must be in one file. Sources of the formats: the
MetaImage page of the ITK wiki, and "Definition of NRRD File Format" of teem.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.io.integrity import VoxelLayout, require_image_file
from segwright.io.signature import describe_content
from segwright.names import name_fault

METAIMAGE_ENDINGS = (".mha", ".mhd")
NRRD_ENDINGS = (".nrrd", ".nhdr")
_LONGEST_HEADER_BYTES = 1 << 20
_METAIMAGE_TYPES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
# Fields of numbers, one for each axis (1) or pair of axes (2).
_METAIMAGE_NUMBERS = {
    "ElementSpacing": 1,
    "ElementSize": 1,
    "Offset": 1,
    "Position": 1,
    "Origin": 1,
    "CenterOfRotation": 1,
    "TransformMatrix": 2,
    "Rotation": 2,
    "Orientation": 2,
}
# All that ITK knows; others are a user's own.
METAIMAGE_KEYS = frozenset(
    (
        *_METAIMAGE_NUMBERS,
        "Comment",
        "AcquisitionDate",
        "ObjectType",
        "ObjectSubType",
        "TransformType",
        "NDims",
        "Name",
        "ID",
        "ParentID",
        "CompressedData",
        "CompressedDataSize",
        "CompressionLevel",
        "BinaryData",
        "ElementByteOrderMSB",
        "BinaryDataByteOrderMSB",
        "Color",
        "DistanceUnits",
        "AnatomicalOrientation",
        "DimSize",
        "HeaderSize",
        "Modality",
        "ImagePosition",
        "SequenceID",
        "ElementMin",
        "ElementMax",
        "ElementNBits",
        "ElementNumberOfChannels",
        "ElementToIntensityFunctionSlope",
        "ElementToIntensityFunctionOffset",
        "ElementType",
        "ElementDataFile",
        "EndObject",
    )
)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# After "signed", "unsigned" or "u" in front and "_t" or " int" behind are taken off.
_NRRD_TYPES = {
    "char": 1,
    "int8": 1,
    "short": 2,
    "int16": 2,
    "int": 4,
    "int32": 4,
    "longlong": 8,
    "long long": 8,
    "int64": 8,
    "float": 4,
    "double": 8,
}
_PACKED_NRRD = ("gzip", "gz")
# teem writes a line that it does not understand, and the path, into 1024 bytes without looking whether they fit. These
# lines it takes as they are, whatever their length.
_LONGEST_NRRD_LINE = 900
_LONGEST_NRRD_PATH = 700
_NRRD_LINE_OF_ANY_LENGTH = re.compile(rb"#|content: |[^:]+:=", re.IGNORECASE)
# teem reads of "1q5" the 1.
_NRRD_NUMBERS = ("spacings", "space directions", "space origin")
_NRRD_MAGIC = b"NRRD0004\n"
# Fields that say where the voxels are, in addition to their number.
_NRRD_GEOMETRY = (
    "space",
    "space dimension",
    "space units",
    "space origin",
    "space directions",
    "spacings",
    "axis mins",
    "axis maxs",
    "axismins",
    "axismaxs",
    "centers",
    "centerings",
    "kinds",
    "units",
)
_DIMENSIONS = range(2, 5)
_LARGEST_SIZE = 1 << 31


def read_metaimage_header(path: Path) -> VoxelLayout:
    """Read and check the header of a .mha or .mhd file.

    Raises:
        MissingFileError, ImageError: naming the field that is wrong.
    """
    fields, header_bytes = metaimage_fields(path)
    shape = _shape(path, fields, "NDims", "DimSize")
    voxel_bytes = _METAIMAGE_TYPES.get(fields.get("ElementType", ""))
    if voxel_bytes is None:
        raise _wrong(path, "ElementType", "a type of numbers, such as MET_SHORT", fields.get("ElementType"))
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise _wrong(path, "ElementNumberOfChannels", "1", fields["ElementNumberOfChannels"])
    for key, power in _METAIMAGE_NUMBERS.items():
        _check_numbers(path, fields, key, len(shape) ** power)
    if any(value.startswith("-") for value in fields.get("ElementSpacing", "").split()):
        raise _wrong(path, "ElementSpacing", "positive voxel spacings", fields["ElementSpacing"])
    file = _voxel_file(path, "ElementDataFile", fields["ElementDataFile"], local="LOCAL")
    skipped = _whole(path, fields, "HeaderSize", "0", least=-1)
    if skipped and file == path:
        raise _wrong(path, "HeaderSize", "0 where the voxels follow the header", skipped)
    is_packed = _true(path, fields, "CompressedData", "False")
    length = _whole(path, fields, "CompressedDataSize", "0", least=0) if is_packed else 0
    if is_packed and file == path and not length:  # ITK would unpack the header
        raise _wrong(path, "CompressedDataSize", "the number of packed bytes", fields.get("CompressedDataSize"))
    layout = VoxelLayout(
        file=file,
        shape=shape,
        voxel_bytes=voxel_bytes,
        begin=header_bytes if file == path else max(skipped, 0),
        length=length or None,
        packed=is_packed,
        is_plain=_true(path, fields, "BinaryData", "True"),
    )
    return layout if skipped >= 0 else _at_the_end(layout)


def read_nrrd_header(path: Path) -> VoxelLayout:
    """Read and check the header of a .nrrd or .nhdr file.

    Raises:
        MissingFileError, ImageError: naming the field that is wrong.
    """
    fields, header_bytes = nrrd_fields(path)
    shape = _shape(path, fields, "dimension", "sizes")
    given = fields.get("type", "").lower()
    name = re.sub(r"^(un)?signed |^u(?=[a-z])", "", given)
    voxel_bytes = _NRRD_TYPES.get(re.sub(r"_t$|(?<=short) int$|(?<=long) int$", "", name))
    if voxel_bytes is None:
        raise _wrong(path, "type", "a type of numbers, such as short", given or None)
    for key in _NRRD_NUMBERS:
        words = re.sub(r"[(),]", " ", fields.get(key, "")).split()
        if not all(_NUMBER.fullmatch(word) or word.lower() in ("nan", "none") for word in words):
            raise _wrong(path, key, "numbers", fields[key])
    named = fields.get("data file", fields.get("datafile"))
    file = path if named is None else _voxel_file(path, "data file", named, local=None)
    skipped = _whole(path, fields, "byte skip", "0", least=-1)
    encoding = fields.get("encoding", "").lower()
    is_packed = encoding in _PACKED_NRRD
    layout = VoxelLayout(
        file=file,
        shape=shape,
        voxel_bytes=voxel_bytes,
        begin=header_bytes if file == path else 0,
        packed=is_packed,
        skipped=max(skipped, 0),
        is_plain=(is_packed or encoding == "raw") and _whole(path, fields, "line skip", "0", least=0) == 0,
    )
    return layout if skipped >= 0 or is_packed else _at_the_end(layout)


def is_nrrd(header: bytes) -> bool:
    """Whether these are the first bytes of an NRRD file."""
    return header.startswith(_NRRD_MAGIC[:4])


def nrrd_geometry_alone(path: Path) -> bytes | None:
    """The lines of a sound header that say where its 2 or 3 axes in space are, as written, after the magic.

    Of an image of 4 dimensions the spacings of the first 3; None where it says more.
    """
    fields, _ = nrrd_fields(path)
    kept = {key: value for key, value in fields.items() if key in _NRRD_GEOMETRY}
    if int(fields["dimension"]) > 3:
        if kept.keys() != {"spacings"}:
            return None
        kept["spacings"] = " ".join(kept["spacings"].split()[:3])
    return _NRRD_MAGIC + "".join(f"{key}: {value}\n" for key, value in kept.items()).encode("latin1")


def nrrd_header_for(geometry: bytes, label_map: NDArray[Any]) -> bytes:
    """The header of a packed label map (z, y, x) or (y, x) of bytes or uint16 with these lines."""
    lines = (
        f"type: {'unsigned char' if label_map.dtype.itemsize == 1 else 'unsigned short'}",
        f"dimension: {label_map.ndim}",
        f"sizes: {' '.join(map(str, label_map.shape[::-1]))}",
        "endian: little",
        "encoding: gzip",
    )
    return _NRRD_MAGIC + "\n".join(lines).encode() + b"\n" + geometry.removeprefix(_NRRD_MAGIC) + b"\n"


def _at_the_end(layout: VoxelLayout) -> VoxelLayout:
    """The layout of voxels that are the last bytes of their file."""
    begin = max(layout.file.stat().st_size - layout.num_bytes, 0)
    return VoxelLayout(file=layout.file, shape=layout.shape, voxel_bytes=layout.voxel_bytes, begin=begin)


def metaimage_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, which ends with ElementDataFile, and its length in bytes."""
    fields: dict[str, str] = {}
    length = 0
    for line in _lines(path):
        length += len(line)
        key, separator, value = (part.strip().decode("latin1") for part in line.partition(b"="))
        if not separator:
            break
        _add(path, fields, key, value)
        if key == "ElementDataFile":
            return fields, length
    raise _no_header(path, "a MetaImage file, whose header ends with ElementDataFile", len(fields))


def nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, which ends with an empty line or with the file, and its length in bytes."""
    fields: dict[str, str] = {}
    length = 0
    lines = _lines(path)
    _require_short_path(path)
    for number, line in enumerate(lines):
        length += len(line)
        _require_short_line(path, number, line)
        text = line.strip().decode("latin1")
        if number == 0 and not re.fullmatch(r"NRRD\d{4}", text):
            break
        if not text:
            return fields, length
        if number and not text.startswith("#") and ":=" not in text:
            key, _, value = text.partition(":")
            _add(path, fields, key.strip().lower(), value.strip())
    if fields.keys() & {"data file", "datafile"}:
        return fields, length
    raise _no_header(path, "an NRRD file, whose header ends with an empty line", len(fields))


def _require_short_path(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > _LONGEST_NRRD_PATH:
        expected = f"an NRRD file whose path has at most {_LONGEST_NRRD_PATH} bytes"
        raise ImageError(message(path, expected=expected, got=f"{size}", remedy="Move it up some folders."))


def _require_short_line(path: Path, number: int, line: bytes) -> None:
    if len(line) > _LONGEST_NRRD_LINE and number and not _NRRD_LINE_OF_ANY_LENGTH.match(line):
        raise ImageError(
            message(
                path,
                expected=f"lines of at most {_LONGEST_NRRD_LINE} bytes in its header",
                got=f"{len(line)} in line {number + 1}",
                remedy="Fix the header, or copy or export the file again.",
            )
        )


def _lines(path: Path) -> list[bytes]:
    require_image_file(path)
    with path.open("rb") as file:
        return file.read(_LONGEST_HEADER_BYTES).splitlines(keepends=True)


def _add(path: Path, fields: dict[str, str], key: str, value: str) -> None:
    if key in fields and fields[key] != value:
        raise _wrong(path, key, "one value", f"{fields[key]} and {value}")
    fields[key] = value


def _no_header(path: Path, expected: str, num_fields: int) -> ImageError:
    got = f"{num_fields} lines of one" if num_fields else describe_content(path)
    return ImageError(message(path, expected=expected, got=got, remedy="Copy or export it again."))


def _shape(path: Path, fields: Mapping[str, str], count_key: str, sizes_key: str) -> tuple[int, ...]:
    count = _whole(path, fields, count_key, "", least=0)
    if count not in _DIMENSIONS:
        raise _wrong(path, count_key, "2, 3 or 4 dimensions", count)
    sizes = fields.get(sizes_key, "").split()
    if len(sizes) != count or not all(size.isdecimal() and 1 <= int(size[:20]) < _LARGEST_SIZE for size in sizes):
        raise _wrong(path, sizes_key, f"{count} sizes of at least 1", fields.get(sizes_key))
    return tuple(int(size) for size in sizes)


def _whole(path: Path, fields: Mapping[str, str], key: str, default: str, *, least: int) -> int:
    text = fields.get(key, default)
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or int(text) < least:
        raise _wrong(path, key, f"a whole number of at least {least}", text or None)
    return int(text)


def _check_numbers(path: Path, fields: Mapping[str, str], key: str, count: int) -> None:
    """Refuse a field that is there but is not `count` finite numbers."""
    text = fields.get(key)
    if text is None:
        return
    words = text.split()
    if len(words) != count or not all(_NUMBER.fullmatch(word) for word in words):
        raise _wrong(path, key, f"{count} numbers", text)


def _true(path: Path, fields: Mapping[str, str], key: str, default: str) -> bool:
    text = fields.get(key, default)
    if text.lower() not in ("true", "false"):
        raise _wrong(path, key, "True or False", text)
    return text.lower() == "true"


def _voxel_file(path: Path, key: str, name: str, *, local: str | None) -> Path:
    if name == local:
        return path
    name = name.removeprefix("./")  # some writers put it before
    if name_fault(name) is not None or name.split()[0] == "LIST" or "%" in name:
        raise _wrong(path, key, "the name of one file in the same folder", name or None, "Save the image as one file.")
    file = path.with_name(name)
    if not file.is_file():
        raise _wrong(path, key, "a file beside it", f"{name}, which is not there", "Copy the voxels, too.")
    return file


def _wrong(path: Path, field: str, expected: str, got: object, remedy: str = "") -> ImageError:
    text = "none" if got is None else str(got)
    return ImageError(
        message(
            path,
            expected=f"{field} in its header to be {expected}",
            got=text if len(text) <= 200 else text[:200] + " ...",
            remedy=remedy or "Fix the header, or copy or export the file again.",
        )
    )
