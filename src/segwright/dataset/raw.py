"""A raw data set in nnU-Net v2's layout, opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segwright.dataset.cases import Case, read_case_image, reader_for_cases, scan_dataset
from segwright.dataset.description import FILE_NAME, DatasetDescription
from segwright.dataset.problems import Problem
from segwright.errors import DatasetError, MissingFileError, message
from segwright.io import Image, ImageReaderWriter


@dataclass(frozen=True)
class RawDataset:
    """A folder with dataset.json, imagesTr and labelsTr; each case has a label map; `cases` are sorted by id, or in
    the order of dataset.json."""

    folder: Path
    name: str
    description: DatasetDescription
    cases: tuple[Case, ...]

    @classmethod
    def open(cls, folder: Path, *, environ: Mapping[str, str] | None = None) -> RawDataset:
        """Open a data set without reading images; raise the first problem of names and labels.

        `environ` holds the environment variables that an explicit file list may use.

        Raises:
            MissingFileError, DatasetError
        """
        folder = Path(folder)
        require_description(folder)
        description = DatasetDescription.read(folder / FILE_NAME)
        if (problem := consecutive_labels_problem(description)) is not None:
            raise problem.as_error()
        cases, problems = scan_dataset(folder, description, environ or {})
        if problems:
            raise problems[0].as_error()
        if not cases:
            raise DatasetError(
                message(folder, expected="at least one labelled case", got="none", remedy="Add images and label maps.")
            )
        return cls(folder=folder, name=folder.resolve().name, description=description, cases=cases)

    def reader(self) -> ImageReaderWriter:
        """Choose the reader as `reader_for_cases`.

        Raises:
            DatasetError
        """
        return reader_for_cases(self.description, self.cases)

    def read_image(self, case: Case, reader: ImageReaderWriter) -> Image:
        """Read a case's image with as many channels as declared.

        Raises:
            MissingFileError, ImageError, GeometryError
        """
        return read_case_image(reader, case, len(self.description.channel_names))


def require_description(folder: Path) -> None:
    """Refuse a folder without dataset.json.

    Raises:
        MissingFileError
    """
    if not folder.is_dir():
        got = "no such folder" if not folder.exists() else "a file"
        raise MissingFileError(message(folder, expected="the folder of a data set", got=got, remedy="Check the path."))
    if not (folder / FILE_NAME).is_file():
        raise MissingFileError(
            message(
                folder,
                expected="a data set with a dataset.json in it",
                got="none",
                remedy="Give the folder that contains dataset.json, imagesTr and labelsTr, or write the dataset.json.",
            )
        )


def consecutive_labels_problem(description: DatasetDescription) -> Problem | None:
    """Report declared labels that are not 0, 1, 2, ..., with the mapping that fixes them."""
    values = sorted(description.labels.allowed_values)
    if values == list(range(len(values))):
        return None
    mapping = ", ".join(f"{old} -> {new}" for new, old in enumerate(values) if old != new)
    return Problem(
        "error",
        "labels_not_consecutive",
        None,
        FILE_NAME,
        f"expected the label values 0, 1, 2, ... without a gap, got {', '.join(map(str, values))}",
        f"Renumber them in dataset.json and in the label maps: {mapping}; segwright check --fix NEW_FOLDER "
        "writes a copy with that.",
    )


def channel_order_problem(description: DatasetDescription) -> Problem | None:
    """Report channels that are not listed in the order of their numbers, which nnU-Net interprets differently."""
    key = "channel_names" if "channel_names" in description.raw else "modality"
    listed = [int(number) for number in description.raw[key]]
    if listed == sorted(listed):
        return None
    return Problem(
        "warning",
        "description",
        None,
        f"{FILE_NAME}, key '{key}'",
        f"expected the channels in the order of their numbers, got {', '.join(map(str, listed))}",
        "Sort the list: nnU-Net assigns normalisations in the order of the list, Segwright by the numbers.",
    )
