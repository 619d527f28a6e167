"""Small pieces of real images become what nnU-Net makes of them, from the file to the case that training reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.dataset import RawDataset
from segwright.fingerprint import Fingerprint, fingerprint_dataset
from segwright.io.own_header import KEY
from segwright.planning.planner import make_plan
from segwright.preprocessing.pipeline import preprocess_case
from segwright.task import Task

EXCERPTS = Path(__file__).parent.parent / "golden" / "excerpts"
INTENSITIES = "foreground_intensity_properties_per_channel"
VARIANTS = sorted(path.with_suffix("") for path in EXCERPTS.glob("*/*.npz"))


def as_lists(value: object) -> Any:
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


def dataset_of(variant: Path, golden: dict[str, Any], target: Path) -> RawDataset:
    """The excerpt with what its variant changes in dataset.json."""
    folder = target / "Dataset999_Excerpt"
    shutil.copytree(variant.parent / "raw", folder)
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, **golden["changes"]}))
    return RawDataset.open(folder)


def test_all_variants_are_there() -> None:
    assert len(VARIANTS) == 11


@pytest.mark.parametrize("excerpt", ["hippocampus", "spinal_cord", "ct", "nuclei"])
def test_fingerprints_equal_nnunets(excerpt: str, tmp_path: Path) -> None:
    variant = EXCERPTS / excerpt / "default"
    golden = json.loads(variant.with_suffix(".json").read_text())
    measured, expected = fingerprint_dataset(dataset_of(variant, golden, tmp_path)).to_json(), golden["fingerprint"]
    assert json.dumps(measured["spacings"]) == json.dumps(expected["spacings"])
    assert list(measured) == list(expected)
    for channel, intensities in expected.pop(INTENSITIES).items():
        assert measured[INTENSITIES][channel] == pytest.approx(intensities, rel=1e-6)  # nnU-Net averages in float32
    assert {key: measured[key] for key in expected} == expected


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_plans_and_cases_equal_nnunets(variant: Path, tmp_path: Path) -> None:
    golden = json.loads(variant.with_suffix(".json").read_text())
    dataset = dataset_of(variant, golden, tmp_path)
    plan = make_plan(
        Fingerprint.from_json(golden["fingerprint"]),
        dataset.description,
        dataset_name=dataset.name,
        image_reader_writer=dataset.reader().name,
        planner=golden["planner"],
        overwrite_target_spacing_mm=golden["target_spacing"],
    )
    assert json.dumps(plan.raw) == json.dumps(golden["plan"])
    with np.load(variant.with_suffix(".npz")) as arrays:
        for name, about in golden["cases"].items():
            configuration, case_id = name.split(" ")
            case = next(case for case in dataset.cases if case.case_id == case_id)
            assert case.label_path is not None
            result = preprocess_case(
                dataset.reader().read_image(case.image_paths),
                dataset.reader().read_labels(case.label_path),
                task=Task.of(plan, configuration, dataset.description),
            )
            for channel, wanted in zip(result.data, arrays[f"{name} data"], strict=True):
                np.testing.assert_allclose(channel, wanted, atol=1e-5 * np.ptp(wanted), rtol=0)
            np.testing.assert_array_equal(result.seg, arrays[f"{name} seg"])
            locations = result.properties.pop("class_locations")
            result.properties.pop(KEY, None)  # nnU-Net does not look at it
            assert list(locations) == about["located"]
            for label, voxels in locations.items():
                np.testing.assert_array_equal(np.reshape(voxels, (-1, 4)), arrays[f"{name} {label}"].reshape(-1, 4))
            assert as_lists(result.properties) == about["properties"]
            assert list(result.properties) == list(about["properties"])
