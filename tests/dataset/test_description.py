from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segwright.dataset import DatasetDescription, new_description
from segwright.dataset.description import parse_description
from segwright.errors import DatasetError, MissingFileError

VALID: dict[str, Any] = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2},
    "regions_class_order": [1, 2],
    "numTraining": 3,
    "file_ending": ".nii.gz",
    "licence": "CC0",
}


def changed(**keys: Any) -> dict[str, Any]:
    value = {**VALID, **keys}
    return {key: each for key, each in value.items() if each is not ...}


def test_every_key_is_understood() -> None:
    description = DatasetDescription.from_json(VALID)
    assert description.channel_names == ("T1", "CT")
    assert description.labels.foreground_regions == ((1, 2), 2)
    assert description.num_training == 3
    assert description.file_ending == ".nii.gz"
    assert description.reader_name is None
    assert description.explicit_cases is None
    assert description.raw == VALID


def test_channels_are_ordered_by_their_number_not_by_the_file() -> None:
    names = {str(number): f"c{number}" for number in reversed(range(12))}
    description = DatasetDescription.from_json(changed(channel_names=names))
    assert description.channel_names == tuple(f"c{number}" for number in range(12))


def test_the_legacy_key_modality_names_the_channels() -> None:
    description = DatasetDescription.from_json(changed(channel_names=..., modality={"0": "MRI"}))
    assert description.channel_names == ("MRI",)


@pytest.mark.parametrize(("value", "name"), [("None", None), (None, None), ("NibabelIO", "NibabelIO")])
def test_a_reader_may_be_asked_for(value: Any, name: str | None) -> None:
    assert DatasetDescription.from_json(changed(overwrite_image_reader_writer=value)).reader_name == name


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"channel_names": ...}, r"d\.json, key 'channel_names': expected this key, got no such key\. Add"),
        ({"labels": ...}, r"key 'labels': expected this key"),
        ({"numTraining": ...}, r"key 'numTraining'"),
        ({"file_ending": ...}, r"key 'file_ending'"),
        ({"channel_names": ["T1"]}, r"key 'channel_names'.*\['T1'\]"),
        ({"channel_names": {}}, r"key 'channel_names'.* \{\}"),
        ({"channel_names": {"1": "T1"}}, r"key 'channel_names'.* \{'1': 'T1'\}"),
        ({"channel_names": {"0": 5}}, r"key 'channel_names\.0'.*5"),
        (
            {"channel_names": dict.fromkeys(map(str, range(10001)), "T1")},
            r"key 'channel_names'.*10000.*10001",
        ),
        ({"labels": []}, r"key 'labels'.*\[\]"),
        ({"labels": {"background": 0, "a": "one"}}, r"label 'a'.*got 'one'"),
        ({"labels": {"a": 1}}, "background.*0"),
        ({"regions_class_order": [1]}, r"key 'regions_class_order'.*2.*\[1\]"),
        ({"numTraining": "3"}, r"key 'numTraining'.*'3'"),
        ({"numTraining": True}, r"key 'numTraining'.*True"),
        ({"numTraining": -1}, r"key 'numTraining'.*-1"),
        ({"file_ending": "nii.gz"}, r"key 'file_ending'.*'nii\.gz'"),
        ({"file_ending": 5}, r"key 'file_ending'.*5"),
        *(
            ({"file_ending": ending}, "key 'file_ending'")
            for ending in ("./../x", ".\\x", ".n\0", ".n ", "." + "x" * 99)
        ),
        *(
            ({"dataset": {case_id: {"images": ["a"], "label": "a"}}}, "key 'dataset'")
            for case_id in ("/abs/v", "../../esc", "a/b", "a\\b", "..", ".a", "", "a\x1b[2J", " a", "x" * 300)
        ),
        ({"overwrite_image_reader_writer": 5}, "key 'overwrite_image_reader_writer'.*5"),
        ({"dataset": []}, r"key 'dataset'.*\[\]"),
        ({"dataset": {"a": {"label": "a"}}}, r"key 'dataset\.a\.images'.*None"),
        ({"dataset": {"a": {"images": ["a"]}}}, r"key 'dataset\.a\.label'.*None"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_key(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        DatasetDescription.from_json(changed(**keys), where="d.json")


def test_a_file_that_is_no_object_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json.*\[1\]"):
        DatasetDescription.from_json([1])


def test_all_errors_can_be_had_at_once() -> None:
    description, errors = parse_description({"labels": {"a": 1}, "numTraining": None}, where="d.json")
    assert description is None
    assert len(errors) == 4


def test_the_file_is_written_with_every_key_in_its_place(tmp_path: Path) -> None:
    text = json.dumps({"zeta": 1, **VALID, "alpha": {"b": 1, "a": 2}})
    (tmp_path / "dataset.json").write_text(text)
    DatasetDescription.read(tmp_path / "dataset.json").write(tmp_path / "copy.json")
    assert json.dumps(json.loads((tmp_path / "copy.json").read_text())) == text


def test_a_new_description_has_nnunets_keys_first() -> None:
    description = new_description(
        channel_names={"0": "CT"},
        labels={"background": 0, "a": [1, 2], "b": 2},
        regions_class_order=[1, 2],
        num_training=2,
        file_ending=".png",
        licence="CC0",
    )
    keys = ["channel_names", "labels", "numTraining", "file_ending", "regions_class_order", "licence"]
    assert list(description.raw) == keys


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"dataset\.json"):
        DatasetDescription.read(tmp_path / "dataset.json")
