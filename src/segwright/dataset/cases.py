"""Find the files of a data set's cases, and missing ones."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segwright.dataset.case_ids import collisions, name_problem
from segwright.dataset.description import DatasetDescription
from segwright.dataset.problems import Problem
from segwright.errors import DatasetError, GeometryError, ImageError, MissingFileError, message
from segwright.io import Image, ImageReaderWriter, choose_reader
from segwright.names import parse_name, printable

MANY_CHANNELS_IN_ONE_FILE = (".png", ".bmp", ".tif")
MAX_NAMES = 5


@dataclass(frozen=True)
class Case:
    """The files of one case; `image_paths` in the order of the channels. The id is a name for files.

    Raises:
        DatasetError: it is not.
    """

    case_id: str
    image_paths: tuple[Path, ...]
    label_path: Path | None

    def __post_init__(self) -> None:
        parse_name(self.case_id, where="case id", error=DatasetError)


def find_cases(folder: Path, file_ending: str, num_channels: int) -> tuple[Case, ...]:
    """Find the cases of a folder of images named ``CASE_0000.ending``, ``CASE_0001.ending``, ..., sorted by id.

    Raises:
        MissingFileError: no such folder, or no image of this ending in it.
        DatasetError: a channel is missing or surplus, or a file name has another form.
    """
    cases, problems = scan_images(folder, file_ending, num_channels)
    if problems:
        raise problems[0].as_error()
    return cases


def read_case_image(reader: ImageReaderWriter, case: Case, num_channels: int) -> Image:
    """Read the channels of a case, from one file each or from a single file.

    Raises:
        MissingFileError, ImageError
        GeometryError: the channels differ in shape or spacing, or their number is not the declared one.
    """
    image = reader.read_image(case.image_paths)
    if image.array.shape[0] != num_channels:
        raise GeometryError(
            message(
                ", ".join(map(str, case.image_paths)),
                expected=f"{num_channels} channel{'s' if num_channels > 1 else ''}, as dataset.json declares",
                got=f"{image.array.shape[0]}",
                remedy="Correct 'channel_names' in dataset.json, or the image.",
            )
        )
    return image


def reader_for_cases(description: DatasetDescription, cases: Sequence[Case]) -> ImageReaderWriter:
    """Choose the reader as nnU-Net does, by trying it on the first readable image.

    A damaged first case is reported when the cases are read.

    Raises:
        DatasetError: no reader has the name or the file ending that dataset.json declares.
    """
    ending, wanted = description.file_ending, description.reader_name
    for case in cases:
        try:
            return choose_reader(ending, wanted_name=wanted, example=case.image_paths[0])
        except (ImageError, MissingFileError, GeometryError):
            continue
    return choose_reader(ending, wanted_name=wanted)


def short_name(path: Path) -> str:
    """A file's name in messages, with its folder: imagesTr/a_0000.mha."""
    return printable(Path(path.parent.name, path.name))


def file_and_words(paths: Sequence[Path], error: Exception) -> tuple[Path, str]:
    """The file that an error is about (the first if its message starts with none of them), and its message."""
    text = str(error).rstrip(".")
    path = next((path for path in paths if text.startswith(f"{printable(path)}: ")), paths[0])
    return path, text.removeprefix(f"{printable(path)}: ")


def scan_images(folder: Path, file_ending: str, num_channels: int) -> tuple[tuple[Case, ...], list[Problem]]:
    """Find the cases of a folder and every problem among their names; cases with a problem are left out.

    Raises:
        MissingFileError: no such folder, or no image of this ending in it.
    """
    names = _file_names(folder, file_ending)
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(file_ending)}", re.DOTALL)
    channels: dict[str, dict[int, Path]] = {}
    problems: list[Problem] = []
    for name in names:
        if match := pattern.fullmatch(name):
            channels.setdefault(match[1], {})[int(match[2])] = folder / name
        else:
            problems.append(_wrong_name(folder, name, file_ending))
    cases = []
    for case_id in sorted(channels):
        paths = channels[case_id]
        if (problem := name_problem(case_id, f"{folder.name}/{next(iter(paths.values())).name}")) is not None:
            problems.append(problem)
        elif _complete(paths, file_ending, num_channels):
            cases.append(Case(case_id, tuple(paths[number] for number in sorted(paths)), None))
        else:
            problems.append(_wrong_channels(folder, case_id, paths, file_ending, num_channels))
    return tuple(cases), problems


def scan_dataset(
    folder: Path, description: DatasetDescription, environ: Mapping[str, str]
) -> tuple[tuple[Case, ...], list[Problem]]:
    """Find the training cases of a raw data set and every problem among its files, including name collisions.

    Raises:
        MissingFileError: imagesTr or labelsTr is missing or empty.
    """
    if description.explicit_cases is not None:
        return _scan_explicit(folder, description, environ)
    images, ending = folder / "imagesTr", description.file_ending
    cases, problems = scan_images(images, ending, len(description.channel_names))
    labels = {
        name.removesuffix(ending): folder / "labelsTr" / name for name in _file_names(folder / "labelsTr", ending)
    }
    labelled = []
    for case in cases:
        if case.case_id in labels:
            labelled.append(Case(case.case_id, case.image_paths, labels[case.case_id]))
        else:
            problems.append(_no_label(case.case_id, ending))
    with_image = {case.case_id for case in cases} | {problem.case_id for problem in problems}
    problems.extend(_no_image(case_id, path) for case_id, path in labels.items() if case_id not in with_image)
    problems.extend(collisions([case.case_id for case in cases], len(description.channel_names)))
    return tuple(labelled), problems


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}`` by their values in `environ`, as `os.path.expandvars`; unknown ones stay."""
    return re.sub(
        r"\$(?:(\w+)|\{([^}]*)\})",
        lambda match: environ.get(match[1] or match[2], match[0]),
        text,
        flags=re.ASCII,
    )


def _scan_explicit(
    folder: Path, description: DatasetDescription, environ: Mapping[str, str]
) -> tuple[tuple[Case, ...], list[Problem]]:
    cases: list[Case] = []
    problems: list[Problem] = []
    for case_id, entry in (description.explicit_cases or {}).items():  # in the listed order, as nnU-Net measures them
        images = tuple(folder / expand_variables(path, environ) for path in entry.images)
        label = folder / expand_variables(entry.label, environ)
        missing = [path for path in (*images, label) if not os.path.exists(path)]  # unlike Path.exists, never raises
        problems.extend(_missing_listed(case_id, path) for path in missing)
        count, wanted = len(images), len(description.channel_names)
        if count not in (1, wanted):
            problems.append(
                Problem(
                    "error",
                    "files",
                    case_id,
                    "dataset.json",
                    f"expected {wanted} images, one per channel, got {count}",
                    f"Correct the key 'dataset.{case_id}.images'.",
                )
            )
        elif not missing:
            cases.append(Case(case_id, images, label))
    problems.extend(collisions(list(description.explicit_cases or ()), len(description.channel_names)))
    return tuple(cases), problems


def _file_names(folder: Path, file_ending: str) -> list[str]:
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise MissingFileError(message(folder, expected="a folder of images", got=got, remedy="Check the path."))
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not _is_folder(entry))
    except OSError as error:
        raise DatasetError(
            message(folder, expected="a readable folder", got=error.strerror, remedy="Ask its owner for permission.")
        ) from error
    chosen = [name for name in names if name.endswith(file_ending)]
    if not chosen:
        endings = Counter("".join(Path(name).suffixes[-2:]) or name for name in names)
        found = ", ".join(f"{count} of {ending}" for ending, count in endings.most_common(MAX_NAMES))
        raise MissingFileError(
            message(
                folder,
                expected=f"images ending with {file_ending}",
                got=f"no such file, but {found}" if found else "an empty folder",
                remedy="Put the images there, or correct 'file_ending' in dataset.json.",
            )
        )
    return chosen


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for instance a link to itself, which is reported with its case
        return False


def _complete(paths: Mapping[int, Path], file_ending: str, num_channels: int) -> bool:
    if sorted(paths) == list(range(num_channels)):
        return True
    return list(paths) == [0] and holds_all_channels(paths[0], file_ending)


def holds_all_channels(path: Path, file_ending: str) -> bool:
    """Whether one file may hold all channels: a colour image, or an image with a fourth dimension."""
    if file_ending.lower() in MANY_CHANNELS_IN_ONE_FILE:
        return True
    from segwright.io.itk import num_channels_in_file

    try:
        return num_channels_in_file(path) > 1
    except (RuntimeError, OSError):  # unreadable, which the reader reports
        return False


def _wrong_name(folder: Path, name: str, file_ending: str) -> Problem:
    return Problem(
        "error",
        "files",
        None,
        f"{folder.name}/{name}",
        f"expected a name like CASE_0000{file_ending}, with the channel's number in four digits, got '{name}'",
        f"Rename it, for example to {name.removesuffix(file_ending)}_0000{file_ending}.",
    )


def _wrong_channels(
    folder: Path, case_id: str, paths: Mapping[int, Path], file_ending: str, num_channels: int
) -> Problem:
    missing = [f"{case_id}_{number:04d}{file_ending}" for number in range(num_channels) if number not in paths]
    surplus = [paths[number].name for number in sorted(paths) if number >= num_channels]
    got = "; ".join(
        f"{what} {', '.join(names[:MAX_NAMES])}" for what, names in (("no", missing), ("also", surplus)) if names
    )
    return Problem(
        "error",
        "files",
        case_id,
        folder.name,
        f"expected {num_channels} channel{'s' if num_channels > 1 else ''} as dataset.json declares, got {got}",
        "Add the missing file." if missing else "Remove it, or declare the channel in dataset.json.",
    )


def _no_label(case_id: str, ending: str) -> Problem:
    return Problem(
        "error",
        "files",
        case_id,
        f"labelsTr/{case_id}{ending}",
        "expected a label map for this image, got no such file",
        "Add it, or move the image to imagesTs.",
    )


def _no_image(case_id: str, path: Path) -> Problem:
    return Problem(
        "error",
        "files",
        case_id,
        f"labelsTr/{path.name}",
        f"expected images of this case in imagesTr, got none named {case_id}_0000...",
        "Add them or remove the label map.",
    )


def _missing_listed(case_id: str, path: Path) -> Problem:
    variable = re.search(r"\$\w+|\$\{\w+\}", str(path))
    remedy = f"Set the variable {variable[0]}." if variable else f"Correct the key 'dataset.{case_id}' in dataset.json."
    return Problem("error", "files", case_id, str(path), "expected this file, got no such file", remedy)
