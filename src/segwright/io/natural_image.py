"""2D photographs and micrographs: grey, RGB or RGBA, without spacing."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.geometry import Geometry
from segwright.io.image import FileContent
from segwright.io.integrity import VoxelLayout, require_memory, require_plausible_size
from segwright.io.tiff import read_pixels

FILE_ENDINGS = (".png", ".bmp", ".tif")
# nnU-Net's: one slice, too thick to look across, of pixels of size 1.
SPACING = [999, 1, 1]
_HEADER_BYTES = 33
# PNG's colour types: grey, RGB, palette, grey with alpha, RGBA.
_PNG_COMPONENTS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def read_file(path: Path) -> FileContent:
    """Read an image of (y, x) or (y, x, colour) as (c, 1, y, x)."""
    pixels = _read_tiff(path) if path.suffix.lower() in (".tif", ".tiff") else _read_photograph(path)
    if pixels.ndim == 2:
        array = pixels[None, None]
    elif pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        array = pixels.transpose((2, 0, 1))[:, None]
    else:
        raise ImageError(
            message(
                path,
                expected="a grey, RGB or RGBA image in 2D",
                got=f"an array of shape {pixels.shape}",
                remedy="Convert it; 3D TIFF files are read by Tiff3DIO.",
            )
        )
    return FileContent(
        path=path,
        array=array,
        geometry=Geometry(spacing_mm=(999.0, 1.0, 1.0)),
        properties={"spacing": list(SPACING)},
    )


def write_file(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write the only slice of a label map (1, y, x)."""
    if label_map.shape[0] != 1:
        raise ImageError(
            message(path, expected="one slice, z = 1", got=f"shape {label_map.shape}", remedy="Use a 3D file format.")
        )
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        tifffile.imwrite(path, label_map[0], compression="zlib", photometric="minisblack")
    else:
        from imageio import v3 as imageio

        imageio.imwrite(path, label_map[0])


def _read_photograph(path: Path) -> NDArray[Any]:
    from imageio import v3 as imageio

    _require_plausible_size(path)
    return np.asarray(imageio.imread(path))


def _require_plausible_size(path: Path) -> None:
    """Refuse a PNG or BMP file that claims more pixels than it or the memory can hold."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return
    if header.startswith(b"\x89PNG"):
        size, bits = struct.unpack_from(">2I", header, 16), header[24] * _PNG_COMPONENTS.get(header[25], 1)
    elif header.startswith(b"BM"):
        size, bits = struct.unpack_from("<2i", header, 18), struct.unpack_from("<H", header, 28)[0]
    else:
        return
    layout = VoxelLayout(path, (abs(size[0]), abs(size[1])), max(bits // 8, 1), is_plain=False)
    require_plausible_size(layout)
    require_memory(layout)


def _read_tiff(path: Path) -> NDArray[Any]:
    """Read as scikit-image does: colour planes that lie first are brought to the end."""
    pixels = read_pixels(path)
    if pixels.ndim > 2 and pixels.shape[-1] not in (3, 4) and pixels.shape[-3] in (3, 4):
        pixels = np.moveaxis(pixels, -3, -1)
    return pixels
