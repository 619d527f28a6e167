"""Rewrite an image file without NaN and infinity, or without a dimension of size 1; everything else stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, SegwrightError, message
from segwright.io import reader_named

if TYPE_CHECKING:
    import SimpleITK

_NIFTI = (".nii", ".nii.gz")
_ITK = (".nrrd", ".mha", ".gipl")
_TIFF = (".tif", ".tiff")
Change = Callable[[NDArray[Any]], NDArray[Any]]


def replace_non_finite(path: Path) -> tuple[int, float]:
    """Replace voxels that are NaN, or infinite as float32, by the minimum of the others.

    Returns their number, and the minimum. The file must have been read before, so that it is known to be undamaged.

    Raises:
        ImageError: no voxel is finite, or the format cannot be written without loss.
    """
    found: list[tuple[int, float]] = []

    def replace(voxels: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(voxels.astype(np.float32))
        if bad.all():
            raise ImageError(message(path, expected="at least one finite voxel", got="none", remedy="Export it again."))
        least = voxels[~bad].min()
        found.append((int(bad.sum()), float(least)))
        return np.where(bad, least, voxels)

    _rewrite(path, replace)
    return found[0]


def squeeze(path: Path) -> bool:
    """Rewrite a file of 4 dimensions, the last of size 1, with 3; returns whether it was one."""
    if not path.name.lower().endswith((*_NIFTI, *_ITK)):
        return False
    try:
        whole = reader_named("SimpleITKIO").read_image([path])
    except SegwrightError:
        return False
    if whole.array.shape[0] != 1 or _num_dimensions(path) != 4:
        return False
    if path.name.lower().endswith(_NIFTI):
        _rewrite(path, lambda voxels: voxels[..., 0])
    else:
        import SimpleITK

        _write_itk(SimpleITK.ReadImage(str(path))[..., 0], path)
    return True


def _rewrite(path: Path, change: Change) -> None:
    name = path.name.lower()
    if name.endswith(_NIFTI):
        _rewrite_nifti(path, change)
    elif name.endswith(_ITK):
        _rewrite_itk(path, change)
    elif name.endswith(_TIFF):
        import tifffile

        voxels = change(tifffile.imread(path))
        tifffile.imwrite(path, voxels, compression="zlib", photometric="minisblack")
    else:
        raise ImageError(
            message(
                path,
                expected=f"one of {', '.join((*_NIFTI, *_ITK, *_TIFF))}, which can be written without loss",
                got=path.suffix,
                remedy="Fix the image with the program that made it.",
            )
        )


def _rewrite_nifti(path: Path, change: Change) -> None:
    """Keep the header except for the number type if it had a scale factor."""
    import nibabel
    from nibabel.nifti1 import Nifti1Image

    image = nibabel.load(path, mmap=False)
    assert isinstance(image, Nifti1Image), "the reader has read it as NIfTI"
    voxels = change(np.asanyarray(image.dataobj))
    header = image.header.copy()
    header.set_data_dtype(voxels.dtype)
    nibabel.save(type(image)(voxels, image.affine, header), path)


def _rewrite_itk(path: Path, change: Change) -> None:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    changed = SimpleITK.GetImageFromArray(change(SimpleITK.GetArrayFromImage(image)), isVector=False)
    changed.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        if not key.startswith("ITK_"):  # ITK's own entries, which it writes again
            changed.SetMetaData(key, image.GetMetaData(key))
    _write_itk(changed, path)


def _write_itk(image: SimpleITK.Image, path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _num_dimensions(path: Path) -> int:
    if path.name.lower().endswith(_NIFTI):  # ITK does not count a last dimension of size 1
        import nibabel

        return len(nibabel.load(path).shape)
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return int(reader.GetDimension())
