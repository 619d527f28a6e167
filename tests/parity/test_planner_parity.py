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
from segwright.planning.plan import Plan, merge_hand_made
from segwright.planning.planner import make_plan
from segwright.planning.presets import PLANNERS

CHANNELS = ("CT", "T1", "noNorm", "zscore", "rescale_to_0_1", "RGB_to_0_1")
NUM_CASES = int(os.environ.get("SEGWRIGHT_PARITY_CASES", "360"))


def between(rng: np.random.Generator, low: float, high: float, size: int | None = None) -> Any:
    """Numbers spread evenly over the orders of magnitude."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def random_labels(rng: np.random.Generator) -> dict[str, Any]:
    """Some plain, some regions, some with an ignore label, some with both; 2 to 120 of them."""
    count = int(np.rint(between(rng, 2, 120)))
    labels: dict[str, Any] = {"background": 0, **{f"organ {value}": value for value in range(1, count)}}
    description: dict[str, Any] = {"labels": labels}
    if count > 2 and rng.random() < 0.4:
        for value in range(1, int(rng.integers(2, count))):
            labels[f"organ {value}"] = list(range(value, count))
        description["regions_class_order"] = list(range(1, count))
    if rng.random() < 0.3:
        labels["ignore"] = count
    return description


def random_fingerprint(rng: np.random.Generator, num_cases: int) -> dict[str, Any]:
    """Isotropic, anisotropic, flat and tiny images, round and odd numbers, ties and half medians."""
    kind = rng.choice(["isotropic", "anisotropic", "few slices", "flat", "flat volume", "thin", "tiny", "free", "free"])
    spacing, shape = between(rng, 0.1, 12, 3), between(rng, 1, 1500, 3)
    if kind == "isotropic":
        spacing[:], shape[:] = spacing[0], between(rng, 10, 1500)
    if kind in ("anisotropic", "few slices"):
        axis = rng.integers(3)
        spacing[:] = min(spacing.min(), 1.5)
        spacing[axis] *= rng.uniform(2, 8) if kind == "anisotropic" else rng.uniform(3, 8)
        shape[:] = rng.integers(100, 600)
        shape[axis] = rng.integers(5, 60)
    if kind == "flat":
        spacing = np.array([999.0, 1, 1])
    if kind == "thin":
        shape[rng.integers(3)] = rng.integers(1, 8)
    if kind == "tiny":
        shape = between(rng, 1, 16, 3)
    spread = 0 if kind == "flat" else rng.choice([0, 0.05, 0.5])
    spacings = np.tile(spacing, (num_cases, 1)) * np.exp(spread * rng.standard_normal((num_cases, 3)))
    shapes = np.rint(shape * np.exp(rng.choice([0, 0.02, 0.3]) * rng.standard_normal((num_cases, 3))))
    if kind.startswith("flat"):
        shapes[:, 0] = 1
    if kind != "flat":
        spacings = np.clip(spacings, 0.1, 12)
    if rng.random() < 0.5:
        spacings = np.round(spacings, 2)
    return {"spacings": spacings.tolist(), "shapes_after_crop": np.clip(shapes, 1, 1500).astype(int).tolist()}


def random_case(seed: int) -> dict[str, Any]:
    """A made-up data set and how to plan it. The planners take turns."""
    rng = np.random.default_rng([2025, seed])
    num_cases = int(np.rint(between(rng, 5, 2000)))
    channels = [str(name) for name in rng.choice(CHANNELS, size=rng.integers(1, 7))]
    properties = {key: float(rng.normal()) for key in INTENSITY_KEYS}
    arguments: dict[str, Any] = {"suppress_transpose": bool(rng.random() < 0.2)}
    if rng.random() < 0.7:
        arguments["gpu_memory_target_in_gb"] = float(rng.choice([4, 6, 8, 11, 16, 24, 40, 80, rng.uniform(4, 80)]))
    if rng.random() < 0.2:
        arguments["overwrite_target_spacing"] = [float(value) for value in between(rng, 0.2, 6, 3)]
    if rng.random() < 0.2:
        arguments["plans_name"] = "ownPlans"
    case = {
        "planner": list(PLANNERS)[seed % len(PLANNERS)],
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
    return {**case, "existing": earlier_plan(case) if rng.random() < 0.2 else None}


def earlier_plan(case: dict[str, Any]) -> Any:
    """A plan that is there already, for more memory and so perhaps of other configurations, with two made by hand."""
    arguments = {**case["arguments"], "gpu_memory_target_in_gb": 200.0}
    try:
        plan = make(case, arguments)
    except PlanError:
        return None
    plan = plan.with_configuration("2d", {"batch_size": 99, "note": "planned again, so this goes"})
    plan = plan.with_configuration("3d_fullres_mine", {"inherits_from": "2d_mine", "batch_size": 7})
    return plan.with_configuration("2d_mine", {"inherits_from": "2d", "patch_size": [64, 64]}).raw


def make(case: dict[str, Any], arguments: dict[str, Any]) -> Plan:
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
    )


def own_plan(case: dict[str, Any]) -> Plan:
    plan = make(case, case["arguments"])
    return plan if case["existing"] is None else merge_hand_made(plan, Plan.from_json(case["existing"]))


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return [random_case(seed) for seed in range(NUM_CASES)]


@pytest.fixture(scope="module")
def planned_by_peer(
    cases: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, peer_python: str
) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("plans")
    (folder / "cases.json").write_text(json.dumps(cases))
    driver = Path(__file__).with_name("peer_planner.py")
    subprocess.run([peer_python, driver, folder / "cases.json", folder / "plans.json"], check=True)
    return json.loads((folder / "plans.json").read_text())


@pytest.mark.parity
def test_plans_equal_those_of_nnunet(cases: list[dict[str, Any]], planned_by_peer: list[dict[str, Any]]) -> None:
    compared = [seed for seed, theirs in enumerate(planned_by_peer) if "plan" in theirs]
    different = [
        seed for seed in compared if json.dumps(own_plan(cases[seed]).raw) != json.dumps(planned_by_peer[seed]["plan"])
    ]
    assert not different, f"seeds whose plans differ: {different}"
    assert len(compared) >= 0.8 * NUM_CASES, "too few cases that nnU-Net plans at all"


@pytest.mark.parity
def test_where_nnunet_fails_a_plan_can_be_used_or_an_error_says_why(
    cases: list[dict[str, Any]], planned_by_peer: list[dict[str, Any]]
) -> None:
    refused = {}
    for seed, theirs in enumerate(planned_by_peer):
        if "plan" in theirs:
            continue
        try:
            plan = own_plan(cases[seed])
        except PlanError as error:
            refused[seed] = str(error)
            continue
        for name in plan.configuration_names:
            assert plan.configuration(name).batch_size >= 2, (seed, name)
    assert all("expected" in text for text in refused.values()), refused


@pytest.mark.parity
def test_the_cases_cover_what_is_claimed(cases: list[dict[str, Any]], planned_by_peer: list[dict[str, Any]]) -> None:
    planned = [case for case, theirs in zip(cases, planned_by_peer, strict=True) if "plan" in theirs]
    assert {case["planner"] for case in planned} == set(PLANNERS)
    labels = [case["dataset"] for case in planned]
    for regions, ignore in ((False, False), (False, True), (True, False), (True, True)):
        assert any(
            ("regions_class_order" in label) is regions and ("ignore" in label["labels"]) is ignore for label in labels
        )
    configurations = {tuple(theirs["plan"]["configurations"]) for theirs in planned_by_peer if "plan" in theirs}
    assert {("2d",), ("2d", "3d_fullres"), ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")} <= configurations
