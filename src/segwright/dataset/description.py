"""dataset.json: the channels, labels and files of a data set (nnU-Net v2's format)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segwright.errors import DatasetError, message
from segwright.io.atomic import write_json_atomic
from segwright.io.json_file import read_json
from segwright.labels import Labels
from segwright.names import parse_name

FILE_NAME = "dataset.json"
MOST_CHANNELS = 10_000
_LONGEST_ENDING = 32
REQUIRED_KEYS = ("channel_names", "labels", "numTraining", "file_ending")


@dataclass(frozen=True)
class ExplicitCase:
    """An entry of the key `dataset`: paths as written, relative to the data set or with $VARIABLES."""

    images: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class DatasetDescription:
    """The content of a dataset.json. `raw` is the original content, with keys that only other programs use."""

    raw: Mapping[str, Any]
    channel_names: tuple[str, ...]
    labels: Labels
    file_ending: str
    num_training: int
    reader_name: str | None = None
    explicit_cases: Mapping[str, ExplicitCase] | None = None

    @classmethod
    def from_json(cls, value: Any, *, where: str = FILE_NAME) -> DatasetDescription:
        """Parse the content of a dataset.json; the legacy key `modality` stands for `channel_names`.

        Raises:
            DatasetError: naming the first key that is missing or wrong.
        """
        description, errors = parse_description(value, where=where)
        if description is None:
            raise errors[0]
        return description

    @classmethod
    def read(cls, path: Path) -> DatasetDescription:
        """Read a dataset.json.

        Raises:
            MissingFileError, DatasetError
        """
        return cls.from_json(read_json(path), where=str(path))

    def write(self, path: Path) -> None:
        """Write the file with all keys in their order; the order of labels matters to nnU-Net."""
        write_json_atomic(path, self.raw)


def new_description(
    *,
    channel_names: Mapping[str, str],
    labels: Mapping[str, Any],
    num_training: int,
    file_ending: str,
    regions_class_order: list[int] | None = None,
    **other_keys: Any,
) -> DatasetDescription:
    """Describe a new data set; `other_keys` (name, licence, reference, ...) are written after the required ones.

    Raises:
        DatasetError
    """
    raw: dict[str, Any] = {
        "channel_names": dict(channel_names),
        "labels": dict(labels),
        "numTraining": num_training,
        "file_ending": file_ending,
    }
    if regions_class_order is not None:
        raw["regions_class_order"] = list(regions_class_order)
    raw.update(other_keys)
    return DatasetDescription.from_json(raw)


def parse_description(value: Any, *, where: str) -> tuple[DatasetDescription | None, list[DatasetError]]:
    """Parse a dataset.json and collect all errors; the description is None if there are any."""
    if not isinstance(value, Mapping):
        return None, [
            _wrong(where, None, "an object with the keys " + ", ".join(REQUIRED_KEYS), value, "Write the file again.")
        ]
    errors: list[DatasetError] = []

    def parsed(parse: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return parse(*arguments, where=where)
        except DatasetError as error:
            errors.append(error)
            return None

    fields = {
        "channel_names": parsed(_channel_names, value),
        "labels": parsed(_labels, value),
        "num_training": parsed(_num_training, value),
        "file_ending": parsed(_file_ending, value),
        "reader_name": parsed(_reader_name, value),
        "explicit_cases": parsed(_explicit_cases, value),
    }
    return (None if errors else DatasetDescription(raw=value, **fields)), errors


def _required(value: Mapping[str, Any], key: str, *, where: str) -> Any:
    if key not in value:
        raise _wrong(where, key, "this key", "no such key", "Add it to the file.", quote=False)
    return value[key]


def _channel_names(value: Mapping[str, Any], *, where: str) -> tuple[str, ...]:
    key = "modality" if "channel_names" not in value and "modality" in value else "channel_names"
    channels = _required(value, key, where=where)
    numbered = isinstance(channels, Mapping) and {str(number) for number in channels} == {
        str(number) for number in range(len(channels))
    }
    if not numbered or not channels:
        raise _wrong(
            where,
            key,
            'an object that numbers the channels from 0, such as {"0": "T1", "1": "T2"}',
            channels,
            "Number the channels 0, 1, 2, ... without gaps, like the file name endings _0000, _0001, ...",
        )
    if len(channels) > MOST_CHANNELS:
        raise _wrong(
            where,
            key,
            f"at most {MOST_CHANNELS} channels, whose files end in _0000 to _{MOST_CHANNELS - 1}",
            len(channels),
            "List only channels that are separate files.",
        )
    names = {int(number): name for number, name in channels.items()}
    for number, name in names.items():
        if not isinstance(name, str) or not name:
            raise _wrong(
                where, f"{key}.{number}", "the channel's name", name, 'Write the name in quotes, such as "CT".'
            )
    return tuple(names[number] for number in range(len(names)))


def _labels(value: Mapping[str, Any], *, where: str) -> Labels:
    return Labels.from_json(_required(value, "labels", where=where), value.get("regions_class_order"), where=where)


def _num_training(value: Mapping[str, Any], *, where: str) -> int:
    number = _required(value, "numTraining", where=where)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise _wrong(
            where,
            "numTraining",
            "the number of training cases, a whole number",
            number,
            "Write the number without quotes.",
        )
    return number


def _file_ending(value: Mapping[str, Any], *, where: str) -> str:
    ending = _required(value, "file_ending", where=where)
    if not isinstance(ending, str) or not ending.startswith(".") or not 2 <= len(ending) <= _LONGEST_ENDING:
        raise _wrong(
            where, "file_ending", 'the ending of the image files with its dot, such as ".nii.gz"', ending, "Correct it."
        )
    parse_name(f"CASE{ending}", where=f"{where}, key 'file_ending'", error=DatasetError, remedy="Correct it.")
    return ending


def _reader_name(value: Mapping[str, Any], *, where: str) -> str | None:
    name = value.get("overwrite_image_reader_writer")
    if name is None or name == "None":
        return None
    if not isinstance(name, str):
        raise _wrong(
            where,
            "overwrite_image_reader_writer",
            'the name of a reader, such as "SimpleITKIO"',
            name,
            "Correct or remove it.",
        )
    return name


def _explicit_cases(value: Mapping[str, Any], *, where: str) -> Mapping[str, ExplicitCase] | None:
    if value.get("dataset") is None:
        return None
    cases = value["dataset"]
    if not isinstance(cases, Mapping) or not cases:
        raise _wrong(
            where,
            "dataset",
            'an object such as {"case_1": {"images": ["a_0000.png"], "label": "a.png"}}',
            cases,
            "Remove the key to use the files in imagesTr and labelsTr.",
        )
    return {
        parse_name(case_id, where=f"{where}, key 'dataset'", error=DatasetError): _explicit_case(case_id, entry, where)
        for case_id, entry in cases.items()
    }


def _explicit_case(case_id: str, entry: Any, where: str) -> ExplicitCase:
    images = entry.get("images") if isinstance(entry, Mapping) else None
    label = entry.get("label") if isinstance(entry, Mapping) else None
    if not isinstance(images, list) or not images or not all(isinstance(path, str) and path for path in images):
        raise _wrong(
            where, f"dataset.{case_id}.images", "a list of paths, one per channel", images, "Correct the entry."
        )
    if not isinstance(label, str) or not label:
        raise _wrong(where, f"dataset.{case_id}.label", "the path of the label map", label, "Correct the entry.")
    return ExplicitCase(images=tuple(images), label=label)


def _wrong(where: str, key: str | None, expected: str, got: Any, remedy: str, *, quote: bool = True) -> DatasetError:
    place = where if key is None else f"{where}, key '{key}'"
    text = repr(got) if quote else str(got)
    return DatasetError(
        message(place, expected=expected, got=text if len(text) <= 200 else text[:200] + " ...", remedy=remedy)
    )
