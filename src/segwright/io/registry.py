"""The reader-writers by nnU-Net's names, and how one is chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segwright.errors import DatasetError, ImageError, SegwrightError, message
from segwright.io import itk, natural_image, nifti, tiff
from segwright.io.atomic import atomic_path
from segwright.io.header_doubts import header_doubts, require_spacing
from segwright.io.image import Doubt, FileContent, Image, ImageReaderWriter, as_label_values, combine_channels
from segwright.io.integrity import require_image_file, require_utf8

ReadFile = Callable[[Path], FileContent]
WriteFile = Callable[[NDArray[Any], Path, Mapping[str, Any]], None]


@dataclass(frozen=True)
class FormatReaderWriter:
    """An `ImageReaderWriter` made of the functions that read and write one file of a format family."""

    name: str
    file_endings: tuple[str, ...]
    read_channel_file: ReadFile
    read_label_file: ReadFile
    write_label_file: WriteFile
    write_side_file: Callable[[Path, Mapping[str, Any]], None] | None = None

    def read_image(self, paths: Sequence[Path]) -> Image:
        """Read the channels of one case, in order, as (c, z, y, x).

        Raises:
            MissingFileError, ImageError: a file is missing, unreadable, truncated, of another kind, or without spacing.
            GeometryError: the files differ in shape or spacing.
        """
        files = [self._read(Path(path), self.read_channel_file) for path in paths]
        for file in files:
            require_spacing(file.path)
        return combine_channels(files)

    def read_labels(self, path: Path) -> Image:
        """Read a label map as (1, z, y, x).

        Raises:
            MissingFileError, ImageError
        """
        content = self._read(Path(path), self.read_label_file)
        if content.array.shape[0] != 1:
            raise ImageError(
                message(
                    path,
                    expected="one label value per voxel",
                    got=f"{content.array.shape[0]} channels",
                    remedy="Save the label map as a grey image whose values are the labels, not as a coloured picture.",
                )
            )
        return combine_channels([content])

    def write_labels(self, label_map: NDArray[Any], path: Path, properties: Mapping[str, Any]) -> None:
        """Write a label map (z, y, x) as uint8 or uint16, compressed, with the geometry in `properties`.

        Raises:
            ImageError: the values are no labels, the properties are another reader's, the format cannot hold them, or
                the path is not UTF-8.
            WriteError: the disk is full or the folder cannot be written to.
        """
        path = Path(path)
        require_utf8(path)
        values = as_label_values(label_map, where=path)
        if self.write_side_file is not None:
            self.write_side_file(path, properties)
        with atomic_path(path) as temporary:
            try:
                self.write_label_file(values, temporary, properties)
            except (SegwrightError, MemoryError):
                raise
            except KeyError as error:
                raise ImageError(
                    message(
                        path,
                        expected=f"the properties of an image that {self.name} read",
                        got=f"no key {error}",
                        remedy="Write with the reader that the image was read with.",
                    )
                ) from error
            except Exception as error:  # the libraries below raise their own, undocumented, kinds
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise ImageError(
                    message(
                        path,
                        expected=f"{self.name} to write it",
                        got=_reason(error),
                        remedy="See that the disk is not full, or try another format.",
                    )
                ) from error

    def _read(self, path: Path, read_file: ReadFile) -> FileContent:
        try:
            require_image_file(path)
            content = read_file(path)
            return replace(content, doubts=tuple(_doubts(content)))
        except SegwrightError:
            raise
        except Exception as error:  # the libraries below raise their own, undocumented, kinds
            raise ImageError(
                message(
                    path,
                    expected=f"an image that {self.name} can read",
                    got=_reason(error),
                    remedy=_remedy(error),
                )
            ) from error


def _doubts(content: FileContent) -> Iterator[Doubt]:
    if content.surplus:
        yield Doubt(
            content.path,
            f"expected an end after the last voxel, got {content.surplus} bytes more: is the header this image's?",
            "Look at the image; if it is right, export it again.",
        )
    for what, remedy in header_doubts(content.path):
        yield Doubt(content.path, what, remedy)


def _reason(error: Exception) -> str:
    """One line that says why a library failed: ITK's and nibabel's texts are long and end with the point."""
    if isinstance(error, MemoryError):
        return "more voxels than fit into memory"
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and line != "Reason: Success"]
    if not telling:
        return type(error).__name__
    return re.sub(r"^sitk::ERROR: |^ITK ERROR: |\(0x[0-9a-f]+\)", "", telling[-1])[:300]


def _remedy(error: Exception) -> str:
    text = str(error)
    if isinstance(error, PermissionError):
        return "Ask its owner for the right to read it."
    if "orthonormal" in text:
        return 'Its axes are skewed: fix the header, or write "overwrite_image_reader_writer": "NibabelIO".'
    if "requires the 'imagecodecs' package" in text:
        return "Its compression needs another package: pip install imagecodecs."
    return "The file is truncated, damaged or of another kind; copy or export it again."


# In the order in which nnU-Net tries them; the last is taken by its name alone.
READERS: dict[str, FormatReaderWriter] = {
    reader.name: reader
    for reader in (
        FormatReaderWriter(
            "NaturalImage2DIO",
            natural_image.FILE_ENDINGS,
            natural_image.read_file,
            natural_image.read_file,
            natural_image.write_file,
        ),
        FormatReaderWriter("SimpleITKIO", itk.FILE_ENDINGS, itk.read_file, itk.read_file, itk.write_file),
        FormatReaderWriter(
            "Tiff3DIO",
            tiff.FILE_ENDINGS,
            tiff.read_channel_file,
            tiff.read_label_file,
            tiff.write_file,
            tiff.write_spacing,
        ),
        FormatReaderWriter("NibabelIO", nifti.FILE_ENDINGS, nifti.read_file, nifti.read_file, nifti.write_file),
        FormatReaderWriter(
            "NibabelIOWithReorient",
            nifti.FILE_ENDINGS,
            nifti.read_file_reoriented,
            nifti.read_file_reoriented,
            nifti.write_file_reoriented,
        ),
        FormatReaderWriter(
            "SimpleITKIOWithReorient",
            itk.FILE_ENDINGS,
            itk.read_file_reoriented,
            itk.read_file_reoriented,
            itk.write_file_reoriented,
        ),
    )
}
BY_NAME_ONLY = frozenset({"SimpleITKIOWithReorient"})


def reader_named(name: str) -> ImageReaderWriter:
    """The reader-writer of nnU-Net's class name `name`.

    Raises:
        DatasetError: unknown name; the message lists the known ones.
    """
    reader = READERS.get(name)
    if reader is None:
        raise DatasetError(
            message(
                "image reader",
                expected=f"one of {', '.join(READERS)}",
                got=repr(name),
                remedy='Correct "overwrite_image_reader_writer" in dataset.json, or remove it to choose by the ending.',
            )
        )
    return reader


def readers_for(file_ending: str) -> tuple[ImageReaderWriter, ...]:
    """The reader-writers that may read files of this ending, in the order in which they are tried."""
    ending = file_ending.lower()
    return tuple(
        reader for name, reader in READERS.items() if ending in reader.file_endings and name not in BY_NAME_ONLY
    )


def choose_reader(
    file_ending: str, *, wanted_name: str | None = None, example: Path | None = None
) -> ImageReaderWriter:
    """Choose as nnU-Net does: the one asked for, else the first for the ending that can read `example`.

    Raises:
        DatasetError: unknown name, or an ending that none reads.
        ImageError: `example` can be read by none; the message has each one's reason.
    """
    if wanted_name is not None:
        return reader_named(wanted_name)
    candidates = readers_for(file_ending)
    if not candidates:
        known = sorted({ending for reader in READERS.values() for ending in reader.file_endings})
        raise DatasetError(
            message(
                "dataset.json, key 'file_ending'",
                expected=f"one of {', '.join(known)}",
                got=repr(file_ending),
                remedy="Convert the images, or name a reader in 'overwrite_image_reader_writer'.",
            )
        )
    if example is None:
        return candidates[0]
    reasons = []
    for reader in candidates:
        try:
            reader.read_image([example])
        except SegwrightError as error:
            reasons.append(error)
        else:
            return reader
    if len(reasons) == 1:
        raise reasons[0]
    raise ImageError(" ".join(dict.fromkeys(str(reason) for reason in reasons)))
