"""Images through SimpleITK: NIfTI, NRRD, MetaImage, GIPL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message
from segwright.geometry import Geometry
from segwright.io import nifti_header, own_header, text_header
from segwright.io.image import FileContent
from segwright.io.integrity import VoxelLayout, require_image_file, require_voxels
from segwright.io.leftovers import temporary_folder
from segwright.io.non_finite import FLOAT_TYPES, NonFiniteVoxels
from segwright.io.plain_voxels import PlainVoxels

if TYPE_CHECKING:
    import SimpleITK

FILE_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")
# Formats of two files, which cannot be written as one that is whole or not there.
VOXELS_BESIDE = (".mhd", ".nhdr", ".hdr", ".img")
# nnU-Net's: a 2D image becomes one slice, so thick that no planner looks across it.
SLICE_SPACING_FACTOR_2D = 999
ORIENTATION = "RAS"
GIPL_HEADER_BYTES = 256
_ROUNDING = 1e-6


def read_file(path: Path) -> FileContent:
    """Read a 2D, 3D or 4D file; the fourth dimension is channels.

    ITK tells where the image lies, and reads what only it can; plain numbers are taken from the file while it is looked
    at whether it is whole, because ITK would unpack it once more.
    """
    if path.name.lower().endswith(nifti_header.FILE_ENDINGS):
        layout = nifti_header.read_nifti1_header(path)
        content = None if layout.number_type is None else _plain_content(path, layout, layout.number_type)
        if content is not None:
            return content
    image, surplus = _read(path)
    return _content(path, image, surplus)


def _plain_content(path: Path, layout: VoxelLayout, number_type: str) -> FileContent | None:
    """Content of a NIfTI file without a scale, or None if ITK must read it, or say why it does not."""
    place = _place_by_itk(nifti_header.without_numbers(layout))
    if place is None or max(layout.shape[len(place.spacing) :], default=1) > 1:
        return None
    voxels = PlainVoxels(number_type=number_type, header_bytes=layout.skipped, num_voxels=layout.num_voxels)
    surplus = require_voxels(layout, look_at=voxels.take)
    return _content_at(place, path, voxels.array.reshape(layout.shape[: len(place.spacing)][::-1]), surplus)


def read_file_reoriented(path: Path) -> FileContent:
    """Read a 3D file with its axes brought into RAS order; the orientation found is kept in the properties."""
    import SimpleITK

    image, surplus = _read(path)
    if image.GetDimension() != 3:
        raise _wrong_dimension(path, image.GetDimension(), "3")
    found = SimpleITK.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(image.GetDirection())
    content = _content(path, SimpleITK.DICOMOrient(image, ORIENTATION), surplus)
    content.properties["sitk_stuff"]["original_orientation"] = found
    # Turned round and back the numbers are not quite the same.
    place = _place_of(image)
    content.properties.setdefault(own_header.KEY, {})["place"] = (place.spacing, place.origin, place.direction)
    return content


def write_file(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write a label map (z, y, x), compressed, with the spacing, origin and direction that were read."""
    _write(_labels_in_space(label_map, properties["sitk_stuff"]), path, properties)


def write_file_reoriented(label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
    """Write a label map (z, y, x) that lies in RAS order in the orientation that its image was read from."""
    import SimpleITK

    stuff = properties["sitk_stuff"]
    labels = SimpleITK.DICOMOrient(_labels_in_space(label_map, stuff), stuff["original_orientation"])
    place = properties.get(own_header.KEY, {}).get("place")
    if place is not None and _same_place(_Place(*place), _place_of(labels)):
        labels.SetSpacing(place[0])
        labels.SetOrigin(place[1])
        labels.SetDirection(place[2])
    _write(labels, path, properties)


def num_channels_in_file(path: Path) -> int:
    """Number of channels that a file holds, from its header alone.

    Raises:
        ImageError, RuntimeError: it is no such file, or its header is damaged.
    """
    require_image_file(path)
    with _silent_itk():
        reader, _ = _read_header(path)
    return int(reader.GetSize()[3]) if reader.GetDimension() == 4 else 1


def _read(path: Path) -> tuple[SimpleITK.Image, int]:
    """The image in a file, and how many bytes follow its voxels."""
    import SimpleITK

    with _silent_itk():
        reader, layout = _read_header(path)
        if reader.GetNumberOfComponents() != 1:
            raise ImageError(
                message(
                    path,
                    expected="one number per voxel",
                    got=SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()),
                    remedy="Write each component to a separate file, as channels _0000, _0001, ....",
                )
            )
        if not 2 <= reader.GetDimension() <= 4:
            raise _wrong_dimension(path, reader.GetDimension(), "2, 3 or 4")
        if math.prod(reader.GetSize()) != layout.num_voxels:  # of vectors in NIfTI it looks at five dimensions only
            raise _wrong_dimension(path, len(layout.shape), "2, 3 or 4")
        _refuse_unpacked_twin(path)
        found = _non_finite_voxels(reader, layout)
        surplus = require_voxels(layout, look_at=None if found is None else found.take)
        image = reader.Execute()
    return (image if found is None or not found.places.size else _with_nan(image, found.places)), surplus


def _refuse_unpacked_twin(path: Path) -> None:
    """ITK takes the header from a .nii.gz and the voxels from a .nii of the same name beside it."""
    twin = path.with_suffix("")
    if path.name.lower().endswith(".nii.gz") and twin.exists():
        raise ImageError(
            message(
                path,
                expected="no other file of its name, whose voxels ITK would take",
                got=f"{twin.name} beside it",
                remedy="Move one of them to another folder.",
            )
        )


def _read_header(path: Path) -> tuple[SimpleITK.ImageFileReader, VoxelLayout]:
    """Let ITK read a header that was found sound; a file is taken for what its name says, whatever ITK sees in it."""
    import SimpleITK

    name = path.name.lower()
    image_io, read_header = next((known for ending, known in _FORMATS.items() if name.endswith(ending)), ("", None))
    layout = None if read_header is None else read_header(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader, layout or _layout_by_itk(reader, path)


@dataclass(frozen=True)
class _Place:
    """Where an image lies, in ITK's order of axes, x first."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def _place_of(image: SimpleITK.Image | SimpleITK.ImageFileReader) -> _Place:
    return _Place(image.GetSpacing(), image.GetOrigin(), image.GetDirection())


@lru_cache(maxsize=16)
def _place_by_itk(header: bytes) -> _Place | None:
    """Where ITK sees an image with this NIfTI or NRRD header, or None where it sees none of 2 to 4 dimensions.

    The header is passed in a separate file, because ITK unpacks much of a packed file, three times.
    None too where no such file can be written.
    """
    import SimpleITK

    ending = ".nrrd" if text_header.is_nrrd(header) else ".nii"
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_FORMATS[ending][0])
    try:
        with temporary_folder() as folder, _silent_itk():
            path = folder / f"header{ending}"
            path.write_bytes(header)
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
    except (RuntimeError, OSError):
        return None
    if reader.GetNumberOfComponents() != 1 or not 2 <= reader.GetDimension() <= 4:
        return None
    return _with_positive_spacing(_place_of(reader))


def _with_positive_spacing(place: _Place) -> _Place:
    """Turn round the axes of negative spacing, as ITK does when it reads an image, but not when only its header."""
    signs = [-1.0 if value < 0 else 1.0 for value in place.spacing]
    return _Place(
        spacing=tuple(abs(value) for value in place.spacing),
        origin=place.origin,
        direction=tuple(value * signs[index % len(signs)] for index, value in enumerate(place.direction)),
    )


# By ending: ITK's name of the format, and what looks at the header before. Other files are what ITK sees in them.
_FORMATS: dict[str, tuple[str, Callable[[Path], VoxelLayout] | None]] = {
    **dict.fromkeys(nifti_header.FILE_ENDINGS, ("NiftiImageIO", nifti_header.read_nifti1_header)),
    **dict.fromkeys(text_header.METAIMAGE_ENDINGS, ("MetaImageIO", text_header.read_metaimage_header)),
    **dict.fromkeys(text_header.NRRD_ENDINGS, ("NrrdImageIO", text_header.read_nrrd_header)),
    ".gipl": ("GiplImageIO", None),
}


def _layout_by_itk(reader: SimpleITK.ImageFileReader, path: Path) -> VoxelLayout:
    import SimpleITK

    return VoxelLayout(
        file=path,
        shape=tuple(int(size) for size in reader.GetSize()),
        voxel_bytes=int(SimpleITK.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()),
        skipped=GIPL_HEADER_BYTES,
        is_plain=path.name.lower().endswith(".gipl"),
    )


def _non_finite_voxels(reader: SimpleITK.ImageFileReader, layout: VoxelLayout) -> NonFiniteVoxels | None:
    """What looks for NaN and infinity in a NIfTI file that may hold them; None for every other file."""
    datatype = reader.GetMetaData("datatype") if reader.HasMetaDataKey("datatype") else ""
    if datatype not in FLOAT_TYPES:
        return None
    return NonFiniteVoxels(datatype=datatype, header_bytes=layout.skipped, num_voxels=layout.num_voxels)


def _with_nan(image: SimpleITK.Image, places: NDArray[np.int64]) -> SimpleITK.Image:
    """The image with NaN where its file has NaN or infinity, so that it can be reported."""
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(image)
    array.reshape(-1)[places] = np.nan
    restored = SimpleITK.GetImageFromArray(array, isVector=False)
    restored.CopyInformation(image)
    return restored


def _content(path: Path, image: SimpleITK.Image, surplus: int) -> FileContent:
    import SimpleITK

    # The view is copied while the image lives; its memory goes with it.
    array = np.array(SimpleITK.GetArrayViewFromImage(image), dtype=np.float32)
    return _content_at(_place_of(image), path, array, surplus)


def _content_at(place: _Place, path: Path, array: NDArray[np.float32], surplus: int) -> FileContent:
    """Content of a file with the voxels `array`, whose axes are those of `place` in reverse order."""
    dimension = len(place.spacing)
    array = array.reshape((1,) * (4 - dimension) + array.shape)
    spacing = [abs(float(value)) for value in place.spacing[::-1]]
    if dimension == 2:
        spacing = [max(spacing) * SLICE_SPACING_FACTOR_2D, *spacing]
    spacing = spacing[-3:]
    in_space = min(dimension, 3)
    return FileContent(
        path=path,
        array=array,
        geometry=Geometry(
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            origin_mm=place.origin[:in_space],
            direction=_direction_in_space(place.direction, in_space),
        ),
        properties={
            "sitk_stuff": {"spacing": place.spacing, "origin": place.origin, "direction": place.direction},
            "spacing": spacing,
            **own_header.kept_header(path),
        },
        surplus=surplus,
    )


def _direction_in_space(direction: tuple[float, ...], axes: int) -> tuple[float, ...]:
    size = round(len(direction) ** 0.5)
    return tuple(direction[row * size + column] for row in range(axes) for column in range(axes))


def _labels_in_space(label_map: NDArray[Any], stuff: Mapping[str, Any]) -> SimpleITK.Image:
    """Label map as an image of 2 or 3 dimensions; of a 4D image's geometry the part in space is taken."""
    import SimpleITK

    axes = min(len(stuff["spacing"]), 3)
    image = SimpleITK.GetImageFromArray(label_map[0] if axes == 2 else label_map)
    image.SetSpacing(tuple(stuff["spacing"][:axes]))
    image.SetOrigin(tuple(stuff["origin"][:axes]))
    image.SetDirection(_direction_in_space(tuple(stuff["direction"]), axes))
    return image


def _write(image: SimpleITK.Image, path: Path, properties: Mapping[str, Any]) -> None:
    """Write with the header of the image that the properties are from, if ITK sees it where it says; else ITK's."""
    import SimpleITK

    if path.name.lower().endswith(VOXELS_BESIDE):
        raise ImageError(
            message(
                path,
                expected=f"an ending for header and voxels in one file, such as {FILE_ENDINGS[0]}",
                got=path.suffix,
                remedy="Convert the images of the data set to such a format.",
            )
        )
    label_map = SimpleITK.GetArrayViewFromImage(image)
    header = own_header.header_for(properties, label_map, path)
    if header is not None and _same_place(_place_by_itk(header), _place_of(image)):
        own_header.write_with_header(header, label_map, path)
        return
    with _silent_itk():
        SimpleITK.WriteImage(image, str(path), useCompression=True)


def _same_place(first: _Place | None, second: _Place) -> bool:
    """Whether two grids are one but for rounding, as of axes that were turned round and back."""
    if first is None or len(first.spacing) != len(second.spacing):
        return False
    return (
        np.allclose(first.spacing, second.spacing, rtol=_ROUNDING, atol=0)
        and np.allclose(first.direction, second.direction, rtol=0, atol=_ROUNDING)
        and np.allclose(first.origin, second.origin, rtol=_ROUNDING, atol=_ROUNDING * min(second.spacing))
    )


@contextmanager
def _silent_itk() -> Iterator[None]:
    """Keep ITK's own warnings off the terminal; they name ITK's source lines, not what the user can fix."""
    import SimpleITK

    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


def _wrong_dimension(path: Path, got: int, expected: str) -> ImageError:
    return ImageError(
        message(path, expected=f"an image of {expected} dimensions", got=f"{got}", remedy="Export it again.")
    )
