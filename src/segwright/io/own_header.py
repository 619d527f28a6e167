"""The geometry in an input's own header, kept so that its label map is written with the same fields, bit for bit.

ITK and nibabel make a new header of spacing, origin and direction: sform and qform become one, units and codes are
lost, and numbers are rounded. What is kept is itself the header of an image of bytes, of NIfTI or NRRD; MetaImage and
GIPL hold what ITK reads of them, to the bit, and need none.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segwright.io import nifti_header, text_header

# Of the properties of a case; nnU-Net looks at its own keys only.
KEY = "segwright"
# A label map is as small as with ITK's, and quicker to pack than with more.
_COMPRESSION_LEVEL = 5


def kept_header(path: Path) -> dict[str, dict[str, bytes]]:
    """Properties that hold the geometry in a file's header, found sound before; none of other formats."""
    name = path.name.lower()
    if name.endswith(nifti_header.FILE_ENDINGS):
        header: bytes | None = nifti_header.geometry_alone(nifti_header.read_nifti_header(path).beginning)
    elif name.endswith(text_header.NRRD_ENDINGS):
        header = text_header.nrrd_geometry_alone(path)
    else:
        header = None
    return {} if header is None else {KEY: {"header": header}}


def header_for(properties: Mapping[str, Any], label_map: NDArray[Any], path: Path) -> bytes | None:
    """The header to write a label map (z, y, x), or (y, x), of bytes or uint16 with, or None if none was kept.

    None too if it is of another format than the file at `path` is to be.
    """
    header = properties.get(KEY, {}).get("header")
    if header is None:
        return None
    name = path.name.lower()
    if name.endswith(text_header.NRRD_ENDINGS) and text_header.is_nrrd(header):
        return text_header.nrrd_header_for(header, label_map)
    if name.endswith(nifti_header.FILE_ENDINGS) and not text_header.is_nrrd(header):
        return nifti_header.header_for(header, label_map)
    return None


def write_with_header(header: bytes, label_map: NDArray[Any], path: Path) -> None:
    """Write a label map behind the header made for it, packed except in a .nii file."""
    is_nrrd = text_header.is_nrrd(header)
    order = "<" if is_nrrd else nifti_header.byte_order(header)
    voxels = np.ascontiguousarray(label_map, dtype=f"{order}u{label_map.dtype.itemsize}")
    with path.open("wb") as file:
        if is_nrrd:
            file.write(header)
            _pack(file, voxels.data)
        elif path.name.lower().endswith(".gz"):
            _pack(file, header, voxels.data)
        else:
            file.write(header)
            file.write(voxels.data)


def _pack(file: BinaryIO, *parts: bytes | memoryview) -> None:
    """Write parts as one gzip member without name and time, so that the same label map gives the same file."""
    with gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, file, mtime=0) as packed:
        for part in parts:
            packed.write(part)
