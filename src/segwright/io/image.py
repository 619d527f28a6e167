"""What a reader delivers: voxels, where they lie, and the properties that nnU-Net v2 keeps beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segwright.errors import GeometryError, ImageError, message
from segwright.geometry import Geometry

MAX_LABEL = np.iinfo(np.uint16).max
# From a nanometre's thousandth to a thousand kilometres: outside lie damaged headers, not images.
SMALLEST_SPACING_MM, LARGEST_SPACING_MM = 1e-9, 1e9


@dataclass(frozen=True)
class Doubt:
    """Something in a file that readers pass over or take otherwise than others do, and what to do about it."""

    path: Path
    what: str
    remedy: str


@dataclass(frozen=True, eq=False)
class Image:
    """One case's image or label map.

    `array` is (c, z, y, x) float32 and contiguous; `properties` has nnU-Net's keys ("spacing" in array order, and
    "sitk_stuff" or "nibabel_stuff", which a writer needs). `warnings` says which channels lie elsewhere than the first,
    `doubts` what is odd in the files.
    """

    array: NDArray[np.float32]
    geometry: Geometry
    properties: dict[str, Any]
    warnings: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, eq=False)
class FileContent:
    """What a single image file holds; `array` is (c, z, y, x) of any number type, `surplus` the bytes after it."""

    path: Path
    array: NDArray[Any]
    geometry: Geometry
    properties: dict[str, Any]
    surplus: int = 0
    doubts: tuple[Doubt, ...] = ()


class ImageReaderWriter(Protocol):
    """Reads the images and reads and writes the label maps of one family of file formats."""

    @property
    def name(self) -> str:
        """nnU-Net's class name, as plans and dataset.json give it."""
        ...

    @property
    def file_endings(self) -> tuple[str, ...]:
        """Endings in lower case, with the dot."""
        ...

    def read_image(self, paths: Sequence[Path]) -> Image:
        """Read the channels of one case, in order, as (c, z, y, x)."""
        ...

    def read_labels(self, path: Path) -> Image:
        """Read a label map as (1, z, y, x)."""
        ...

    def write_labels(self, label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
        """Write a label map (z, y, x) with the geometry in `properties`."""
        ...


def combine_channels(files: Sequence[FileContent]) -> Image:
    """Stack the files of one case along the channel axis; geometry and properties are the first file's.

    Raises:
        GeometryError: shapes or spacings differ, naming the files and both values.
        ImageError: a spacing that is not positive, or an image without voxels.
    """
    first = files[0]
    for file in files:
        _check_voxels(file)
    for file in files[1:]:
        _check_same("shape", first, file, first.array.shape[1:] == file.array.shape[1:])
        _check_same("spacing_mm", first, file, first.geometry.same_spacing(file.geometry))
    return Image(
        array=_stack([file.array for file in files]),
        geometry=first.geometry,
        properties=first.properties,
        warnings=tuple(text for file in files[1:] if (text := position_difference(first, file))),
        doubts=tuple(doubt for file in files for doubt in file.doubts),
    )


def _stack(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    first = arrays[0]
    if len(arrays) == 1 and first.dtype == np.float32 and first.flags.c_contiguous:
        return first
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is reported for every voxel
        return np.concatenate(arrays, dtype=np.float32, casting="unsafe")


def position_difference(first: FileContent, second: FileContent) -> str | None:
    """Say how origin or direction of two files differ, or None where they agree by nnU-Net's tolerance."""
    if first.geometry.same_position(second.geometry):
        return None
    return (
        f"{second.path.name} lies elsewhere than {first.path.name}: "
        f"{second.geometry.position_in_words()} against {first.geometry.position_in_words()}"
    )


def as_label_values(label_map: NDArray[Any], *, where: object) -> NDArray[np.uint8 | np.uint16]:
    """Convert a label map to uint8 (values below 255) or uint16, as nnU-Net writes it.

    Raises:
        ImageError: the array is not (z, y, x), or holds fractions or values outside 0..65535.
    """
    if label_map.ndim != 3:
        raise ImageError(
            message(
                where,
                expected="a label map with the axes (z, y, x)",
                got=f"shape {label_map.shape}",
                remedy="A 2D label map has z = 1.",
            )
        )
    low, high = (label_map.min(), label_map.max()) if label_map.size else (0, 0)
    if not (low >= 0 and high <= MAX_LABEL) or (label_map.dtype.kind == "f" and np.any(label_map % 1 != 0)):
        raise ImageError(
            message(
                where,
                expected=f"whole numbers of 0 to {MAX_LABEL} as labels",
                got=f"{label_map.dtype} values between {low} and {high}",
                remedy="Convert the label map first.",
            )
        )
    return label_map.astype(np.uint8 if high < 255 else np.uint16, copy=False)


def _check_voxels(file: FileContent) -> None:
    spacing = file.geometry.spacing_mm
    if not all(SMALLEST_SPACING_MM <= value <= LARGEST_SPACING_MM for value in spacing):
        raise ImageError(
            message(
                file.path,
                expected=f"positive voxel spacings of {SMALLEST_SPACING_MM:g} to {LARGEST_SPACING_MM:g} mm",
                got=str(spacing),
                remedy="Fix the file's header.",
            )
        )
    if not all(math.isfinite(value) for value in (*file.geometry.origin_mm, *file.geometry.direction)):
        raise ImageError(
            message(
                file.path,
                expected="an image that lies somewhere",
                got=file.geometry.position_in_words(),
                remedy="Fix the file's header.",
            )
        )
    if file.array.dtype.kind not in "biuf":
        raise ImageError(
            message(
                file.path,
                expected="one real number per voxel",
                got=str(file.array.dtype),
                remedy="Write each component to a separate file, as channels _0000, _0001 and so on.",
            )
        )
    if file.array.size == 0:
        raise ImageError(
            message(
                file.path, expected="an image with voxels", got=f"shape {file.array.shape}", remedy="Export it again."
            )
        )


def _check_same(what: str, first: FileContent, second: FileContent, same: bool) -> None:
    if same:
        return
    values = [
        file.array.shape[1:] if what == "shape" else tuple(round(v, 6) for v in file.geometry.spacing_mm)
        for file in (first, second)
    ]
    name = "shape" if what == "shape" else "spacing in mm"
    raise GeometryError(
        message(
            second.path,
            expected=f"the same {name} (z, y, x) as {first.path.name}, {values[0]}",
            got=str(values[1]),
            remedy="All channels of a case must lie on one grid; register and resample them before.",
        )
    )
