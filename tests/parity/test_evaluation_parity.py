"""summary.json of the same folders is nnunetv2's, character for character."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.evaluation import evaluate_folder
from segwright.io import reader_named
from segwright.labels import Labels

PLAIN = {"labels": {"background": 0, "a": 1, "b": 2, "never there": 3}}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4},
    "regions_class_order": [1, 2, 3],
}
PLAIN_IGNORE = {"labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}


def write_cases(
    folder: Path, description: dict[str, Any], *, ending: str, reader_name: str, shape: tuple[int, ...]
) -> None:
    """Random label maps in `references` and `predictions`; the last case is background alone."""
    rng = np.random.default_rng(7)
    labels = Labels.from_json(description["labels"], description.get("regions_class_order"))
    reader = reader_named(reader_name)
    properties = {
        "spacing": [2.5, 0.8, 1.1],
        "sitk_stuff": {
            "spacing": (1.1, 0.8, 2.5),
            "origin": (-12.5, 3.0, 77.0),
            "direction": (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0),
        },
    }
    used = [value for value in sorted(labels.allowed_values) if labels.name_of(value) != "never there"]
    predicted = [value for value in used if value != labels.ignore_label]
    for name, choices in (("references", used), ("predictions", predicted)):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            values = choices if number < 3 else [0]
            label_map = rng.choice(values, size=shape).astype(np.uint8)
            reader.write_labels(label_map, folder / name / f"case_{number:02}{ending}", properties)
    full = {"channel_names": {"0": "T1"}, "numTraining": 4, "file_ending": ending, **description}
    (folder / "dataset.json").write_text(json.dumps(full))


@pytest.mark.parity
@pytest.mark.parametrize("description", [PLAIN, REGIONS, PLAIN_IGNORE], ids=["labels", "regions", "ignore"])
@pytest.mark.parametrize(
    ("ending", "reader_name", "shape"),
    [(".nii.gz", "SimpleITKIO", (9, 14, 11)), (".png", "NaturalImage2DIO", (1, 30, 23))],
    ids=["volumes", "png"],
)
def test_summary_is_nnunets(
    tmp_path: Path,
    peer_python: str,
    description: dict[str, Any],
    ending: str,
    reader_name: str,
    shape: tuple[int, ...],
) -> None:
    write_cases(tmp_path, description, ending=ending, reader_name=reader_name, shape=shape)
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    theirs, ours = tmp_path / "theirs.json", tmp_path / "ours.json"
    script = Path(__file__).with_name("peer_evaluation.py")
    subprocess.run(
        [peer_python, "-W", "ignore", str(script), predictions, references, tmp_path / "dataset.json", theirs],
        check=True,
        capture_output=True,
    )
    labels = Labels.from_json(description["labels"], description.get("regions_class_order"))
    summary = evaluate_folder(
        predictions, references, labels=labels, file_ending=ending, reader=reader_named(reader_name)
    )
    summary.write(ours)
    assert ours.read_text() == theirs.read_text()


@pytest.mark.parity
def test_summaries_of_real_data_are_nnunets(tmp_path: Path, peer_python: str, data_folder: Path) -> None:
    source = data_folder / "Dataset004_Hippocampus"
    reader = reader_named("SimpleITKIO")
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    predictions.mkdir()
    references.mkdir()
    for path in sorted((source / "labelsTr").glob("*.nii.gz"))[:5]:
        (references / path.name).write_bytes(path.read_bytes())
        image = reader.read_labels(path)
        shifted = np.roll(image.array[0], 1, axis=1).astype(np.uint8)
        reader.write_labels(shifted, predictions / path.name, image.properties)
    theirs, ours = tmp_path / "theirs.json", tmp_path / "ours.json"
    script = Path(__file__).with_name("peer_evaluation.py")
    subprocess.run(
        [peer_python, str(script), predictions, references, source / "dataset.json", theirs],
        check=True,
        capture_output=True,
    )
    description = json.loads((source / "dataset.json").read_text())
    labels = Labels.from_json(description["labels"])
    evaluate_folder(predictions, references, labels=labels, file_ending=".nii.gz", reader=reader).write(ours)
    assert ours.read_text() == theirs.read_text()
