"""The labels, file ending and reader with which to score two folders of label maps."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segwright.dataset import DatasetDescription
from segwright.errors import DatasetError, message
from segwright.evaluation.folder import label_map_files, run_all
from segwright.io import ImageReaderWriter, choose_reader, readers_for
from segwright.labels import Labels
from segwright.parallel import Progress

_MOST_LABELS_BY_VALUE = 512


@dataclass(frozen=True)
class EvaluationSetup:
    """How to score; `labels_from` says in words where the labels were found."""

    labels: Labels
    file_ending: str
    reader: ImageReaderWriter
    labels_from: str


def labels_for_evaluation(
    predictions: Path, references: Path, *, workers: int = 1, progress: Progress | None = None
) -> EvaluationSetup:
    """Find the labels of two folders of label maps.

    They are read from a dataset.json in the folder of the predictions, of the references, or the parent of the
    references, in this order; otherwise they are the values that occur in the references.

    Raises:
        MissingFileError: the folder of the references does not exist.
        DatasetError: the dataset.json is wrong, or the references hold no labels.
    """
    for folder in (predictions, references, Path(os.path.realpath(references)).parent):
        path = folder / "dataset.json"
        if path.is_file():
            return _setup_from_description(DatasetDescription.read(path), path, references)
    return _setup_from_values(references, workers=workers, progress=progress)


def _setup_from_description(description: DatasetDescription, path: Path, references: Path) -> EvaluationSetup:
    example = next(iter(label_map_files(references, description.file_ending).values()), None)
    return EvaluationSetup(
        labels=description.labels,
        file_ending=description.file_ending,
        reader=choose_reader(description.file_ending, wanted_name=description.reader_name, example=example),
        labels_from=str(path),
    )


def _setup_from_values(references: Path, *, workers: int, progress: Progress | None) -> EvaluationSetup:
    file_ending = _common_file_ending(references)
    files = label_map_files(references, file_ending)
    reader = choose_reader(file_ending, example=next(iter(files.values())))
    found = run_all(
        partial(_values_of, reader=reader),
        list(files.values()),
        case_id=lambda path: path.name,
        what="reading the labels of the references",
        workers=workers,
        progress=progress,
    )
    return EvaluationSetup(
        labels=_labels_of_values(set().union(*found.values()), references),
        file_ending=file_ending,
        reader=reader,
        labels_from=f"the values in {references}, as there is no dataset.json",
    )


def _common_file_ending(folder: Path) -> str:
    """The most frequent file ending among the images of a folder; in a tie, the alphabetically first."""
    names = [path.name for path in label_map_files(folder, "").values()]
    endings = Counter(ending for name in names if (ending := _readable_ending(name)) is not None)
    if not endings:
        raise DatasetError(
            message(
                folder,
                expected="label maps in a supported format",
                got=f"{len(names)} other files" if names else "an empty folder",
                remedy="Give the folder of the reference label maps.",
            )
        )
    return min(endings, key=lambda ending: (-endings[ending], ending))


def _readable_ending(name: str) -> str | None:
    """Longest ending of a file name, from a dot on, for which there is a reader."""
    parts = name.split(".")
    endings = ("." + ".".join(parts[start:]) for start in range(1, len(parts)))
    return next((ending for ending in endings if readers_for(ending)), None)


def _values_of(path: Path, *, reader: ImageReaderWriter) -> set[float]:
    return set(np.unique(reader.read_labels(path).array).tolist())


def _labels_of_values(values: set[float], references: Path) -> Labels:
    whole = sorted(int(value) for value in values if value >= 0 and float(value).is_integer())
    foreground = [value for value in whole if value > 0]
    if len(whole) != len(values) or not foreground or len(foreground) > _MOST_LABELS_BY_VALUE:
        raise DatasetError(
            message(
                references,
                expected=f"label maps of integers with 1 to {_MOST_LABELS_BY_VALUE} labels beside the background",
                got=f"{len(values)} different values",
                remedy="Put the data set's dataset.json beside the references.",
            )
        )
    return Labels.from_json({"background": 0, **{f"label {value}": value for value in foreground}})
