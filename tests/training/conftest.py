"""A small synthetic data set, preprocessed: bright balls in noise, learnable in a few dozen steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from segwright.dataset import RawDataset
from segwright.fingerprint import fingerprint_dataset
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.preprocessing.cohort import preprocess_dataset


@dataclass(frozen=True)
class TinyData:
    """Raw and preprocessed folders and a plan whose configuration `tiny` trains in milliseconds."""

    raw: Path
    preprocessed: Path
    plan: Plan
    configuration: str = "tiny"

    @property
    def dataset_json(self) -> Mapping[str, Any]:
        return RawDataset.open(self.raw).description.raw


def write_tiny_dataset(folder: Path, *, cases: int = 6) -> None:
    """Write a raw data set of 16-voxel cubes with two balls, labels 1 and 2."""
    rng = np.random.default_rng(0)
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    grid = np.indices((16, 18, 20))
    for number in range(cases):
        labels = np.zeros(grid.shape[1:], np.uint8)
        for value in (1, 2):
            centre = rng.integers(5, 11, 3)
            labels[((grid - centre[:, None, None, None]) ** 2).sum(0) < 12] = value
        image = rng.normal(size=labels.shape).astype(np.float32) * 0.3 + 2 * labels + 5
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image), folder / "imagesTr" / f"case{number}_0000.nii.gz")
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels), folder / "labelsTr" / f"case{number}.nii.gz")
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, '
        f'"numTraining": {cases}, "file_ending": ".nii.gz"}}'
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Write, fingerprint, plan and preprocess the tiny data set once."""
    root = tmp_path_factory.mktemp("tiny")
    raw = root / "raw" / "Dataset999_Tiny"
    write_tiny_dataset(raw)
    dataset = RawDataset.open(raw)
    plan = make_plan(
        fingerprint_dataset(dataset), dataset.description, dataset_name=dataset.name, image_reader_writer="SimpleITKIO"
    )
    architecture = dict(plan.configuration("3d_fullres").raw["architecture"])
    kwargs = dict(architecture["arch_kwargs"])
    kwargs["features_per_stage"] = [4] * kwargs["n_stages"]
    plan = plan.with_configuration(
        "tiny",
        {
            "inherits_from": "3d_fullres",
            "batch_size": 2,
            "architecture": {**architecture, "arch_kwargs": kwargs},
        },
    )
    preprocessed = root / "preprocessed" / dataset.name
    result = preprocess_dataset(dataset, plan, ["3d_fullres", "2d"], preprocessed, workers=1)
    assert not result.failures
    plan.write(preprocessed / "nnUNetPlans.json")
    return TinyData(raw, preprocessed, plan)
