"""What an edit would do: what fits, how long it takes, what it asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import segwright.explain.what_if as what_if_module
from segwright.dataset.description import DatasetDescription
from segwright.errors import PlanError
from segwright.explain.cost import StepMemory, batch_work, planned_elements
from segwright.explain.edits import apply_edits, parse_edits
from segwright.explain.what_if import Speed, WhatIf, what_if
from segwright.fingerprint import Fingerprint
from segwright.planning.budget import resolve_budget
from segwright.planning.memory import parameter_count
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.planning.wording import sizes

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


@pytest.fixture(autouse=True)
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the count of a step's memory, which has tests of its own: bytes in proportion to the elements."""

    def stand_in(
        plan: Plan, name: str, description: DatasetDescription, device: str, *, flags: dict[str, Any]
    ) -> StepMemory:
        configuration, outputs = plan.configuration(name), description.labels.num_outputs
        half = 2 if device == "cuda" else 1
        size = 4 * parameter_count(
            configuration.architecture, num_input_channels=len(description.channel_names), num_outputs=outputs
        )
        elements = planned_elements(configuration, outputs) * flags["batch_size"]
        states = {"nnunet": 1, "short": 2}[flags["recipe"]]
        return StepMemory(size, 0, states * size, 8 * elements // half, 2 * elements // half)

    monkeypatch.setattr(what_if_module, "step_memory", stand_in)


CASES = 16


def ask(
    *texts: str,
    data: str = "Dataset901_CTAniso",
    configuration: str = "3d_fullres",
    plans: str = "nnUNetPlans",
    **options: Any,
) -> WhatIf:
    plan = Plan.read(GOLDEN / f"{data}__{plans}.json")
    fingerprint = Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json")
    edited = apply_edits(plan, configuration, parse_edits(texts), name="mine", fingerprint=fingerprint)
    return what_if(
        edited,
        fingerprint,
        DatasetDescription.read(GOLDEN / f"{data}__dataset.json"),
        budgets=(
            resolve_budget(plan=plan.configuration(configuration).raw),
            resolve_budget(plan=edited.configuration.raw),
        ),
        num_training_cases=CASES,
        **options,
    )


def told(answer: WhatIf) -> str:
    return "\n".join(answer.sentences())


def test_a_smaller_patch_makes_room_for_a_larger_batch() -> None:
    answer = ask("batch_size=4", "patch_size=96,96,96")
    assert answer.fits_by_count
    assert answer.fits_by_bytes
    assert answer.then.batch_size_allowed == 5
    assert "It fits the 8 GB planned for" in told(answer)
    assert answer.then.step_cuda.total < answer.now.step_cuda.total
    ratio = 4 * 96**3 / (2 * 80 * 160 * 160)
    assert answer.work_factor == pytest.approx(ratio, rel=0.01)
    assert answer.then.samples == 1_000_000
    assert "1,000,000 patches, 62,500.0 passes" in told(answer)
    assert "nnU-Net keeps the learning rate" in told(answer)


def test_what_does_not_fit_is_said_not_to_fit() -> None:
    answer = ask("batch_size=8")
    assert not answer.fits_by_count
    assert "It does not fit the 8 GB planned for: the planner's count allows a batch of 2" in told(answer)
    assert ask("batch_size=8", gpu_memory_gb=40).fits_by_count


def test_a_patch_that_the_planner_would_shrink_is_not_said_to_fit() -> None:
    answer = ask("patch_size=96,160,160")  # 660.7 million elements where a batch of 2 may have 560
    assert answer.then.batch_size_allowed == 1
    assert not answer.fits_by_count
    assert "which allows a batch of 1, it does not fit" in told(answer)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*Plans.json")), ids=lambda path: path.stem)
def test_what_the_planner_chose_fits_by_its_own_count(path: Path) -> None:
    data, plans = path.stem.split("__")
    for configuration in Plan.read(path).configuration_names:
        assert ask("seed=3", data=data, configuration=configuration, plans=plans).fits_by_count


def test_where_count_and_bytes_disagree_both_are_told() -> None:
    answer = ask("batch_size=3")
    assert answer.fits_by_bytes
    assert not answer.fits_by_count
    assert "may or may not fit" in told(answer)


def test_hours_come_from_a_speed_and_go_with_the_work() -> None:
    plain = ask("batch_size=4")
    assert plain.then.hours is None
    assert "give --measure" in told(plain)
    speed = Speed(2.0, plain.now.multiplications, "by a stopwatch")
    timed = ask("batch_size=4", "num_epochs=100", speed=speed)
    # 250 iterations and 50 validation passes an epoch, at a third of the time
    assert timed.now.hours == pytest.approx(1000 * (250 + 50 / 3) * 2 / 3600)
    assert timed.then.hours == pytest.approx(timed.now.hours / 10 * 2)
    assert "by a stopwatch" in told(timed)


def test_a_batch_of_one_and_one_beyond_the_five_percent_rule_are_warned_of() -> None:
    assert "never takes fewer than 2" in told(ask("batch_size=1"))
    beyond = told(ask("batch_size=20", data="Dataset903_Hippo"))
    assert "goes up to 5 %, lest the data be learnt by heart; for this patch that allows 9." in beyond
    assert "by heart" not in told(ask("batch_size=9", data="Dataset903_Hippo"))
    assert "by heart" in told(ask("batch_size=400", configuration="2d"))
    assert "by heart" not in told(ask("batch_size=100", configuration="2d"))


def test_the_five_percent_rule_goes_by_the_edited_patch() -> None:
    answer = told(ask("patch_size=80,112,80", data="Dataset903_Hippo"))
    assert "A batch would hold 38.4 % of the data set's voxels" in answer
    assert "for this patch that allows 2." in answer  # a batch of 9 patches of 40 x 56 x 40 held 4.8 %
    assert "by heart" not in told(ask("patch_size=80,112,80", "batch_size=2", data="Dataset903_Hippo"))


def test_what_takes_as_long_as_now_is_not_called_one_times_as_long() -> None:
    assert "takes as long as now, and the whole training as long." in told(ask("seed=3"))
    # 500 validation passes at a third of the time of 250 training iterations
    more = told(ask("num_val_iterations_per_epoch=500"))
    assert "takes as long as now, and the whole training about 1.6 times as long." in more


def test_where_no_patch_fits_it_is_said_so() -> None:
    assert "allows not even a batch of 1" in told(ask("patch_size=512,512,512"))


def test_new_data_and_their_planned_patch_are_told() -> None:
    answer = ask("spacing=1,1,1")
    assert "segwright preprocess Dataset901_CTAniso -c mine" in told(answer)
    assert "a patch of 160 × 128 × 112" in told(answer)
    assert answer.to_json()["needs_preprocessing"] is True


@pytest.mark.parametrize(
    ("data", "spacing"),
    [
        ("Dataset906_Prostate", (5.0, 1.0, 1.0)),  # scaled, the median has 14.4 slices, and a patch 16 instead of 14
        ("Dataset903_Hippo", (2.0, 2.0, 2.0)),
        ("Dataset907_SagSpine", (4.5, 1.0, 0.9)),  # with its axes transposed
    ],
)
def test_at_another_spacing_the_planner_says_what_it_would_plan_there(data: str, spacing: tuple[float, ...]) -> None:
    plan = Plan.read(GOLDEN / f"{data}__nnUNetPlans.json")
    between_slices = plan.configuration("3d_fullres").spacing_mm[0]
    for configuration, whole in (("3d_fullres", spacing), ("2d", (between_slices, *spacing[1:]))):
        planned = make_plan(
            Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json"),
            DatasetDescription.read(GOLDEN / f"{data}__dataset.json"),
            dataset_name=data,
            image_reader_writer=plan.image_reader_writer,
            overwrite_target_spacing_mm=[whole[axis] for axis in plan.transpose_backward],
            suppress_transpose=plan.transpose_forward == (0, 1, 2),
        )
        assert planned.transpose_forward == plan.transpose_forward
        wanted = planned.configuration(configuration)
        texts = ",".join(map(str, spacing[-len(wanted.patch_size) :]))
        answer = told(ask(f"spacing={texts}", data=data, configuration=configuration))
        assert f"the median image has {sizes(wanted.median_image_size_in_voxels)} voxels" in answer
        assert f"a patch of {sizes(wanted.patch_size)} and a batch of {wanted.batch_size}." in answer


def test_a_median_that_was_only_scaled_is_said_to_be_about_so() -> None:
    data = "Dataset906_Prostate"
    plan = Plan.read(GOLDEN / f"{data}__nnUNetPlans.json")
    edited = apply_edits(plan, "3d_fullres", {"spacing": [5, 1, 1]}, name="mine")
    budget = resolve_budget(plan=plan.configuration("3d_fullres").raw)
    answer = what_if(
        edited,
        Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json"),
        DatasetDescription.read(GOLDEN / f"{data}__dataset.json"),
        budgets=(budget, budget),
        num_training_cases=CASES,
    )
    assert "the median image has about 14.4 × " in told(answer)


def test_a_spacing_too_fine_for_any_network_is_refused() -> None:
    with pytest.raises(PlanError, match="at most 14 resolutions"):
        ask("spacing=0.00001,1,1", data="Dataset903_Hippo")


def test_the_depth_that_the_planner_would_take_is_offered() -> None:
    strides = next(line for line in ask("patch_size=96,96,96").sentences() if "--set strides=" in line)
    offered = strides.rpartition("--set ")[2].rstrip(".")
    assert ask("patch_size=96,96,96", offered).edited.configuration.architecture.total_stride == (16, 16, 16)
    assert "--set n_stages=5" in told(ask("patch_size=48,64,64"))


def test_a_patch_larger_than_the_image_is_told_of() -> None:
    answer = told(ask("patch_size=96,56,40", data="Dataset903_Hippo"))
    assert "Along the first axis the patch has 96 voxels, but the median image only 35" in answer
    assert "Along the second axis" not in answer
    # the planner itself rounds up to what the network divides
    assert "filled with zeros" not in told(ask("patch_size=40,56,40", data="Dataset903_Hippo"))
    assert "filled with zeros" not in told(ask("batch_size=3", data="Dataset903_Hippo"))


def test_batch_dice_costs_nothing() -> None:
    answer = ask("batch_dice=true")
    assert "costs no memory" in told(answer)
    assert "as before" in told(answer)


def test_another_recipe_is_told_of_with_the_way_to_keep_the_old() -> None:
    short = "short (AdamW, rate 0.003, light augmentation, no mirroring)"
    full = "nnunet (SGD, rate 0.01, nnU-Net's augmentation, mirroring)"
    shorter = told(ask("num_epochs=99", data="Dataset903_Hippo"))
    assert f"The recipe becomes {short} instead of {full}" in shorter
    assert ", as always below 25,000 iterations. " in shorter
    assert "To keep the present one: --set recipe=nnunet." in shorter
    assert "The recipe becomes" not in told(ask("num_epochs=99", "recipe=nnunet", data="Dataset903_Hippo"))
    assert "The recipe becomes" not in told(ask("num_epochs=100", data="Dataset903_Hippo"))
    asked = told(ask("recipe=short"))
    assert f"The recipe becomes {short} instead of {full}." in asked
    assert "To keep" not in asked


def test_memory_that_changes_by_less_than_is_told_stays_as_before() -> None:
    answer = ask("kernel_sizes=[[1,3,3],[1,3,3],3,3,3,3]")
    assert 0 < abs(answer.then.step_cuda.total - answer.now.step_cuda.total) < 50 << 20
    assert "5.4 GB as before on a GPU" in told(answer)


def test_what_this_version_cannot_train_is_said() -> None:
    assert "This version cannot train regions yet" in told(ask("batch_size=3", data="Dataset902_BrainReg"))
    assert "cannot train" not in told(ask("batch_size=3"))


def test_adamw_keeps_two_values_a_parameter() -> None:
    answer = ask("recipe=short")
    assert answer.then.step_cuda.optimizer == 2 * answer.now.step_cuda.optimizer


def test_the_snippet_is_the_entry_and_the_answer_is_json() -> None:
    answer = ask("n_stages=4", "batch_size=3")
    assert json.loads(f"{{{answer.snippet()}}}") == {"mine": answer.edited.entry}
    assert '"features_per_stage": [32, 64, 128, 256],' in answer.snippet()
    json.dumps(answer.to_json(), allow_nan=False)


def test_multiplications_grow_with_the_batch() -> None:
    answer = ask("batch_size=6")
    description = DatasetDescription.read(GOLDEN / "Dataset901_CTAniso__dataset.json")
    assert answer.then.multiplications == batch_work(answer.edited.configuration, description, 6)
    assert answer.work_factor == 3


def test_a_network_of_one_resolution_is_refused() -> None:
    lone = ("strides=[[1,1,1]]", "kernel_sizes=3", "features_per_stage=8", "n_conv_per_stage=2")
    with pytest.raises(PlanError, match="two resolutions or more"):
        ask(*lone, "n_conv_per_stage_decoder=[]", data="Dataset903_Hippo")


def test_networks_of_another_kind_are_not_judged() -> None:
    data = "Dataset901_CTAniso"
    foreign = {"network_class_name": "my.nets.Swin", "arch_kwargs": {"depth": 4}, "_kw_requires_import": []}
    plan = Plan.read(GOLDEN / f"{data}__nnUNetPlans.json").with_configuration("3d_fullres", {"architecture": foreign})
    budget = resolve_budget(plan=plan.configuration("3d_fullres").raw)
    with pytest.raises(PlanError, match="--measure"):
        what_if(
            apply_edits(plan, "3d_fullres", {"batch_size": 3}, name="mine"),
            Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json"),
            DatasetDescription.read(GOLDEN / f"{data}__dataset.json"),
            budgets=(budget, budget),
            num_training_cases=CASES,
        )
