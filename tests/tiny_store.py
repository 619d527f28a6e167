"""The small synthetic data set, preprocessed: learnable in a few dozen steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from segwright.dataset import RawDataset
from segwright.fingerprint import fingerprint_dataset
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.preprocessing.cohort import preprocess_dataset
from tiny_datasets import make_3d


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Write, fingerprint, plan and preprocess the tiny data set once."""
    root = tmp_path_factory.mktemp("tiny")
    raw = root / "raw" / "Dataset999_Tiny"
    make_3d(raw)
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
