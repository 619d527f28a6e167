"""NIfTI through nibabel, as it lies or reoriented to RAS; arrays are transposed to (z, y, x) to match SimpleITK's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.geometry import Geometry
from segwright.io import own_header
from segwright.io.image import FileContent
from segwright.io.integrity import require_voxels
from segwright.io.nifti_header import read_nifti_header
from segwright.io.plain_voxels import PlainVoxels

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

FILE_ENDINGS = (".nii", ".nii.gz")


def read_file(path: Path) -> FileContent:
    """Read a 3D file as it lies."""
    image, surplus = _load(path)
    return _content(path, image, {"original_affine": image.affine}, surplus)


def read_file_reoriented(path: Path) -> FileContent:
    """Read a 3D file with its axes flipped and permuted to RAS."""
    from nibabel.orientations import io_orientation

    image, surplus = _load(path)
    reoriented = image.as_reoriented(io_orientation(image.affine))
    stuff = {"original_affine": image.affine, "reoriented_affine": reoriented.affine}
    return _content(path, reoriented, stuff, surplus)


def write_file(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write a label map (z, y, x) with the affine of its image."""
    _write(label_map, path, properties)


def write_file_reoriented(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write a label map (z, y, x) that lies in RAS in the orientation that its image was read from."""
    from nibabel.nifti1 import Nifti1Image
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    stuff = properties["nibabel_stuff"]
    original = np.asarray(stuff["original_affine"])
    image = Nifti1Image(label_map.transpose((2, 1, 0)), affine=np.asarray(stuff["reoriented_affine"]))
    back = image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), io_orientation(original)))
    _write(np.asanyarray(back.dataobj).transpose((2, 1, 0)), path, properties)


def _write(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write with the header of the image that the properties are from, if it has their affine; else with a new one."""
    import nibabel
    from nibabel.nifti1 import Nifti1Image

    affine = np.asarray(properties["nibabel_stuff"]["original_affine"])
    header = own_header.header_for(properties, label_map, path)
    if header is not None and np.array_equal(_affine(header), affine):
        own_header.write_with_header(header, label_map, path)
    else:
        nibabel.save(Nifti1Image(label_map.transpose((2, 1, 0)), affine=affine), path)


def _affine(header: bytes) -> NDArray[np.float64]:
    """The affine that nibabel takes from a header, which it corrects in the same way when it opens a file."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind = next(kind for kind in (Nifti1Header, Nifti2Header) if len(header) <= kind.sizeof_hdr + 4)
    with _silent_nibabel():
        return np.asarray(kind(header[: kind.sizeof_hdr]).get_best_affine())


def _load(path: Path) -> tuple[Nifti1Image, int]:
    """Open a file, and count the bytes after its voxels.

    The voxels are in memory where they are plain numbers, else nibabel reads them when asked.
    """
    import nibabel
    from nibabel.nifti1 import Nifti1Image

    layout = read_nifti_header(path)
    with _silent_nibabel():
        image = nibabel.load(path)
    if not isinstance(image, Nifti1Image) or len(image.shape) != 3:
        raise ImageError(
            message(
                path,
                expected="a NIfTI file of 3 dimensions",
                got=f"{type(image).__name__} of shape {getattr(image, 'shape', '?')}",
                remedy="Write each channel to a separate file, or read it with SimpleITKIO.",
            )
        )
    if not abs(np.linalg.det(image.affine[:3, :3])) > 0:
        raise ImageError(
            message(
                path,
                expected="three axes in three directions as affine",
                got=str(image.affine[:3].tolist()),
                remedy="Fix the header, or copy or export the file again.",
            )
        )
    if layout.number_type is None:
        return image, require_voxels(layout)
    voxels = PlainVoxels(number_type=layout.number_type, header_bytes=layout.skipped, num_voxels=layout.num_voxels)
    surplus = require_voxels(layout, look_at=voxels.take)
    return type(image)(voxels.array.reshape(image.shape, order="F"), image.affine, image.header), surplus


@contextmanager
def _silent_nibabel() -> Iterator[None]:
    """Hide what nibabel corrects in a header by itself; what matters was refused before."""
    from nibabel.imageglobals import logger

    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _content(path: Path, image: Nifti1Image, stuff: dict[str, Any], surplus: int) -> FileContent:
    spacing = [float(value) for value in image.header.get_zooms()[:3][::-1]]
    read_before = isinstance(image.dataobj, np.ndarray) and image.dataobj.dtype == np.float32
    voxels = image.dataobj if read_before else image.get_fdata(caching="unchanged", dtype=np.float64)
    axes = image.affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    return FileContent(
        path=path,
        array=np.asarray(voxels).transpose((2, 1, 0))[None],
        geometry=Geometry(
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            origin_mm=tuple(float(value) for value in image.affine[:3, 3]),
            direction=tuple(float(value) for value in (axes / np.where(lengths > 0, lengths, 1)).ravel()),
        ),
        properties={"nibabel_stuff": stuff, "spacing": spacing, **own_header.kept_header(path)},
        surplus=surplus,
    )
