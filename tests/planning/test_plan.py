from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from segwright.errors import MissingFileError, PlanError
from segwright.planning.plan import Plan, merge_hand_made

GOLDEN = Path(__file__).parents[1] / "golden"
CT = GOLDEN / "plans" / "Dataset901_CTAniso__nnUNetPlans.json"


@pytest.fixture
def plan() -> Plan:
    return Plan.read(CT)


def edited(plan: Plan, **entries: Any) -> Plan:
    return plan.with_configuration("3d_fullres", entries)


def edited_network(plan: Plan, **arguments: Any) -> Plan:
    architecture = json.loads(json.dumps(plan.raw["configurations"]["3d_fullres"]["architecture"]))
    architecture["arch_kwargs"].update(arguments)
    return edited(plan, architecture=architecture)


def test_configuration_is_read_whole(plan: Plan) -> None:
    configuration = plan.configuration("3d_fullres")
    assert configuration.patch_size == (80, 160, 160)
    assert configuration.spacing_mm == (2.5, 0.78515, 0.78515)
    assert configuration.median_image_size_in_voxels == (236.5, 512.0, 512.0)
    assert configuration.batch_dice
    assert configuration.resampling_data.order == 3
    assert configuration.resampling_data.order_z == 0
    assert configuration.resampling_data.force_separate_z is None
    assert configuration.resampling_seg.kwargs == {"is_seg": True}
    assert configuration.architecture.kind == "plain"
    assert configuration.architecture.total_stride == (16, 32, 32)
    assert configuration.architecture.other_kwargs == {}
    assert not configuration.is_2d
    assert plan.configuration("2d").is_2d


def test_cascade_inherits_and_names_its_stages(plan: Plan) -> None:
    cascade = plan.configuration("3d_cascade_fullres")
    assert cascade.previous_stage == "3d_lowres"
    assert cascade.patch_size == plan.configuration("3d_fullres").patch_size
    assert plan.configuration("3d_lowres").next_stages == ("3d_cascade_fullres",)
    several = plan.with_configuration("3d_lowres", {"next_stage": ["3d_cascade_fullres", "3d_fullres"]})
    assert several.configuration("3d_lowres").next_stages == ("3d_cascade_fullres", "3d_fullres")


def test_chains_of_inheritance_override_from_the_parent_down(plan: Plan) -> None:
    plan = plan.with_configuration("big", {"inherits_from": "3d_fullres", "batch_size": 4, "num_epochs": 30})
    plan = plan.with_configuration("bigger", {"inherits_from": "big", "batch_size": 8})
    configuration = plan.configuration("bigger")
    assert configuration.batch_size == 8
    assert configuration.raw["num_epochs"] == 30
    assert "inherits_from" not in configuration.raw
    assert plan.configuration_names[-2:] == ("big", "bigger")


def test_inheritance_that_never_ends_is_an_error(plan: Plan) -> None:
    plan = plan.with_configuration("a", {"inherits_from": "b"}).with_configuration("b", {"inherits_from": "a"})
    with pytest.raises(PlanError, match="a -> b -> a"):
        plan.configuration("a")


def test_unknown_names_list_the_known(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres.*'3d'"):
        plan.configuration("3d")
    with pytest.raises(PlanError, match=r"configuration 'mine', key 'inherits_from'.*'theirs'"):
        plan.with_configuration("mine", {"inherits_from": "theirs"}).configuration("mine")
    with pytest.raises(PlanError, match=r"key 'previous_stage'.*'gone'"):
        plan.with_configuration("3d_cascade_fullres", {"previous_stage": "gone"}).configuration("3d_cascade_fullres")


def test_a_stage_does_not_come_before_itself(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"key 'previous_stage'.*'3d_lowres'"):
        plan.with_configuration("3d_lowres", {"previous_stage": "3d_lowres"}).configuration("3d_lowres")


def test_a_broken_configuration_does_not_bar_the_others(plan: Plan) -> None:
    broken = edited(plan, batch_size=0)
    assert broken.configuration("2d").batch_size == 12
    with pytest.raises(PlanError):
        broken.configuration("3d_fullres")


def test_with_configuration_leaves_the_original_alone(plan: Plan) -> None:
    before = json.dumps(plan.raw)
    edited(plan, batch_size=3)
    assert json.dumps(plan.raw) == before


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"batch_size": 0}, ["key 'batch_size'", "whole number of 1 or more", "got 0", "1 works"]),
        ({"batch_size": 2.0}, ["key 'batch_size'", "got 2.0"]),
        ({"batch_size": True}, ["key 'batch_size'", "got True"]),
        ({"batch_size": "2"}, ["key 'batch_size'", "got '2'"]),
        (
            {"patch_size": [81, 160, 150]},
            ["[16, 32, 32]", "first axis: 80 or 96 instead of 81", "third axis: 128 or 160"],
        ),
        ({"patch_size": [8, 160, 160]}, ["first axis: 16 instead of 8"]),
        ({"patch_size": [16, 32, 32]}, ["key 'patch_size'", "single voxel", "[32, 32, 32]"]),
        ({"patch_size": [80]}, ["key 'patch_size'", "(z, y, x)"]),
        ({"patch_size": 80}, ["key 'patch_size'", "a list"]),
        ({"spacing": [2.5, 0, 0.8]}, ["key 'spacing'", "above 0"]),
        ({"spacing": [2.5, float("nan"), 0.8]}, ["key 'spacing'", "above 0"]),
        ({"spacing": [2.5, 0.8]}, ["key 'spacing'", "3 entries"]),
        ({"median_image_size_in_voxels": [1, 2]}, ["key 'median_image_size_in_voxels'", "3 entries"]),
        ({"normalization_schemes": ["CTNormalisation"]}, ["ZScoreNormalization", "got 'CTNormalisation'"]),
        ({"use_mask_for_norm": [False, True]}, ["key 'use_mask_for_norm'", "1 entries"]),
        ({"use_mask_for_norm": ["no"]}, ["key 'use_mask_for_norm'", "true and false"]),
        ({"resampling_fn_data": "resample"}, ["key 'resampling_fn_data'", "resample_torch_fornnunet"]),
        ({"resampling_fn_seg_kwargs": {"order": 7}}, ["key 'order'", "0 to 5", "got 7"]),
        ({"resampling_fn_seg_kwargs": {"force_separate_z": 1}}, ["key 'force_separate_z'", "got 1"]),
        ({"batch_dice": "yes"}, ["key 'batch_dice'", "true or false"]),
        ({"next_stage": 3}, ["key 'next_stage'"]),
    ],
)
def test_wrong_values_are_named_with_what_would_work(plan: Plan, entries: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        edited(plan, **entries).configuration("3d_fullres")
    assert "configuration '3d_fullres'" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"strides": [[1, 1, 1]]}, "key 'strides'"),
        ({"strides": [[1, 1]] * 6}, "key 'strides'"),
        ({"kernel_sizes": [[3, 3, 0]] * 6}, "key 'kernel_sizes'"),
        ({"features_per_stage": [32, 64]}, "6 entries, one for each of the stages"),
        ({"n_conv_per_stage_decoder": [2] * 6}, "5 entries"),
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "Conv3d, because the patch has 3 axes"),
        ({"norm_op_kwargs": 3}, "key 'norm_op_kwargs'"),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(plan: Plan, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(PlanError) as caught:
        edited_network(plan, **arguments).configuration("3d_fullres")
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"n_stages": 10**9}, "n_stages"),
        ({"features_per_stage": 10**9}, "features_per_stage"),
        ({"features_per_stage": [32, 64, 128, 256, 320, 10**9]}, "features_per_stage"),
        ({"n_conv_per_stage": 10**6}, "n_conv_per_stage"),
        ({"n_conv_per_stage_decoder": [10**6] * 5}, "n_conv_per_stage_decoder"),
        ({"kernel_sizes": 10**9 + 1}, "kernel_sizes"),
        ({"strides": [[1, 1, 1], *[[2, 2, 10**17]] * 5]}, "strides"),
        ({"strides": [[2, 2, 2]] * 6}, "strides"),
        ({"strides": 2}, "strides"),
    ],
)
def test_networks_that_no_machine_can_hold_or_that_lose_resolution_are_refused(
    plan: Plan, arguments: dict[str, Any], key: str
) -> None:
    with pytest.raises(PlanError, match=f"key '{key}'"):
        edited_network(plan, **arguments).configuration("3d_fullres")


@pytest.mark.parametrize(
    ("entries", "key"),
    [
        ({"patch_size": [10**9, 160, 160]}, "patch_size"),
        ({"spacing": [2.5, 1e300, 0.8]}, "spacing"),
        ({"spacing": [2.5, 1e-300, 0.8]}, "spacing"),
        ({"median_image_size_in_voxels": [1e300, 512, 512]}, "median_image_size_in_voxels"),
    ],
)
def test_sizes_that_no_image_has_are_refused(plan: Plan, entries: dict[str, Any], key: str) -> None:
    with pytest.raises(PlanError, match=f"key '{key}'"):
        edited(plan, **entries).configuration("3d_fullres")


@pytest.mark.parametrize("entry", [3, None, {"mean": "12"}, {"std": None}])
def test_intensities_that_are_no_numbers_are_refused(plan: Plan, entry: Any) -> None:
    raw = {**plan.raw, "foreground_intensity_properties_per_channel": {"0": entry}}
    with pytest.raises(PlanError, match="foreground_intensity_properties_per_channel"):
        Plan.from_json(raw)


def test_a_long_chain_of_inheritance_is_refused(plan: Plan) -> None:
    raw = json.loads(json.dumps(plan.raw))
    chain = ["3d_fullres", *(f"link{number}" for number in range(3000))]
    raw["configurations"].update({name: {"inherits_from": parent} for parent, name in itertools.pairwise(chain)})
    long = Plan.from_json(raw)
    assert long.configuration("link90").patch_size == plan.configuration("3d_fullres").patch_size
    with pytest.raises(PlanError, match=r"'inherits_from'"):
        long.configuration("link2999")


def test_single_numbers_stand_for_every_stage_and_axis(plan: Plan) -> None:
    architecture = (
        edited_network(plan, kernel_sizes=3, strides=[1, 2, 2, 2, 2, 1], n_conv_per_stage=2, n_conv_per_stage_decoder=1)
        .configuration("3d_fullres")
        .architecture
    )
    assert architecture.kernel_sizes == ((3, 3, 3),) * 6
    assert architecture.strides[-2:] == ((2, 2, 2), (1, 1, 1))
    assert architecture.blocks_per_stage == (2,) * 6
    assert architecture.convs_per_decoder_stage == (1,) * 5


def test_arguments_nobody_plans_are_kept_apart(plan: Plan) -> None:
    assert edited_network(plan, nonlin_first=True).configuration("3d_fullres").architecture.other_kwargs == {
        "nonlin_first": True
    }


def test_a_network_of_another_kind_is_read_but_not_judged(plan: Plan) -> None:
    entry = {"network_class_name": "my.nets.Swin", "arch_kwargs": {"depth": 4}, "_kw_requires_import": []}
    architecture = edited(plan, architecture=entry, patch_size=[7, 9, 11]).configuration("3d_fullres").architecture
    assert architecture.kind == "other"
    assert architecture.other_kwargs == {"depth": 4}


def test_resampling_defaults_are_those_of_the_named_function(plan: Plan) -> None:
    torch_like = edited(
        plan,
        resampling_fn_data="resample_torch_fornnunet",
        resampling_fn_data_kwargs={"is_seg": False, "memefficient_seg_resampling": False},
    ).configuration("3d_fullres")
    assert torch_like.resampling_data.order == 1
    assert torch_like.resampling_data.force_separate_z is None
    assert torch_like.resampling_data.kwargs == {"is_seg": False, "memefficient_seg_resampling": False}


@pytest.mark.parametrize("key", ["dataset_name", "transpose_forward", "configurations", "image_reader_writer"])
def test_missing_keys_are_named(plan: Plan, key: str) -> None:
    raw = {k: v for k, v in plan.raw.items() if k != key}
    with pytest.raises(PlanError, match=rf"model/plans\.json.*'{key}'"):
        Plan.from_json(raw, where="model/plans.json")


def test_a_missing_key_of_a_configuration_is_named(plan: Plan) -> None:
    raw = json.loads(json.dumps(plan.raw))
    del raw["configurations"]["2d"]["architecture"]
    with pytest.raises(PlanError, match=r"configuration '2d'.*'architecture'"):
        Plan.from_json(raw).configuration("2d")


def test_transposes_must_undo_each_other(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"transpose_backward.*\[1, 2, 0\]"):
        Plan.from_json({**plan.raw, "transpose_forward": [2, 0, 1], "transpose_backward": [2, 0, 1]})
    with pytest.raises(PlanError, match="transpose_forward"):
        Plan.from_json({**plan.raw, "transpose_forward": [0, 0, 1]})


def test_the_older_name_of_the_intensities_is_read(plan: Plan) -> None:
    raw = dict(plan.raw)
    raw["foreground_intensity_properties_by_modality"] = raw.pop("foreground_intensity_properties_per_channel")
    read = Plan.from_json(raw)
    assert read.foreground_intensity_properties_per_channel == plan.foreground_intensity_properties_per_channel
    assert json.dumps(read.raw) == json.dumps(raw)


def test_files_that_are_not_plans_are_named(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    with pytest.raises(MissingFileError, match=r"plans\.json"):
        Plan.read(path)
    path.write_text('{"configurations": ')
    with pytest.raises(PlanError, match=r"plans\.json, line 1, column 20\b"):
        Plan.read(path)
    path.write_text("[1]")
    with pytest.raises(PlanError, match=r"plans\.json.*list"):
        Plan.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"plans\.json.*UTF-8"):
        Plan.read(path)


def test_the_old_form_becomes_the_new() -> None:
    plan = Plan.read(GOLDEN / "published" / "AMOS" / "plans.json")
    old = plan.raw["configurations"]["3d_fullres"]
    configuration = plan.configuration("3d_cascade_fullres")
    architecture = configuration.architecture
    assert architecture.features_per_stage == (32, 64, 128, 256, 320, 320)
    assert [list(stride) for stride in architecture.strides] == old["pool_op_kernel_sizes"]
    assert [list(kernel) for kernel in architecture.kernel_sizes] == old["conv_kernel_sizes"]
    assert "UNet_class_name" not in configuration.raw
    assert "UNet_class_name" in old
    assert configuration.raw["architecture"]["arch_kwargs"]["conv_op"] == "torch.nn.modules.conv.Conv3d"


def test_old_residual_networks_are_read_and_unknown_ones_refused() -> None:
    plan = Plan.read(GOLDEN / "published" / "ACDC" / "plans.json")
    residual = plan.with_configuration("2d", {"UNet_class_name": "ResidualEncoderUNet"})
    assert residual.configuration("2d").architecture.kind == "residual"
    with pytest.raises(PlanError, match="UNet_class_name"):
        plan.with_configuration("2d", {"UNet_class_name": "UNetPlusPlus"}).configuration("2d")


def test_planning_again_keeps_what_was_made_by_hand(plan: Plan) -> None:
    existing = plan.with_configuration("mine", {"inherits_from": "3d_fullres", "batch_size": 4})
    existing = existing.with_configuration("3d_fullres", {"batch_size": 7})
    merged = merge_hand_made(plan, existing)
    assert merged.configuration("mine").batch_size == 4
    assert merged.configuration("3d_fullres").batch_size == 2
    assert merged.configuration_names == (*plan.configuration_names, "mine")


ESCAPES = ["../esc", "/esc", "a/b", "a\\b", "..", ".x", "a\x1b[2J", "a\0", "x" * 300, " a"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("key", ["plans_name", "dataset_name"])
def test_a_name_of_a_plan_that_leads_elsewhere_is_refused(plan: Plan, key: str, name: str) -> None:
    with pytest.raises(PlanError, match=f"here, key '{key}'"):
        Plan.from_json({**plan.raw, key: name}, where="here")


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("key", ["data_identifier", "previous_stage", "next_stage"])
def test_a_name_of_a_configuration_that_leads_elsewhere_is_refused(plan: Plan, key: str, name: str) -> None:
    with pytest.raises(PlanError, match=f"configuration '3d_fullres', key '{key}'"):
        edited(plan, **{key: name}).configuration("3d_fullres")
    with pytest.raises(PlanError, match="key 'configurations'"):
        plan.with_configuration(name, {"inherits_from": "3d_fullres"})
