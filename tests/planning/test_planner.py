from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from segwright.dataset.description import DatasetDescription
from segwright.errors import PlanError
from segwright.fingerprint import INTENSITY_KEYS, Fingerprint
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan, normalization_entries
from segwright.planning.presets import PLANNERS, planner_named

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


def fingerprint(spacing: Any, shape: Any, *, cases: int = 5, relative_size: float = 1.0) -> Fingerprint:
    return Fingerprint.from_json(
        {
            "spacings": [list(spacing)] * cases,
            "shapes_after_crop": [list(shape)] * cases,
            "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(INTENSITY_KEYS, 1.0)},
            "median_relative_size_after_cropping": relative_size,
        }
    )


def description(*, cases: int = 5, labels: dict[str, Any] | None = None, **keys: Any) -> DatasetDescription:
    return DatasetDescription.from_json(
        {
            "channel_names": {"0": "CT"},
            "labels": labels or {"background": 0, "organ": 1},
            "numTraining": cases,
            "file_ending": ".nii.gz",
            **keys,
        }
    )


def planned(data: Fingerprint, about: DatasetDescription | None = None, **options: Any) -> Plan:
    return make_plan(
        data, about or description(), dataset_name="Dataset001_A", image_reader_writer="SimpleITKIO", **options
    )


def test_two_dimensional_images_get_no_3d_configuration() -> None:
    plan = planned(fingerprint((999, 1, 1), (1, 600, 400)))
    assert plan.configuration_names == ("2d",)


def test_an_image_that_a_patch_covers_needs_no_low_resolution() -> None:
    plan = planned(fingerprint((1, 1, 1), (100, 100, 100)))
    assert plan.configuration_names == ("2d", "3d_fullres")
    assert not plan.configuration("3d_fullres").batch_dice
    assert plan.configuration("2d").batch_dice


def test_a_large_image_gets_the_cascade() -> None:
    plan = planned(fingerprint((1, 1, 1), (500, 500, 500)))
    assert plan.configuration_names == ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")
    assert plan.configuration("3d_fullres").batch_dice
    assert not plan.configuration("3d_lowres").batch_dice
    lowres, fullres = plan.configuration("3d_lowres"), plan.configuration("3d_fullres")
    assert lowres.spacing_mm[0] > fullres.spacing_mm[0]


def test_more_memory_gives_larger_patches_or_batches() -> None:
    data = fingerprint((1, 1, 1), (300, 300, 300), cases=500)
    small, large = (
        planned(data, description(cases=500), gpu_memory_gb=memory).configuration("3d_fullres") for memory in (6, 24)
    )
    assert large.patch_size[0] > small.patch_size[0]
    assert small.batch_size == 2


def test_every_label_with_background_and_ignore_counts_for_memory() -> None:
    data = fingerprint((1, 1, 1), (150, 150, 150), cases=500)
    few = planned(data, description(cases=500)).configuration("3d_fullres")
    names = {"background": 0, **{f"organ {i}": i for i in range(1, 100)}, "ignore": 100}
    many = planned(data, description(cases=500, labels=names)).configuration("3d_fullres")
    assert many.patch_size < few.patch_size


def test_names_and_preprocessed_folders_follow_the_planner() -> None:
    data = fingerprint((1, 1, 1), (500, 500, 500))
    identifiers = {
        planner: {n: planned(data, planner=planner).configuration(n).data_identifier for n in ("2d", "3d_lowres")}
        for planner in ("ExperimentPlanner", "nnUNetPlannerResEncL", "nnUNetPlannerResEncL_torchres")
    }
    assert identifiers == {
        "ExperimentPlanner": {"2d": "nnUNetPlans_2d", "3d_lowres": "nnUNetPlans_3d_lowres"},
        "nnUNetPlannerResEncL": {"2d": "nnUNetPlans_2d", "3d_lowres": "nnUNetResEncUNetLPlans_3d_lowres"},
        "nnUNetPlannerResEncL_torchres": {
            "2d": "nnUNetResEncUNetLPlans_torchres_2d",
            "3d_lowres": "nnUNetResEncUNetLPlans_torchres_3d_lowres",
        },
    }
    own = planned(data, plans_name="mine")
    assert own.plans_name == "mine"
    assert own.configuration("2d").data_identifier == "mine_2d"


def test_the_transpose_can_be_suppressed() -> None:
    data = fingerprint((0.7, 0.7, 4), (300, 300, 20))
    assert planned(data).transpose_forward == (2, 0, 1)
    assert planned(data, suppress_transpose=True).transpose_forward == (0, 1, 2)


def test_an_override_is_in_the_order_of_the_images() -> None:
    plan = planned(fingerprint((0.7, 0.7, 4), (300, 300, 20)), overwrite_target_spacing_mm=(1, 1.5, 3))
    assert plan.configuration("3d_fullres").spacing_mm == (3, 1, 1.5)
    assert plan.original_median_spacing_mm == (4, 0.7, 0.7)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "CTNormalization"),
        ("ct", "CTNormalization"),
        ("T1", "ZScoreNormalization"),
        ("noNorm", "NoNormalization"),
        ("Rescale_to_0_1", "RescaleTo01Normalization"),
        ("rgb_to_0_1", "RGBTo01Normalization"),
    ],
)
def test_the_channel_name_chooses_the_normalisation(name: str, scheme: str) -> None:
    entries = normalization_entries([name], 0.5)
    assert entries["normalization_schemes"] == [scheme]
    assert entries["use_mask_for_norm"] == [scheme == "ZScoreNormalization"]
    assert normalization_entries([name], 0.75)["use_mask_for_norm"] == [False]


def test_unknown_planners_get_a_suggestion() -> None:
    with pytest.raises(PlanError, match=r"'nnUNetPlanerResEncL'.* nnUNetPlannerResEncL\b"):
        planner_named("nnUNetPlanerResEncL")
    with pytest.raises(PlanError, match="ExperimentPlanner, ResEncUNetPlanner"):
        planned(fingerprint((1, 1, 1), (9, 9, 9)), planner="x")


@pytest.mark.parametrize("memory", [0, -1, float("nan"), float("inf"), 1e9, 1e308])
def test_memory_is_that_of_a_machine(memory: float) -> None:
    with pytest.raises(PlanError, match="GPU memory"):
        planned(fingerprint((1, 1, 1), (9, 9, 9)), gpu_memory_gb=memory)


def test_too_little_memory_for_any_patch_is_said() -> None:
    with pytest.raises(PlanError, match="1e-09"):
        planned(fingerprint((1, 1, 1), (300, 300, 300)), gpu_memory_gb=1e-9)


def test_flat_volumes_are_planned_though_the_low_resolution_would_lose_them() -> None:
    plan = planned(fingerprint((1, 1, 1), (5, 1, 1500)))
    assert plan.configuration("3d_fullres").patch_size[1] == 1


edges = st.tuples(st.integers(2, 700), st.integers(2, 700), st.integers(2, 700))
spacings = st.tuples(st.floats(0.2, 9), st.floats(0.2, 9), st.floats(0.2, 9))


@examples(30)
@given(spacings, edges, st.sampled_from(sorted(PLANNERS)))
def test_every_planned_configuration_is_valid(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], planner: str
) -> None:
    plan = planned(fingerprint(spacing, shape), planner=planner)
    for name in plan.configuration_names:
        configuration = plan.configuration(name)
        assert configuration.batch_size >= 2
        assert configuration.architecture.strides[0] == (1,) * len(configuration.patch_size)
