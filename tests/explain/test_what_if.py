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
from segwright.planning.wording import duration, sizes
from segwright.task import Task

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


@pytest.fixture(autouse=True)
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the count of a step's memory, which has tests of its own: bytes in proportion to the elements."""

    def stand_in(task: Task, device: str, *, flags: dict[str, Any]) -> StepMemory:
        half = 2 if device == "cuda" else 1
        architecture = task.configuration.architecture
        size = 4 * parameter_count(architecture, num_input_channels=task.num_inputs, num_outputs=task.num_outputs)
        elements = planned_elements(task.configuration, task.num_outputs) * flags["batch_size"]
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
    return answer_for(Task.of(plan, configuration, description_of(data)), parse_edits(texts), **options)


def description_of(data: str) -> DatasetDescription:
    return DatasetDescription.read(GOLDEN / f"{data}__dataset.json")


def answer_for(task: Task, edits: dict[str, Any], **options: Any) -> WhatIf:
    fingerprint = Fingerprint.read(GOLDEN / f"{task.plan.dataset_name}__dataset_fingerprint.json")
    edited = apply_edits(task, edits, fingerprint, name="mine")
    budgets = resolve_budget(plan=task.configuration.raw), resolve_budget(plan=edited.after.configuration.raw)
    return what_if(edited, fingerprint, budgets=budgets, num_training_cases=CASES, **options)


def said(answer: WhatIf) -> str:
    return "\n".join(answer.sentences())


def change(answer: WhatIf, what: str) -> tuple[str, str]:
    """A row of the table: now, and with the edit."""
    return next((now, then) for name, now, then in answer.rows() if name == what)


def test_a_smaller_patch_makes_room_for_a_larger_batch() -> None:
    answer = ask("batch_size=4", "patch_size=96,96,96")
    assert answer.fits_by_count
    assert answer.fits_by_bytes
    assert answer.then.batch_size_allowed == 5
    assert answer.verdict.startswith("Fits the 8 GB")
    assert answer.then.step_cuda.total < answer.now.step_cuda.total
    ratio = 4 * 96**3 / (2 * 80 * 160 * 160)
    assert answer.work_factor == pytest.approx(ratio, rel=0.01)
    assert answer.then.samples == 1_000_000
    assert change(answer, "batch size") == ("2", "4")
    assert change(answer, "patches") == ("500,000", "1,000,000")
    assert change(answer, "passes over the training cases") == ("31,250.0", "62,500.0")
    assert "learning rate" in said(answer)


def test_what_does_not_fit_is_said_not_to_fit() -> None:
    answer = ask("batch_size=8")
    assert not answer.fits_by_count
    assert answer.verdict.startswith("Does not fit the 8 GB")
    assert change(answer, "largest by the planner's count") == ("2", "2")
    assert ask("batch_size=8", gpu_memory_gb=40).fits_by_count


def test_a_patch_that_the_planner_would_shrink_is_not_said_to_fit() -> None:
    answer = ask("patch_size=96,160,160")  # 660.7 million elements where a batch of 2 may have 560
    assert answer.then.batch_size_allowed == 1
    assert not answer.fits_by_count
    assert not answer.verdict.startswith("Fits")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*Plans.json")), ids=lambda path: path.stem)
def test_what_the_planner_chose_fits_by_its_own_count(path: Path) -> None:
    data, plans = path.stem.split("__")
    for configuration in Plan.read(path).configuration_names:
        assert ask("seed=3", data=data, configuration=configuration, plans=plans).fits_by_count


def test_where_count_and_bytes_disagree_both_are_named() -> None:
    answer = ask("batch_size=3")
    assert answer.fits_by_bytes
    assert not answer.fits_by_count
    assert "--measure" in answer.verdict


def test_hours_come_from_a_speed_and_go_with_the_work() -> None:
    plain = ask("batch_size=4")
    assert plain.then.hours is None
    assert change(plain, "the training") == ("not measured yet", "2 times as long")
    speed = Speed(2.0, plain.now.multiplications, "by a stopwatch")
    timed = ask("batch_size=4", "num_epochs=100", speed=speed)
    # 250 iterations and 50 validation passes an epoch, at a third of the time
    assert timed.now.hours == pytest.approx(1000 * (250 + 50 / 3) * 2 / 3600)
    assert timed.then.hours == pytest.approx(timed.now.hours / 10 * 2)
    assert change(timed, "the training") == (duration(timed.now.hours), duration(timed.then.hours))


def test_a_batch_of_one_and_one_beyond_the_five_percent_rule_are_warned_of() -> None:
    assert "fewer than 2 patches" in said(ask("batch_size=1"))
    assert "at most 5 %, for this patch 9." in said(ask("batch_size=20", data="Dataset903_Hippo"))
    assert "overfitting" not in said(ask("batch_size=9", data="Dataset903_Hippo"))
    assert "overfitting" in said(ask("batch_size=400", configuration="2d"))
    assert "overfitting" not in said(ask("batch_size=100", configuration="2d"))


def test_the_five_percent_rule_goes_by_the_edited_patch() -> None:
    answer = said(ask("patch_size=80,112,80", data="Dataset903_Hippo"))
    assert "A batch would hold 38.4 % of the data set's voxels" in answer
    assert "for this patch 2." in answer  # a batch of 9 patches of 40 x 56 x 40 held 4.8 %
    assert "overfitting" not in said(ask("patch_size=80,112,80", "batch_size=2", data="Dataset903_Hippo"))


def test_what_takes_as_long_as_now_is_not_called_one_times_as_long() -> None:
    same = ask("seed=3")
    assert change(same, "an iteration")[1] == change(same, "the training")[1] == "as long as now"
    # 500 validation passes at a third of the time of 250 training iterations
    more = ask("num_val_iterations_per_epoch=500")
    assert change(more, "an iteration")[1] == "as long as now"
    assert change(more, "the training")[1] == "1.6 times as long"


def test_where_no_patch_fits_it_is_said_so() -> None:
    answer = ask("patch_size=512,512,512")
    assert answer.then.batch_size_allowed == 0
    assert answer.verdict.startswith("Does not fit")


def test_new_data_and_their_planned_patch_are_said() -> None:
    answer = ask("spacing=1,1,1")
    assert "segwright preprocess Dataset901_CTAniso -c mine" in said(answer)
    assert "a patch of 160 × 128 × 112" in said(answer)
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
        answer = said(ask(f"spacing={texts}", data=data, configuration=configuration))
        assert f"the median image has {sizes(wanted.median_image_size_in_voxels)} voxels" in answer
        assert f"a patch of {sizes(wanted.patch_size)} and a batch of {wanted.batch_size}." in answer


def test_a_spacing_too_fine_for_any_network_is_refused() -> None:
    with pytest.raises(PlanError, match="at most 14 resolutions"):
        ask("spacing=0.00001,1,1", data="Dataset903_Hippo")


def test_the_depth_that_the_planner_would_take_is_offered() -> None:
    strides = next(line for line in ask("patch_size=96,96,96").sentences() if "--set strides=" in line)
    offered = strides.rpartition("--set ")[2].rstrip(".")
    assert ask("patch_size=96,96,96", offered).edited.after.configuration.architecture.total_stride == (16, 16, 16)
    assert "--set n_stages=5" in said(ask("patch_size=48,64,64"))


def test_a_patch_larger_than_the_image_is_named() -> None:
    answer = said(ask("patch_size=96,56,40", data="Dataset903_Hippo"))
    assert "the first axis the patch has 96 voxels, the median image 35" in answer
    assert "the second axis" not in answer
    # the planner itself rounds up to what the network divides
    assert "zero padding" not in said(ask("patch_size=40,56,40", data="Dataset903_Hippo"))
    assert "zero padding" not in said(ask("batch_size=3", data="Dataset903_Hippo"))


def test_batch_dice_costs_nothing() -> None:
    answer = ask("batch_dice=true")
    assert "batch_dice" in said(answer)
    assert len(set(change(answer, "memory on a GPU"))) == 1


def test_another_recipe_is_named_with_the_way_to_keep_the_old() -> None:
    shorter = said(ask("num_epochs=99", data="Dataset903_Hippo"))
    assert "from nnunet to short" in shorter
    assert "learning rate 0.01 to 0.003" in shorter
    assert "below 25,000 iterations" in shorter
    assert "--set recipe=nnunet." in shorter
    assert "recipe" not in said(ask("num_epochs=99", "recipe=nnunet", data="Dataset903_Hippo"))
    assert "recipe" not in said(ask("num_epochs=100", data="Dataset903_Hippo"))
    asked = said(ask("recipe=short"))
    assert "from nnunet to short" in asked
    assert "--set" not in asked


def test_memory_that_hardly_changes_is_not_called_a_change() -> None:
    answer = ask("kernel_sizes=[[1,3,3],[1,3,3],3,3,3,3]")
    assert 0 < abs(answer.then.step_cuda.total - answer.now.step_cuda.total) < 50 << 20
    assert change(answer, "memory on a GPU") == ("5.4 GB", "5.4 GB")


def test_what_this_version_cannot_train_is_said() -> None:
    assert "cannot train regions" in said(ask("batch_size=3", data="Dataset902_BrainReg"))
    assert "cannot train" not in said(ask("batch_size=3"))


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
    assert answer.then.multiplications == batch_work(answer.edited.after, 6)
    assert answer.work_factor == 3


def test_a_network_of_one_resolution_is_refused() -> None:
    lone = ("strides=[[1,1,1]]", "kernel_sizes=3", "features_per_stage=8", "n_conv_per_stage=2")
    with pytest.raises(PlanError, match="two resolutions or more"):
        ask(*lone, "n_conv_per_stage_decoder=[]", data="Dataset903_Hippo")


def test_networks_of_another_kind_are_not_judged() -> None:
    data = "Dataset901_CTAniso"
    foreign = {"network_class_name": "my.nets.Swin", "arch_kwargs": {"depth": 4}, "_kw_requires_import": []}
    plan = Plan.read(GOLDEN / f"{data}__nnUNetPlans.json").with_configuration("3d_fullres", {"architecture": foreign})
    with pytest.raises(PlanError, match="--measure"):
        answer_for(Task.of(plan, "3d_fullres", description_of(data)), {"batch_size": 3})
