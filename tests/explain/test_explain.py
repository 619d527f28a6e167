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
    return explain_decisions(plan, fingerprint, description, configuration)


def text(explanation: Explanation, topic: str) -> str:
    return next(paragraph.text for paragraph in explanation.paragraphs if paragraph.topic == topic)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*Plans.json")), ids=lambda path: path.stem)
def test_a_plan_as_planned_differs_in_nothing(path: Path) -> None:
    data, plans = path.stem.split("__")
    plan, fingerprint, description = read(data, plans)
    for name in plan.configuration_names:
        explanation = explain_decisions(plan, fingerprint, description, name)
        assert explanation.differences == ()
        flat = data == "Dataset905_Roads"
        untrained = "cascade" in name or data in ("Dataset902_BrainReg", "Dataset904_Cardiac")
        assert [paragraph.topic for paragraph in explanation.paragraphs] == [
            "Data",
            "Spacing",
            *([] if flat else ["Order of axes"]),
            "Patch",
            "Depth",
            "Network",
            "Batch size",
            "Low resolution",
            "Normalisation",
            "Memory",
            *(["Training"] if untrained else []),
        ]
        json.dumps(explanation.to_json(), allow_nan=False)


def test_the_memory_of_a_step_is_added_last() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    without = explain("Dataset903_Hippo", "3d_fullres")
    whole = explain_plan(plan, fingerprint, description, "3d_fullres")
    assert whole.paragraphs[: len(without.paragraphs)] == without.paragraphs
    assert gigabytes(whole.steps["cpu"].total) in text(whole, "Memory of a step")
    assert whole.size is not None
    assert without.size == replace(whole.size, step_cuda=None, step_cpu=None)
    assert whole.steps["cuda"].total == pytest.approx(0.95e9, rel=0.03)
    assert whole.steps["cpu"].total == pytest.approx(1.83e9, rel=0.03)
    size = whole.to_json()["size"]
    assert size["step_cpu"]["total"] == whole.steps["cpu"].total
    smaller = with_step_memory(without, plan, description, flags={"batch_size": 4})
    assert smaller.steps["cpu"].activations == pytest.approx(whole.steps["cpu"].activations * 4 / 9, rel=0.03)


def test_large_ct_is_limited_by_memory_and_gets_a_cascade() -> None:
    explanation = explain("Dataset901_CTAniso", "3d_fullres")
    assert "median of the training images" in text(explanation, "Spacing")
    assert "236.5 × 512 × 512 voxels" in text(explanation, "Spacing")
    assert "80 × 160 × 160 voxels" in text(explanation, "Patch")
    assert "33.8 %, 31.2 % and 31.2 % of the median image" in text(explanation, "Patch")
    assert "most of the image 13 times" in text(explanation, "Patch")
    depth = text(explanation, "Depth")
    assert "The first axis is halved 4 times, from 80 to 5 voxels: another halving would need at least 8." in depth
    assert "The second and third axes are each halved 5 times, from 160 to 5 voxels" in depth
    assert "begin with 32 and double at each halving, up to 320" in text(explanation, "Network")
    assert "The memory target of 8 GB allows 2" in text(explanation, "Batch size")
    assert "The memory decides" in text(explanation, "Batch size")
    assert "3d_lowres sees the image at 3.461 × 1.744 × 1.744 mm" in text(explanation, "Low resolution")
    assert "CTNormalization" in text(explanation, "Normalisation")
    assert "550.5 million elements" in text(explanation, "Memory")


def test_the_lowres_spacing_is_explained_by_its_steps() -> None:
    assert "27 steps of 3 %" in text(explain("Dataset901_CTAniso", "3d_lowres"), "Spacing")


def test_the_five_percent_rule_is_named_where_it_decides() -> None:
    words = text(explain("Dataset903_Hippo", "3d_fullres"), "Batch size")
    assert "at most 5 % of the data set's voxels" in words
    assert "The size of the data set decides" in words


def test_few_coarse_slices_are_explained() -> None:
    explanation = explain("Dataset904_Cardiac", "3d_fullres")
    assert "a tenth of the images" in text(explanation, "Spacing")
    assert "Kernels are flat" in text(explanation, "Depth")
    assert explanation.numbers["spacing_rule"] == "10th percentile"


def test_transposed_axes_are_explained() -> None:
    words = text(explain("Dataset907_SagSpine", "3d_fullres"), "Order of axes")
    assert "Axis x of the images (the first in the file's header) is put first" in words
    assert "in the order x, z, y" in words
    assert "4 mm" in words


def test_two_dimensional_data_have_no_low_resolution() -> None:
    explanation = explain("Dataset905_Roads", "2d")
    assert "two-dimensional" in text(explanation, "Low resolution")
    assert "single slices; their median size is 1500 × 1500 pixels" in text(explanation, "Data")
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
    words = text(explain_decisions(planned, large, description, "2d", gpu_memory_gb=24), "Patch")
    assert "2048 × 2048 pixels" in words
    assert "begins with at most a square of 2048 pixels a side" in words
    assert "nothing was cut off" not in words
    assert "nothing was cut off" in text(explain("Dataset903_Hippo", "3d_fullres"), "Patch")


def test_the_part_of_the_image_that_a_patch_covers_is_told_as_the_planner_counts_it_too() -> None:
    plan, fingerprint, description = read("Dataset904_Cardiac")
    small = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        gpu_memory_gb=4,
    )
    explanation = explain_decisions(small, fingerprint, description, "3d_fullres", gpu_memory_gb=4)
    counted = f"{100 * explanation.numbers['fullres_patch_covers']:.3g} %"
    assert f"({counted} as the planner counts, with the part of the patch that lies outside" in text(
        explanation, "Patch"
    )
    assert f"{counted} of the image (counting the part of the patch that lies outside it)" in text(
        explanation, "Low resolution"
    )
    inside = explain("Dataset901_CTAniso", "3d_fullres")
    assert "outside" not in text(inside, "Patch") + text(inside, "Low resolution")


def test_a_reduction_by_thousands_is_told_without_an_exponent() -> None:
    plan, fingerprint, description = read("Dataset901_CTAniso")
    fine = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        overwrite_target_spacing_mm=(0.2, 0.1, 0.1),
    )
    words = text(explain_decisions(fine, fingerprint, description, "3d_fullres"), "Low resolution")
    assert re.search(r"with \d,\d{3} times fewer voxels", words)


@pytest.mark.parametrize(
    ("data", "configuration", "what"),
    [
        ("Dataset902_BrainReg", "3d_fullres", "regions"),
        ("Dataset904_Cardiac", "2d", "an ignore label"),
        ("Dataset901_CTAniso", "3d_cascade_fullres", "a configuration that refines a previous stage"),
    ],
)
def test_what_this_version_cannot_train_is_said(data: str, configuration: str, what: str) -> None:
    assert f"This version cannot train {what} yet" in text(explain(data, configuration), "Training")


def test_masked_normalisation_is_explained() -> None:
    words = text(explain("Dataset902_BrainReg", "3d_fullres"), "Normalisation")
    assert "T1, T1ce, T2, FLAIR" in words
    assert "60 % of the image, less than 75 %" in words


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
    assert "The planner would take 128 × 160 × 112" in text(explanation, "Patch")
    assert "The planner would take 2" in text(explanation, "Batch size")
    assert "set by hand" in text(explanation, "Normalisation")
    assert "num_epochs is 30, the planner writes nothing" in text(explanation, "Changes by hand")
    assert explanation.numbers["planned_batch_size"] == 2


def without(*keys: str, data: str = "Dataset903_Hippo", configuration: str = "3d_fullres") -> Explanation:
    """The explanation of a plan from which keys were deleted, of the configuration or of its network."""
    plan, fingerprint, description = read(data)
    raw = json.loads(json.dumps(plan.raw))
    entry = raw["configurations"][configuration]
    for key in keys:
        (entry if key in entry else entry["architecture"]["arch_kwargs"]).pop(key)
    return explain_decisions(Plan.from_json(raw), fingerprint, description, configuration)


def test_deleted_keys_are_told_of() -> None:
    explanation = without("norm_op", "norm_op_kwargs", "conv_bias", "nonlin")
    prefix = "architecture.arch_kwargs"
    assert [(d.key, d.in_plan, d.is_missing) for d in explanation.differences] == [
        (f"{prefix}.{key}", None, True) for key in ("conv_bias", "norm_op", "norm_op_kwargs", "nonlin")
    ]
    assert f"{prefix}.conv_bias is missing, the planner writes True" in text(explanation, "Changes by hand")
    assert explanation.to_json()["differences"][0]["is_missing"] is True
    lowres = without("next_stage", data="Dataset901_CTAniso", configuration="3d_lowres")
    assert "next_stage is missing, the planner writes 3d_cascade_fullres" in text(lowres, "Changes by hand")


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
    explanation = explain_decisions(overridden, fingerprint, description, "3d_fullres")
    assert explanation.differences == ()
    assert "chosen by hand; the median of the training images is 1 × 1 × 1 mm" in text(explanation, "Spacing")
    assert "not the planner's own" in text(explanation, "Changes by hand")


def test_a_suppressed_transpose_is_recognised() -> None:
    plan, fingerprint, description = read("Dataset907_SagSpine")
    suppressed = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        suppress_transpose=True,
    )
    explanation = explain_decisions(suppressed, fingerprint, description, "3d_fullres")
    assert explanation.differences == ()
    assert "in the order z, y, x, which was chosen by hand" in text(explanation, "Order of axes")
    # slices of 0.7 x 4 mm, not of the two finer axes
    flat = text(explain_decisions(suppressed, fingerprint, description, "2d"), "Spacing")
    assert "pixels of 0.7 × 4 mm" in flat
    assert "the spacing of full resolution" in flat
    assert "cut across axis z of the images (the last in the file's header)" in flat


def test_the_memory_planned_for_can_be_told() -> None:
    plan, fingerprint, description = read("Dataset901_CTAniso")
    larger = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        gpu_memory_gb=16,
    )
    assert explain_decisions(larger, fingerprint, description, "3d_fullres").differences != ()
    assert explain_decisions(larger, fingerprint, description, "3d_fullres", gpu_memory_gb=16).differences == ()


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
    assert explain_decisions(broken, fingerprint, description, "2d").differences == ()


def test_unknown_planners_are_said_to_be_unknown() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    foreign = Plan.from_json({**plan.raw, "experiment_planner_used": "OurPlanner"})
    explanation = explain_decisions(foreign, fingerprint, description, "3d_fullres")
    assert "OurPlanner is not known" in text(explanation, "Changes by hand")


def test_a_configuration_of_its_own_is_explained_from_its_own_numbers() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    entry = dict(plan.configuration("3d_fullres").raw)
    plan = plan.with_configuration("mine", {**entry, "batch_size": 3})
    explanation = explain_decisions(plan, fingerprint, description, "mine")
    assert explanation.differences == ()
    assert "made by hand" in text(explanation, "Changes by hand")
    assert "written into the plan by hand" in text(explanation, "Spacing")


def test_foreign_networks_are_not_judged() -> None:
    entry = {"network_class_name": "my.nets.Swin", "arch_kwargs": {"depth": 4}, "_kw_requires_import": []}
    explanation = explain("Dataset903_Hippo", "3d_fullres", architecture=entry)
    assert explanation.size is None
    assert "my.nets.Swin" in text(explanation, "Depth")
    assert not any(difference.is_missing for difference in explanation.differences)
    assert "--measure" in text(explanation, "Memory")


def test_the_cascade_counts_its_previous_labels_as_inputs() -> None:
    fullres = explain("Dataset901_CTAniso", "3d_fullres").size
    cascade = explain("Dataset901_CTAniso", "3d_cascade_fullres").size
    assert fullres is not None
    assert cascade is not None
    words = text(explain("Dataset901_CTAniso", "3d_cascade_fullres"), "Network")
    assert "what 3d_lowres found, as 2 more channels, one for each label" in words
    assert cascade.num_parameters - fullres.num_parameters == 2 * 32 * 9  # two labels, flat first kernels


def test_an_axis_that_is_alone_or_coarse_says_why_it_is_not_halved_on() -> None:
    plan, fingerprint, description = read("Dataset904_Cardiac")
    coarse = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        overwrite_target_spacing_mm=(40, 1.5, 1.5),
    )
    depth = text(explain_decisions(coarse, fingerprint, description, "3d_fullres"), "Depth")
    assert "The first axis is not halved" in depth


def test_slices_are_explained_without_the_spacing_between_them() -> None:
    words = text(explain("Dataset904_Cardiac", "2d"), "Spacing")
    assert "the two axes of a slice. Slices are cut across axis z of the images" in words
    assert "a tenth of the images" not in words


def test_a_planner_without_the_five_percent_rule_says_so() -> None:
    words = text(explain("Dataset903_Hippo", "3d_fullres", "nnUNetResEncUNetMPlans"), "Batch size")
    assert "as many voxels as the whole data set" in words


def test_a_network_of_one_resolution_is_told_of() -> None:
    branch = json.loads((GOLDEN.parent / "planner_branches.json").read_text())["network of one stage"]
    plan, description = Plan.from_json(branch["plan"]), DatasetDescription.from_json(branch["dataset"])
    for name in plan.configuration_names:
        explanation = explain_decisions(plan, Fingerprint.from_json(branch["fingerprint"]), description, name)
        assert "cannot be trained" in text(explanation, "Depth")
        assert "cannot be trained" in text(explanation, "Memory")
        assert explanation.size is None


def test_a_loop_of_inheritance_elsewhere_does_not_stop_the_explanation() -> None:
    plan, fingerprint, description = read("Dataset903_Hippo")
    looped = plan.with_configuration("3d_fullres", {"inherits_from": "3d_fullres"})
    assert explain_decisions(looped, fingerprint, description, "2d").differences == ()
