"""Edits are read, refused where they are wrong, and followed by what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segwright.dataset.description import DatasetDescription
from segwright.errors import SegwrightError
from segwright.explain.edits import Edited, apply_edits, parse_edits
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.task import Task

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
CT = "Dataset901_CTAniso__nnUNetPlans"


def edit(*texts: str, data: str = CT, configuration: str = "3d_fullres") -> Edited:
    return apply(Plan.read(GOLDEN / f"{data}.json"), configuration, parse_edits(texts))


def apply(plan: Plan, configuration: str, edits: dict[str, Any]) -> Edited:
    description = DatasetDescription.read(GOLDEN / f"{plan.dataset_name}__dataset.json")
    fingerprint = Fingerprint.read(GOLDEN / f"{plan.dataset_name}__dataset_fingerprint.json")
    return apply_edits(Task.of(plan, configuration, description), edits, fingerprint, name="mine")


def arguments(edited: Edited) -> Any:
    return edited.entry["architecture"]["arch_kwargs"]


def test_values_are_json_or_lists_with_commas_or_words() -> None:
    texts = ["batch_size=4", "patch_size=96,96,64", "initial_lr=1e-3", "recipe=short", "batch_dice=true"]
    assert parse_edits(texts) == {
        "batch_size": 4,
        "patch_size": [96, 96, 64],
        "initial_lr": 0.001,
        "recipe": "short",
        "batch_dice": True,
    }
    assert parse_edits(["strides=[[1,1],[2,2]]", "normalization_schemes=CTNormalization"]) == {
        "strides": [[1, 1], [2, 2]],
        "normalization_schemes": ["CTNormalization"],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batch_size", ("KEY=VALUE", "'batch_size'")),
        ("batch_size=", ("KEY=VALUE",)),
        ("patchsize=3", ("'patchsize'", "Did you mean patch_size")),
        ("colour=red", ("'colour'", "Choose one of them")),
        ("batch_size=four", ("'batch_size'", "whole number", "'four'")),
        ("batch_size=0", ("'batch_size'", "got 0")),
        ("patch_size=96,96", ("3 whole numbers (z,y,x)", "80,160,160")),
        ("patch_size=a,b,c", ("3 whole numbers", "a,b,c")),
        ("patch_size=5,5,5", ("at least 8 voxels", "16 × 32 × 32.")),
        ("spacing=1,1", ("'spacing'", "one for each of the patch's axes")),
        ("spacing=1,1,-1", ("'spacing'", "numbers above 0")),
        ("n_stages=1", ("'n_stages'", "2 or more")),
        ("n_stages=9", ("at most 6", "5 × 5 × 5 voxels")),
        ("features_per_stage=16,32", ("'features_per_stage'", "one for each of the stages")),
        ("batch_dice=maybe", ("'batch_dice'", "true or false")),
        ("normalization_schemes=Best", ("'normalization_schemes'", "CTNormalization")),
        ("normalization_schemes=NoNormalization,NoNormalization", ("one for each channel", "CTNormalization.")),
        ("strides=2", ("'strides'", "[1, 1, 1]", "[2, 2, 2]")),
        ("spacing=900,900,900", ("'spacing'", "a voxel along each axis", "2.5,0.785")),
        ("kernel_sizes=2", ("'kernel_sizes'", "odd numbers", "got 2", "1 or 3")),
        ("kernel_sizes=[3,3,[3,4,3],3,3,3]", ("'kernel_sizes'", "got 4", "3 or 5")),
        ("n_conv_per_stage_decoder=[2,2,2,2,2,2]", ("5 entries", "the decoder's stages", "got 6")),
        ("features_per_stage=true", ("'features_per_stage'", "True")),
        ("n_blocks_per_stage=3", ("n_conv_per_stage=3", "is plain")),
    ],
)
def test_wrong_edits_are_refused_with_key_and_remedy(text: str, told: tuple[str, ...]) -> None:
    # two schemes want two masks, or the masks are what is refused
    more = ("use_mask_for_norm=false,false",) if text.count("Normalization") > 1 else ()
    with pytest.raises(SegwrightError) as refused:
        edit(text, *more)
    for words in told:
        assert words in str(refused.value)
    assert "--set" in str(refused.value)


def test_the_key_of_a_plain_network_is_refused_for_a_residual_one() -> None:
    with pytest.raises(SegwrightError, match="--set n_blocks_per_stage=3"):
        edit("n_conv_per_stage=3", data="Dataset903_Hippo__nnUNetResEncUNetMPlans")


def test_the_entry_holds_what_was_edited_and_nothing_else() -> None:
    edited = edit("batch_size=4", "patch_size=96,96,96", "num_epochs=100")
    assert edited.entry == {
        "inherits_from": "3d_fullres",
        "batch_size": 4,
        "patch_size": [96, 96, 96],
        "num_epochs": 100,
    }
    assert not edited.needs_preprocessing
    assert edited.after.configuration.patch_size == (96, 96, 96)
    assert edited.after.plan.configuration_names[-1] == "mine"


def test_what_stays_as_it_is_is_no_edit() -> None:
    assert edit("patch_size=80,160,160").entry == {"inherits_from": "3d_fullres"}


def test_a_patch_that_cannot_be_pooled_gets_the_planners_network() -> None:
    edited = edit("patch_size=100,100,100")
    assert edited.entry["patch_size"] == [112, 112, 112]
    assert edited.after.configuration.architecture.total_stride == (16, 16, 16)
    told = " ".join(edited.adapted)
    assert "16 × 32 × 32" in told
    assert "96 × 96 × 96 or 112 × 128 × 128" in told


def test_stages_can_be_cut_off_and_added() -> None:
    fewer = edit("n_stages=4")
    assert arguments(fewer)["features_per_stage"] == [32, 64, 128, 256]
    assert arguments(fewer)["n_conv_per_stage_decoder"] == [2, 2, 2]
    more = edit("n_stages=7", "patch_size=96,320,320")
    assert arguments(more)["strides"][-1] == [1, 2, 2]
    assert arguments(more)["features_per_stage"] == [32, 64, 128, 256, 320, 320, 320]
    assert "3 × 5 × 5 voxels" not in " ".join(more.adapted)
    assert more.after.configuration.architecture.num_stages == 7
    residual = edit("n_stages=3", data="Dataset903_Hippo__nnUNetResEncUNetMPlans")
    assert arguments(residual)["n_blocks_per_stage"] == [1, 3, 4]


def test_one_number_of_features_doubles_up_to_the_limit() -> None:
    assert arguments(edit("features_per_stage=24"))["features_per_stage"] == [24, 48, 96, 192, 320, 320]
    assert arguments(edit("features_per_stage=8", "n_stages=3"))["features_per_stage"] == [8, 16, 32]


@pytest.mark.parametrize(
    "text", ["spacing=1,1,1", "normalization_schemes=ZScoreNormalization", "use_mask_for_norm=true"]
)
def test_other_data_get_a_folder_of_their_own(text: str) -> None:
    edited = edit(text)
    assert edited.needs_preprocessing
    assert edited.after.configuration.data_identifier == "nnUNetPlans_mine"


def test_another_spacing_changes_the_median_image() -> None:
    assert edit("spacing=5,1.5704,0.7852").after.configuration.median_image_size_in_voxels == pytest.approx(
        (118.5, 256, 512), abs=0.1
    )


def test_networks_of_another_kind_keep_their_own_matters() -> None:
    plan = Plan.read(GOLDEN / f"{CT}.json")
    foreign = {"network_class_name": "my.nets.Swin", "arch_kwargs": {"depth": 4}, "_kw_requires_import": []}
    plan = plan.with_configuration("3d_fullres", {"architecture": foreign})
    assert apply(plan, "3d_fullres", {"batch_size": 3}).after.configuration.batch_size == 3
    with pytest.raises(SegwrightError, match=r"my\.nets\.Swin"):
        apply(plan, "3d_fullres", {"n_stages": 3})
