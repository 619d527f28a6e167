"""3D TIFF stacks; the spacing lies in a JSON file beside them, ``CASE.json`` with ``{"spacing": [z, y, x]}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.geometry import Geometry
from segwright.io.atomic import write_json_atomic
from segwright.io.image import FileContent
from segwright.io.integrity import VoxelLayout, require_memory, require_plausible_size
from segwright.io.json_file import read_json

FILE_ENDINGS = (".tif", ".tiff")
CHANNEL_NUMBER = re.compile(r"_\d{4}$")
# TIFF's codes of no compression and of DEFLATE; others pack better than that.
_AT_MOST_DEFLATED = (1, 8, 32946)
# tifffile prints warnings about damaged tags; what cannot be read is an error anyway.
_SILENT = logging.NullHandler()


def read_channel_file(path: Path) -> FileContent:
    """Read one channel, ``CASE_0000.tif``, with the spacing in ``CASE.json``."""
    return _read(path, path.with_name(CHANNEL_NUMBER.sub("", path.stem) + ".json"))


def read_label_file(path: Path) -> FileContent:
    """Read a label map, ``CASE.tif``, with the spacing in ``CASE.json``."""
    return _read(path, path.with_suffix(".json"))


def write_file(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write a label map (z, y, x), compressed."""
    import tifffile

    tifffile.imwrite(path, label_map, compression="zlib", photometric="minisblack")


def write_spacing(path: Path, properties: Mapping[str, Any]) -> None:
    """Write the spacing beside the label map at `path`."""
    write_json_atomic(path.with_suffix(".json"), {"spacing": list(properties["spacing"])})


def read_pixels(path: Path) -> NDArray[Any]:
    """Read the first image of a TIFF file.

    Raises:
        ImageError: there is none, or it claims more than the file or the memory can hold.
    """
    import tifffile

    logging.getLogger("tifffile").addHandler(_SILENT)
    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise ImageError(
                message(path, expected="an image in the TIFF file", got="none", remedy="Copy or export it again.")
            )
        series = file.series[0]
        layout = VoxelLayout(path, tuple(series.shape), np.dtype(series.dtype or np.uint8).itemsize, is_plain=False)
        if file.pages.first.compression in _AT_MOST_DEFLATED:
            require_plausible_size(layout)
        require_memory(layout)
        return np.asarray(file.asarray())


def _read(path: Path, spacing_path: Path) -> FileContent:
    array = read_pixels(path)
    if array.ndim != 3:
        raise ImageError(
            message(
                path,
                expected="a TIFF stack of 3 dimensions",
                got=f"an array of shape {array.shape}",
                remedy="2D TIFF files are read by NaturalImage2DIO.",
            )
        )
    spacing = _read_spacing(spacing_path)
    return FileContent(
        path=path,
        array=array[None],
        geometry=Geometry(spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2]))),
        properties={"spacing": spacing},
    )


def _read_spacing(path: Path) -> list[float]:
    if not path.is_file():
        return [1, 1, 1]
    content = read_json(path, error=ImageError)
    spacing = content.get("spacing") if isinstance(content, Mapping) else None
    if (
        not isinstance(spacing, list)
        or len(spacing) != 3
        or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in spacing)
    ):
        raise ImageError(
            message(
                f"{path}, key 'spacing'",
                expected="three numbers in the order of the stack's axes, such as [3.0, 0.5, 0.5]",
                got=repr(spacing),
                remedy="Correct the file; without it the spacing is taken as 1, 1, 1.",
            )
        )
    return spacing
