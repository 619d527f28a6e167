from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segwright.dataset.description import DatasetDescription
from segwright.errors import PlanError
from segwright.explain.explanation import Explanation, explain_decisions, explain_plan, with_step_memory
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.planning.wording import gigabytes
from segwright.task import Task

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


def read(data: str, plans: str = "nnUNetPlans") -> tuple[Plan, Fingerprint, DatasetDescription]:
    return (
        Plan.read(GOLDEN / f"{data}__{plans}.json"),
        Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json"),
        DatasetDescription.read(GOLDEN / f"{data}__dataset.json"),
    )


def explain(data: str, configuration: str, plans: str = "nnUNetPlans", **entries: Any) -> Explanation:
    plan, fingerprint, description = read(data, plans)
    if entries:
        plan = plan.with_configuration(configuration, entries)
    return explain_decisions(Task.of(plan, configuration, description), fingerprint)


def row(explanation: Explanation, decision: str) -> str:
    """The value and the reason of a decision."""
    found = [each for each in explanation.rows if each.decision == decision]
    return "; ".join(f"{each.value}: {each.reason}" for each in found)


def text(explanation: Explanation, topic: str) -> str:
    return next(paragraph.text for paragraph in explanation.paragraphs if paragraph.topic == topic)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*Plans.json")), ids=lambda path: path.stem)
def test_a_plan_as_planned_differs_in_nothing(path: Path) -> None:
    data, plans = path.stem.split("__")
    plan, fingerprint, description = read(data, plans)
    for name in plan.configuration_names:
        explanation = explain_decisions(Task.of(plan, name, description), fingerprint)
        assert explanation.differences == ()
        untrained = "cascade" in name or data in ("Dataset902_BrainReg", "Dataset904_Cardiac")
        assert [row.decision for row in explanation.rows] == [
            "spacing",
            *(["axes"] if plan.transpose_forward != (0, 1, 2) else []),
            "patch",
            "depth",
            "features",
            "batch size",
            *["normalisation"] * len(set(plan.configuration(name).normalization_schemes)),
            "low resolution",
            *(["training"] if untrained else []),
        ]
        assert max(len(row.reason.split()) for row in explanation.rows) <= 20
        assert explanation.paragraphs[0].topic == "Data"
        json.dumps(explanation.to_json(), allow_nan=False)


def test_the_memory_of_a_step_is_added_last() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    without = explain("Dataset903_Hippo", "3d_fullres")
    whole = explain_plan(plan, fingerprint, description, "3d_fullres")
    assert whole.paragraphs[: len(without.paragraphs)] == without.paragraphs
    assert [each for each in whole.rows if each.decision != "memory"] == list(without.rows)
    for step in whole.steps.values():
        assert gigabytes(step.total) in row(whole, "memory")
    assert whole.size is not None
    assert without.size == replace(whole.size, step_cuda=None, step_cpu=None)
    assert whole.steps["cuda"].total == pytest.approx(0.95e9, rel=0.03)
    assert whole.steps["cpu"].total == pytest.approx(1.83e9, rel=0.03)
    size = whole.to_json()["size"]
    assert size["step_cpu"]["total"] == whole.steps["cpu"].total
    smaller = with_step_memory(without, Task.of(plan, "3d_fullres", description), flags={"batch_size": 4})
    assert smaller.steps["cpu"].activations == pytest.approx(whole.steps["cpu"].activations * 4 / 9, rel=0.03)


def test_large_ct_is_limited_by_memory_and_gets_a_cascade() -> None:
    explanation = explain("Dataset901_CTAniso", "3d_fullres")
    assert "median" in row(explanation, "spacing")
    assert "236.5 × 512 × 512 voxels" in text(explanation, "Spacing")
    assert "80 × 160 × 160 voxels" in row(explanation, "patch")
    assert "34 × 31 × 31 %" in row(explanation, "patch")
    assert "13 times" in row(explanation, "patch")
    assert "6 stages" in row(explanation, "depth")
    assert "16 × 32 × 32 to 5 × 5 × 5" in row(explanation, "depth")
    assert "first pooled 4 times, from 80 to 5 " in text(explanation, "Depth")
    assert "second and third pooled 5 times, from 160 to 5 " in text(explanation, "Depth")
    assert "32 to 320" in row(explanation, "features")
    assert "8 GB allow; 5 % of the data set" in row(explanation, "batch size")
    assert "3.461 × 1.744 × 1.744 mm" in row(explanation, "low resolution")
    assert "CTNormalization" in row(explanation, "normalisation")
    assert "550.5 million" in text(explanation, "Memory")


def test_the_lowres_spacing_is_explained_by_its_steps() -> None:
    assert "27 steps of 3 %" in text(explain("Dataset901_CTAniso", "3d_lowres"), "Spacing")


def test_the_five_percent_rule_is_named_where_it_decides() -> None:
    words = row(explain("Dataset903_Hippo", "3d_fullres"), "batch size")
    assert words.startswith("9: at most 5 % of the data set")


def test_few_coarse_slices_are_explained() -> None:
    explanation = explain("Dataset904_Cardiac", "3d_fullres")
    assert "10th percentile" in row(explanation, "spacing")
    assert "Kernels have size 1" in text(explanation, "Depth")
    assert explanation.numbers["spacing_rule"] == "10th percentile"


def test_transposed_axes_are_explained() -> None:
    explanation = explain("Dataset907_SagSpine", "3d_fullres")
    assert "Axis x of the images (the first in the file header)" in text(explanation, "Order of axes")
    assert row(explanation, "axes").startswith("x, z, y: ")
    assert "4 mm" in row(explanation, "axes")


def test_two_dimensional_data_have_no_low_resolution() -> None:
    explanation = explain("Dataset905_Roads", "2d")
    assert "two-dimensional" in row(explanation, "low resolution")
    assert "1500 × 1500 pixels" in text(explanation, "Data")
    assert "a pixel counts as 1 mm" in text(explanation, "Data")


def test_a_first_patch_that_is_kept_though_the_images_are_larger_is_explained() -> None:
    plan, fingerprint, description = read("Dataset905_Roads")
    large = Fingerprint.from_json(
        {**fingerprint.to_json(), "shapes_after_crop": [[1, 3000, 3000]] * len(fingerprint.spacings_mm)}
    )
    planned = make_plan(
        large,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        gpu_memory_gb=24,
    )
    explanation = explain_decisions(Task.of(planned, "2d", description), large, gpu_memory_gb=24)
    assert row(explanation, "patch").startswith("2048 × 2048 pixels")
    assert "where the planner begins" in row(explanation, "patch")
    assert "about 2048 pixels a side" in text(explanation, "Patch")
    assert "where the planner begins" not in row(explain("Dataset903_Hippo", "3d_fullres"), "patch")


def test_the_share_of_the_image_is_the_planners_count() -> None:
    plan, fingerprint, description = read("Dataset904_Cardiac")
    small = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        gpu_memory_gb=4,
    )
    explanation = explain_decisions(Task.of(small, "3d_fullres", description), fingerprint, gpu_memory_gb=4)
    counted = f"{100 * explanation.numbers['fullres_patch_covers']:.3g} %"
    assert f"{counted} of the image" in row(explanation, "low resolution")
    assert "outside" in text(explanation, "Low resolution")
    inside = explain("Dataset901_CTAniso", "3d_fullres")
    assert "outside" not in text(inside, "Low resolution")


def test_a_reduction_by_thousands_is_written_without_an_exponent() -> None:
    plan, fingerprint, description = read("Dataset901_CTAniso")
    fine = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        overwrite_target_spacing_mm=(0.2, 0.1, 0.1),
    )
    words = row(explain_decisions(Task.of(fine, "3d_fullres", description), fingerprint), "low resolution")
    assert re.search(r" \d,\d{3} times fewer voxels", words)


@pytest.mark.parametrize(
    ("data", "configuration", "what"),
    [
        ("Dataset902_BrainReg", "3d_fullres", "regions"),
        ("Dataset904_Cardiac", "2d", "an ignore label"),
        ("Dataset901_CTAniso", "3d_cascade_fullres", "a configuration that refines a previous stage"),
    ],
)
def test_what_this_version_cannot_train_is_said(data: str, configuration: str, what: str) -> None:
    explanation = explain(data, configuration)
    assert f"cannot train {what}" in row(explanation, "training")
    assert what in text(explanation, "Training")


def test_masked_normalisation_is_explained() -> None:
    explanation = explain("Dataset902_BrainReg", "3d_fullres")
    assert "object only" in row(explanation, "normalisation")
    assert "60 % of the image, less than 75 %" in text(explanation, "Normalisation")


def test_edits_are_listed_against_what_the_planner_would_choose() -> None:
    explanation = explain(
        "Dataset902_BrainReg",
        "mine",
        inherits_from="3d_fullres",
        batch_size=4,
        patch_size=[96, 96, 96],
        num_epochs=30,
        normalization_schemes=["NoNormalization"] * 4,
    )
    assert {d.key: (d.in_plan, d.planned) for d in explanation.differences} == {
        "batch_size": (4, 2),
        "patch_size": ([96, 96, 96], [128, 160, 112]),
        "num_epochs": (30, None),
        "normalization_schemes": (["NoNormalization"] * 4, ["ZScoreNormalization"] * 4),
    }
    assert "128 × 160 × 112" in row(explanation, "patch")
    assert row(explanation, "batch size").startswith("4: the planner would take 2")
    assert "set by hand" in row(explanation, "normalisation")
    assert "batch_size = 4: planner: 2" in row(explanation, "changed")
    assert "num_epochs = 30: not set by the planner" in row(explanation, "changed")
    assert "4 values" in text(explanation, "Changes by hand")
    assert explanation.numbers["planned_batch_size"] == 2


def without(*keys: str, data: str = "Dataset903_Hippo", configuration: str = "3d_fullres") -> Explanation:
    """The explanation of a plan from which keys were deleted, of the configuration or of its network."""
    plan, fingerprint, description = read(data)
    raw = json.loads(json.dumps(plan.raw))
    entry = raw["configurations"][configuration]
    for key in keys:
        (entry if key in entry else entry["architecture"]["arch_kwargs"]).pop(key)
    return explain_decisions(Task.of(Plan.from_json(raw), configuration, description), fingerprint)


def test_deleted_keys_are_listed() -> None:
    explanation = without("norm_op", "norm_op_kwargs", "conv_bias", "nonlin")
    prefix = "architecture.arch_kwargs"
    assert [(d.key, d.in_plan, d.is_missing) for d in explanation.differences] == [
        (f"{prefix}.{key}", None, True) for key in ("conv_bias", "norm_op", "norm_op_kwargs", "nonlin")
    ]
    assert "conv_bias is missing: planner: True" in row(explanation, "changed")
    assert explanation.to_json()["differences"][0]["is_missing"] is True
    lowres = without("next_stage", data="Dataset901_CTAniso", configuration="3d_lowres")
    assert "next_stage is missing: planner: 3d_cascade_fullres" in row(lowres, "changed")


def test_keys_whose_absence_means_what_the_planner_writes_are_not_missed() -> None:
    assert without("dropout_op", "dropout_op_kwargs").differences == ()


def test_an_own_spacing_is_not_blamed_for_what_follows_from_it() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    overridden = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        overwrite_target_spacing_mm=(2, 1, 1),
    )
    explanation = explain_decisions(Task.of(overridden, "3d_fullres", description), fingerprint)
    assert explanation.differences == ()
    assert "by hand" in row(explanation, "spacing")
    assert "1 × 1 × 1 mm" in row(explanation, "spacing")
    assert "full-resolution spacing" in text(explanation, "Changes by hand")


def test_a_suppressed_transpose_is_recognised() -> None:
    plan, fingerprint, description = read("Dataset907_SagSpine")
    suppressed = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        suppress_transpose=True,
    )
    explanation = explain_decisions(Task.of(suppressed, "3d_fullres", description), fingerprint)
    assert explanation.differences == ()
    assert row(explanation, "axes") == "z, y, x: chosen by hand"
    # slices of 0.7 x 4 mm, not of the two finer axes
    flat = explain_decisions(Task.of(suppressed, "2d", description), fingerprint)
    assert row(flat, "spacing").startswith("0.7 × 4 mm: that of full resolution")
    assert "axis z of the images (the last in the file header)" in text(flat, "Spacing")


def test_the_memory_planned_for_can_be_given() -> None:
    plan, fingerprint, description = read("Dataset901_CTAniso")
    larger = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        gpu_memory_gb=16,
    )
    assert explain_decisions(Task.of(larger, "3d_fullres", description), fingerprint).differences != ()
    assert (
        explain_decisions(Task.of(larger, "3d_fullres", description), fingerprint, gpu_memory_gb=16).differences == ()
    )


def test_schemes_for_other_channels_than_the_images_have_are_refused() -> None:
    with pytest.raises(PlanError, match=r"'3d_fullres', key 'normalization_schemes': expected 1, .*\(MRI\), got 2"):
        explain(
            "Dataset903_Hippo",
            "3d_fullres",
            normalization_schemes=["ZScoreNormalization"] * 2,
            use_mask_for_norm=[False] * 2,
        )


def test_a_broken_neighbour_does_not_bar_the_explanation() -> None:
    plan, fingerprint, description = read("Dataset901_CTAniso")
    broken = plan.with_configuration("3d_fullres", {"batch_size": 0, "spacing": "fine"})
    assert explain_decisions(Task.of(broken, "2d", description), fingerprint).differences == ()


def test_unknown_planners_are_said_to_be_unknown() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    foreign = Plan.from_json({**plan.raw, "experiment_planner_used": "OurPlanner"})
    explanation = explain_decisions(Task.of(foreign, "3d_fullres", description), fingerprint)
    assert "OurPlanner is not known" in text(explanation, "Changes by hand")


def test_a_configuration_of_its_own_is_explained_from_its_own_numbers() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    entry = dict(plan.configuration("3d_fullres").raw)
    plan = plan.with_configuration("mine", {**entry, "batch_size": 3})
    explanation = explain_decisions(Task.of(plan, "mine", description), fingerprint)
    assert explanation.differences == ()
    assert "made by hand" in text(explanation, "Changes by hand")
    assert "by hand" in row(explanation, "spacing")


def test_foreign_networks_are_not_judged() -> None:
    entry = {"network_class_name": "my.nets.Swin", "arch_kwargs": {"depth": 4}, "_kw_requires_import": []}
    explanation = explain("Dataset903_Hippo", "3d_fullres", architecture=entry)
    assert explanation.size is None
    assert "my.nets.Swin" in row(explanation, "depth")
    assert not any(difference.is_missing for difference in explanation.differences)
    assert "--measure" in row(explanation, "memory")


def test_the_cascade_counts_its_previous_labels_as_inputs() -> None:
    fullres = explain("Dataset901_CTAniso", "3d_fullres").size
    cascade = explain("Dataset901_CTAniso", "3d_cascade_fullres").size
    assert fullres is not None
    assert cascade is not None
    words = text(explain("Dataset901_CTAniso", "3d_cascade_fullres"), "Network")
    assert "3d_lowres" in words
    assert cascade.num_parameters - fullres.num_parameters == 2 * 32 * 9  # two labels, flat first kernels


def test_an_axis_that_is_alone_or_coarse_says_why_it_is_not_pooled_on() -> None:
    plan, fingerprint, description = read("Dataset904_Cardiac")
    coarse = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        overwrite_target_spacing_mm=(40, 1.5, 1.5),
    )
    explanation = explain_decisions(Task.of(coarse, "3d_fullres", description), fingerprint)
    assert "first not pooled" in text(explanation, "Depth")
    assert "1 × 64 × 64 to 2 × 4 × 4" in row(explanation, "depth")


def test_slices_are_explained_without_the_spacing_between_them() -> None:
    explanation = explain("Dataset904_Cardiac", "2d")
    assert "10th percentile" not in row(explanation, "spacing")
    assert "axis z of the images" in text(explanation, "Spacing")


def test_a_planner_without_the_five_percent_rule_says_so() -> None:
    words = row(explain("Dataset903_Hippo", "3d_fullres", "nnUNetResEncUNetMPlans"), "batch size")
    assert "100 % of the data set" in words


def test_a_network_of_one_stage_cannot_be_trained() -> None:
    branch = json.loads((GOLDEN.parent / "planner_branches.json").read_text())["network of one stage"]
    plan, description = Plan.from_json(branch["plan"]), DatasetDescription.from_json(branch["dataset"])
    for name in plan.configuration_names:
        explanation = explain_decisions(Task.of(plan, name, description), Fingerprint.from_json(branch["fingerprint"]))
        assert "cannot be trained" in row(explanation, "depth")
        assert "cannot be trained" in row(explanation, "memory")
        assert explanation.size is None


def test_a_loop_of_inheritance_elsewhere_does_not_stop_the_explanation() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    looped = plan.with_configuration("3d_fullres", {"inherits_from": "3d_fullres"})
    assert explain_decisions(Task.of(looped, "2d", description), fingerprint).differences == ()
