"""Each turn that a planner can take, with a plan of nnU-Net's that takes it (see make_plan_goldens.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segwright.dataset.description import DatasetDescription
from segwright.fingerprint import Fingerprint
from segwright.planning.decisions import LowresDecision, NetworkDecision, PlanningDecisions, decide
from segwright.planning.plan import Plan, merge_hand_made
from segwright.planning.planner import make_plan
from segwright.planning.presets import PLANNERS, planner_named

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "planner_branches.json").read_text())


def inputs(case: dict[str, Any]) -> tuple[Fingerprint, DatasetDescription, dict[str, Any]]:
    arguments = case["arguments"]
    options = {
        "gpu_memory_gb": arguments.get("gpu_memory_target_in_gb"),
        "overwrite_target_spacing_mm": arguments.get("overwrite_target_spacing"),
        "suppress_transpose": arguments.get("suppress_transpose", False),
    }
    return Fingerprint.from_json(case["fingerprint"]), DatasetDescription.from_json(case["dataset"]), options


def decisions_of(name: str) -> PlanningDecisions:
    case = GOLDEN[name]
    fingerprint, description, options = inputs(case)
    return decide(fingerprint, description, preset=planner_named(case["planner"]), **options)


@pytest.mark.parametrize("name", GOLDEN)
def test_plans_equal_nnunets(name: str) -> None:
    case = GOLDEN[name]
    fingerprint, description, options = inputs(case)
    plan = make_plan(
        fingerprint,
        description,
        dataset_name=case["plan"]["dataset_name"],
        image_reader_writer=case["plan"]["image_reader_writer"],
        planner=case["planner"],
        plans_name=case["arguments"].get("plans_name"),
        **options,
    )
    if "existing" in case:
        plan = merge_hand_made(plan, Plan.from_json(case["existing"]))
    assert json.dumps(plan.raw) == json.dumps(case["plan"])


def test_every_planner_has_a_plan() -> None:
    assert {case["planner"] for case in GOLDEN.values()} == set(PLANNERS)


def full(decisions: PlanningDecisions) -> NetworkDecision:
    assert decisions.fullres is not None
    return decisions.fullres


def low(decisions: PlanningDecisions) -> LowresDecision:
    assert decisions.lowres is not None
    return decisions.lowres


def coarsened(decisions: PlanningDecisions) -> list[float]:
    """Spacing of the low resolution over that of the full, along each axis."""
    network = low(decisions).network
    assert network is not None
    pairs = zip(network.spacing_mm, full(decisions).spacing_mm, strict=True)
    return [round(coarse / fine, 6) for coarse, fine in pairs]


def reasons(decisions: PlanningDecisions) -> list[str]:
    return [stop.reason for stop in full(decisions).topology.stops]


def batches(network: NetworkDecision) -> tuple[bool, bool]:
    """Whether memory, and whether the data set, allow more than the batch."""
    return network.batch_size_by_memory > network.batch_size, network.batch_size_by_dataset > network.batch_size


TURNS: dict[str, Callable[[PlanningDecisions], bool]] = {
    "two-dimensional": lambda d: d.fullres is None and d.two_d.num_shrinks == 0,
    "two-dimensional, patch for the smallest batch": lambda d: d.two_d.num_shrinks > 0 and d.two_d.batch_size == 2,
    "two-dimensional, patch for the batch of the reference": lambda d: (
        d.two_d.num_shrinks > 0 and d.two_d.batch_size_by_memory >= 12
    ),
    "a patch holds the image": lambda d: low(d).num_steps == 0 and full(d).num_shrinks == 0,
    "network of one stage": lambda d: full(d).topology.num_stages == 1,
    "an axis too short to halve": lambda d: (
        full(d).topology.num_pool_per_axis[0] == 0 and full(d).topology.num_stages > 4
    ),
    "an axis alone and too short": lambda d: "alone and too short" in reasons(d),
    "a fine axis alone keeps a coarse one from its turn": lambda d: "too coarse" in reasons(d),
    "one voxel along the coarsest axis": lambda d: d.fullres is None and d.two_d.median_shape == (300, 280),
    "one voxel along another axis": lambda d: full(d).topology.patch_size[1] == 1,
    "low resolution": lambda d: len(set(coarsened(d))) == 1,
    "low resolution, fine axes first": lambda d: coarsened(d)[0] < coarsened(d)[1] == coarsened(d)[2],
    "low resolution dropped": lambda d: low(d).num_steps > 0 and low(d).network is None,
    "median of many slices": lambda d: d.target.spacing_is_anisotropic and d.target.rule == "median",
    "tenth percentile of few slices": lambda d: (
        d.target.rule == "10th percentile" and not d.target.was_held_above_other_axes
    ),
    "tenth percentile held above the pixels": lambda d: d.target.was_held_above_other_axes,
    "half a voxel in the median": lambda d: any(edge % 1 for edge in d.median_shape),
    "batch by memory": lambda d: batches(full(d)) == (False, True),
    "batch by data set": lambda d: batches(full(d)) == (True, False),
    "batch at its smallest": lambda d: full(d).batch_size_by_dataset < full(d).batch_size == 2,
    "little memory": lambda d: full(d).num_shrinks > 0 and full(d).batch_size == 2,
    "much memory": lambda d: full(d).num_shrinks == 0 and full(d).batch_size > 2,
    "given spacing": lambda d: d.target.rule == "override" and d.target.spacing_mm != d.target.median_spacing_mm,
    "transposed": lambda d: d.transpose_forward == (2, 0, 1) and d.transpose_backward == (1, 2, 0),
    "transpose suppressed": lambda d: d.transpose_forward == (0, 1, 2) and d.target.coarsest_axis == 2,
    "many labels": lambda d: d.num_label_entries == 120,
    "regions and ignore": lambda d: d.num_label_entries == 4,
}


@pytest.mark.parametrize("name", TURNS)
def test_the_data_set_takes_the_turn_it_is_named_after(name: str) -> None:
    assert TURNS[name](decisions_of(name))


def test_configurations_of_a_plan_made_again_resolve() -> None:
    plan = Plan.from_json(GOLDEN["planned again"]["plan"])
    assert plan.configuration_names == ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres", "3d_mine", "3d_base")
    mine = plan.configuration("3d_mine")
    assert (mine.batch_size, mine.patch_size) == (7, (32, 32, 32))
    assert mine.spacing_mm == plan.configuration("3d_fullres").spacing_mm
    assert plan.configuration("2d").batch_size != 99
