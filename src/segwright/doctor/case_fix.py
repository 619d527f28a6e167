"""Fix the files of one case, in a copy."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.cases import Case, file_and_words, read_case_image, short_name
from segwright.dataset.problems import some
from segwright.doctor.image_fix import replace_non_finite, squeeze
from segwright.doctor.placement import place_on_image
from segwright.errors import DatasetError, SegwrightError, message
from segwright.io import Image, ImageReaderWriter, reader_named, tiff

# Rounding error of an integer that was stored as a float, with a scale factor.
_WHOLE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Change:
    """What was done to a file, or why it could not be fixed."""

    case_id: str | None
    file: str | None
    what: str

    @property
    def text(self) -> str:
        """The change on one line."""
        case = f"case {self.case_id}" if self.case_id is not None else None
        where = ", ".join(part for part in (case, self.file) if part)
        return f"{where}: {self.what}." if where else f"{self.what}."


@dataclass(frozen=True)
class ValuesTask:
    """A case whose label values are requested."""

    case: Case
    reader_name: str


@dataclass(frozen=True)
class FixTask:
    """A case and the paths of its copies; `mapping` has the new value of each label value."""

    case: Case
    image_copies: tuple[Path, ...]
    label_copy: Path
    reader_name: str
    num_channels: int
    mapping: Mapping[int, int]

    @property
    def copies(self) -> tuple[Path, ...]:
        """All files of the case in the copy."""
        return (*self.image_copies, self.label_copy)


@dataclass(frozen=True)
class FixedCase:
    """What was and was not fixed; `digest` is that of the voxels, None if they cannot be read."""

    changes: tuple[Change, ...]
    unfixed: tuple[Change, ...]
    digest: bytes | None


@dataclass
class _Record:
    """Collects the changes of a case's files."""

    case_id: str
    changes: list[Change] = field(default_factory=list)
    unfixed: list[Change] = field(default_factory=list)

    def changed(self, path: Path, what: str) -> None:
        self.changes.append(Change(self.case_id, short_name(path), what))

    def failed(self, error: Exception, *paths: Path) -> None:
        path, text = file_and_words(paths, error)
        self.unfixed.append(Change(self.case_id, short_name(path), text.replace(f"{path.parent.parent}/", "")))


def fix_case(task: FixTask) -> FixedCase:
    """Copy the files of a case and fix the copies; what cannot be fixed stays as it was."""
    case, reader, record = task.case, reader_named(task.reader_name), _Record(task.case.case_id)
    copy_case(task)
    for path in task.image_copies:
        try:
            _fix_image(path, reader, record)
        except SegwrightError as error:
            record.failed(error, path)
    image, label_map = None, None
    try:
        image = read_case_image(reader, Case(case.case_id, task.image_copies, None), task.num_channels)
    except SegwrightError as error:
        if not record.unfixed:
            record.failed(error, *task.image_copies)
    try:
        label_map = _fix_labels(task.label_copy, reader, image, task.mapping, record)
    except SegwrightError as error:
        record.failed(error, task.label_copy)
        if case.label_path is not None:
            copy_file(case.label_path, task.label_copy)
    digest = None if image is None or label_map is None else _digest(image, label_map)
    return FixedCase(tuple(record.changes), tuple(record.unfixed), digest)


def copy_case(task: FixTask) -> None:
    """Copy the files of a case unchanged, with the spacing file of a TIFF stack."""
    for source, copy in zip((*task.case.image_paths, task.case.label_path), task.copies, strict=True):
        assert source is not None, "a case to fix has a label map"
        copy_file(source, copy)
        spacing, spacing_copy = (_spacing_file(path, is_labels=copy == task.label_copy) for path in (source, copy))
        if spacing is not None and spacing_copy is not None and spacing.is_file():
            copy_file(spacing, spacing_copy)


def copy_file(source: Path, copy: Path) -> None:
    """Copy a file into a folder that need not exist.

    Raises:
        DatasetError: it cannot be read, as opposed to a copy that cannot be written.
    """
    try:
        source.open("rb").close()
    except OSError as error:
        raise DatasetError(
            message(
                source,
                expected="a file to copy",
                got=error.strerror,
                remedy="Ask its owner for read permission, or remove it from the data set.",
            )
        ) from error
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copy)


def label_values(task: ValuesTask) -> tuple[float, ...]:
    """The values in the label map of a case after rounding; empty if it cannot be read."""
    assert task.case.label_path is not None, "a case to fix has a label map"
    try:
        array = _read_one_channel(task.case.label_path, reader_named(task.reader_name)).array
    except SegwrightError:  # reported when the case is fixed
        return ()
    return tuple(_rounded(np.unique(array[np.isfinite(array)])).tolist())


def _fix_image(path: Path, reader: ImageReaderWriter, record: _Record) -> None:
    try:
        image = reader.read_image([path])
    except SegwrightError:
        if not squeeze(path):
            raise
        image = reader.read_image([path])
        record.changed(path, "the fourth dimension, of size 1, was removed")
    if not np.isfinite(image.array).all():
        count, value = replace_non_finite(path)
        record.changed(path, f"{count} voxels that were NaN or infinite have the image's least value now, {value:g}")


def _fix_labels(
    path: Path, reader: ImageReaderWriter, image: Image | None, mapping: Mapping[int, int], record: _Record
) -> NDArray[np.float32]:
    """Fix first the values and then the geometry, as far as possible; returns the label map (z, y, x).

    Raises:
        ImageError: it cannot be read or written.
    """
    done: list[str] = []
    labels = _read_fixable(path, reader, done)
    try:
        label_map = _fix_values(labels.array[0], mapping, done)
    except ValueError as error:
        record.failed(error, path)
        return np.asarray(labels.array[0])
    if done == [] and _is_stored_as_float(path):
        done.append("stored as whole numbers instead of floating-point numbers")
    if image is not None:
        try:
            label_map, moved = place_on_image(Image(label_map[None], labels.geometry, labels.properties), image)
            done += [] if moved is None else [moved]
        except SegwrightError as error:
            record.failed(error, path)
            image = None
    if done:
        like = labels if image is None else image
        reader.write_labels(label_map, path, like.properties)
        for what in done:
            record.changed(path, what)
    return np.asarray(label_map)


def _read_fixable(path: Path, reader: ImageReaderWriter, done: list[str]) -> Image:
    """Read a label map that may have a surplus dimension or surplus channels."""
    try:
        return _read_one_channel(path, reader, done)
    except SegwrightError:
        if not squeeze(path):
            raise
        done.append("the fourth dimension, of size 1, was removed")
        return reader.read_labels(path)


def _read_one_channel(path: Path, reader: ImageReaderWriter, done: list[str] | None = None) -> Image:
    """Read a label map, or an RGB image whose channels are equal."""
    try:
        return reader.read_labels(path)
    except SegwrightError:
        coloured = reader.read_image([path])
        colours = coloured.array[:3]
        if len(colours) != 3 or len(coloured.array) > 4 or not (colours == colours[0]).all():
            raise
    if done is not None:
        done.append("red, green and blue, which were the same, were made one grey channel")
    return Image(colours[:1], coloured.geometry, coloured.properties)


def _fix_values(label_map: NDArray[np.float32], mapping: Mapping[int, int], done: list[str]) -> NDArray[np.float32]:
    """Round nearly integer values, then map the values.

    Raises:
        ValueError: naming the values that are not in the mapping.
    """
    if count := int(np.count_nonzero(~np.isfinite(label_map))):
        raise ValueError(f"{count} voxels are NaN or infinite, and nothing says which label they have")
    rounded = _rounded(label_map)
    if not np.array_equal(rounded, label_map):
        done.append("values that were whole but for rounding were made whole")
    values = np.unique(rounded).tolist()
    unknown = [f"{value:g}" for value in values if value not in mapping]
    if unknown:
        raise ValueError(f"nothing says which declared label {some(unknown)} should be")
    moved = {int(value): mapping[int(value)] for value in values if mapping[int(value)] != value}
    if not moved:
        return rounded
    result = np.array(rounded)
    for old, new in moved.items():
        result[rounded == old] = new
    done.append("label values: " + ", ".join(f"{old} -> {new}" for old, new in moved.items()))
    return result


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = np.rint(values)
    return np.asarray(whole if np.all(np.abs(values - whole) < _WHOLE_TOLERANCE) else values)


def _is_stored_as_float(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith((".tif", ".tiff")):
        import tifffile

        with tifffile.TiffFile(path) as file:
            return bool(np.dtype(file.series[0].dtype or np.uint8).kind == "f")
    if name.endswith((".png", ".bmp")):
        return False
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader.GetPixelID() in (SimpleITK.sitkFloat32, SimpleITK.sitkFloat64)


def _digest(image: Image, label_map: NDArray[Any]) -> bytes:
    hashed = hashlib.blake2b(repr((image.array.shape, image.geometry.spacing_mm)).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(image.array).data)
    hashed.update(np.ascontiguousarray(label_map, dtype=np.float32).data)
    return hashed.digest()


def _spacing_file(path: Path, *, is_labels: bool) -> Path | None:
    """The spacing file of a TIFF stack; None for other formats."""
    if not path.name.lower().endswith(tiff.FILE_ENDINGS):
        return None
    return path.with_name((path.stem if is_labels else tiff.CHANNEL_NUMBER.sub("", path.stem)) + ".json")
