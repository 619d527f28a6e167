"""Plans of made-up data sets are those of nnU-Net, to the last digit and in the same order."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.dataset.description import DatasetDescription
from segwright.errors import PlanError
from segwright.fingerprint import INTENSITY_KEYS, Fingerprint
from segwright.planning.planner import make_plan
from segwright.planning.presets import PLANNERS

CHANNELS = ("CT", "T1", "noNorm", "zscore", "rescale_to_0_1", "RGB_to_0_1")
NUM_CASES = int(os.environ.get("SEGWRIGHT_PARITY_CASES", "60"))


def random_labels(rng: np.random.Generator) -> dict[str, Any]:
    """Some plain, some regions, some with an ignore label; 2 to 120 of them."""
    count = int(rng.choice([2, 3, 4, 15, 120]))
    labels: dict[str, Any] = {"background": 0, **{f"organ {value}": value for value in range(1, count)}}
    description: dict[str, Any] = {"labels": labels}
    if count > 2 and rng.random() < 0.3:
        labels["organ 1"] = list(range(1, count))
        description["regions_class_order"] = list(range(1, count))
    if rng.random() < 0.2:
        labels["ignore"] = count
    return description


def random_fingerprint(rng: np.random.Generator, num_cases: int) -> dict[str, Any]:
    """Isotropic, anisotropic and flat images, round and odd numbers, ties and half medians."""
    kind = rng.choice(["isotropic", "anisotropic", "flat", "thin", "free"])
    spacing = np.exp(rng.uniform(np.log(0.1), np.log(12), 3))
    shape = np.exp(rng.uniform(np.log(8), np.log(1500), 3))
    if kind == "isotropic":
        spacing[:], shape[:] = spacing[0], shape[0]
    if kind == "anisotropic":
        axis = rng.integers(3)
        spacing[:] = spacing.min()
        spacing[axis] *= rng.uniform(2, 9)
        shape[:] = rng.integers(100, 600)
        shape[axis] = rng.integers(5, 60)
    if kind == "flat":
        spacing, shape[0] = np.array([999.0, 1, 1]), 1
    if kind == "thin":
        shape[rng.integers(3)] = rng.integers(1, 8)
    spread = 0 if kind == "flat" else rng.choice([0, 0.05, 0.5])
    spacings = np.tile(spacing, (num_cases, 1)) * np.exp(spread * rng.standard_normal((num_cases, 3)))
    shapes = np.rint(shape * np.exp(rng.choice([0, 0.02, 0.3]) * rng.standard_normal((num_cases, 3))))
    if kind == "flat":
        shapes[:, 0] = 1
    if rng.random() < 0.5:
        spacings = np.round(spacings, 2) + 0.01
    return {"spacings": spacings.tolist(), "shapes_after_crop": np.clip(shapes, 1, 1500).astype(int).tolist()}


def random_case(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([2024, seed])
    num_cases = int(rng.choice([5, 6, 33, 300, 2000], p=[0.3, 0.3, 0.2, 0.15, 0.05]))
    channels = [str(name) for name in rng.choice(CHANNELS, size=rng.integers(1, 7))]
    properties = {key: float(rng.normal()) for key in INTENSITY_KEYS}
    arguments: dict[str, Any] = {"suppress_transpose": bool(rng.random() < 0.2)}
    if rng.random() < 0.6:
        arguments["gpu_memory_target_in_gb"] = float(rng.choice([4, 6, 8, 11, 16, 24, 40, 80]))
    if rng.random() < 0.2:
        arguments["overwrite_target_spacing"] = [float(value) for value in rng.uniform(0.3, 4, 3)]
    if rng.random() < 0.2:
        arguments["plans_name"] = "ownPlans"
    return {
        "planner": str(rng.choice(list(PLANNERS))),
        "arguments": arguments,
        "dataset": {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            **random_labels(rng),
            "numTraining": num_cases,
            "file_ending": ".nii.gz",
        },
        "fingerprint": {
            **random_fingerprint(rng, num_cases),
            "foreground_intensity_properties_per_channel": {str(i): properties for i in range(len(channels))},
            "median_relative_size_after_cropping": float(rng.uniform(0.4, 1)),
        },
    }


def own_plan(case: dict[str, Any]) -> Any:
    arguments = dict(case["arguments"])
    return make_plan(
        Fingerprint.from_json(case["fingerprint"]),
        DatasetDescription.from_json(case["dataset"]),
        dataset_name="Dataset999_Parity",
        image_reader_writer="SimpleITKIO",
        planner=case["planner"],
        gpu_memory_gb=arguments.get("gpu_memory_target_in_gb"),
        overwrite_target_spacing_mm=arguments.get("overwrite_target_spacing"),
        plans_name=arguments.get("plans_name"),
        suppress_transpose=arguments["suppress_transpose"],
    ).raw


@pytest.mark.parity
def test_plans_equal_those_of_nnunet(tmp_path: Path, peer_python: str) -> None:
    cases = [random_case(seed) for seed in range(NUM_CASES)]
    cases_path, plans_path = tmp_path / "cases.json", tmp_path / "plans.json"
    cases_path.write_text(json.dumps(cases))
    driver = Path(__file__).with_name("peer_planner.py")
    subprocess.run([peer_python, str(driver), str(cases_path), str(plans_path)], check=True)
    different, compared = {}, 0
    for seed, (case, theirs) in enumerate(zip(cases, json.loads(plans_path.read_text()), strict=True)):
        try:
            ours = own_plan(case)
        except PlanError as error:
            ours = str(error)
        if "plan" not in theirs:
            continue
        compared += 1
        if json.dumps(ours) != json.dumps(theirs["plan"]):
            different[seed] = (ours, theirs["plan"])
    assert not different, f"seeds whose plans differ: {sorted(different)}"
    assert compared >= 0.8 * NUM_CASES, "too few cases that nnU-Net plans at all"
