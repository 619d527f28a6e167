"""The bytes that a training step holds, counted without memory, against torch's own account of the same real step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from segwright.dataset.description import DatasetDescription
from segwright.explain import step_memory as counting
from segwright.explain.cost import StepMemory, step_memory
from segwright.explain.edits import apply_edits, parse_edits
from segwright.explain.step_measurement import make_trainer, random_batch
from segwright.explain.step_memory import HalfPrecision, StorageCount, count_step_memory
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.task import Task
from segwright.training.losses import DeepSupervisionLoss, deep_supervision_weights
from segwright.training.trainer import Trainer

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
CT, BRAIN, HIPPO, CARDIAC = "Dataset901_CTAniso", "Dataset902_BrainReg", "Dataset903_Hippo", "Dataset904_Cardiac"
RESIDUAL = "nnUNetResEncUNetMPlans"


def tiny(
    data: str, configuration: str, edits: str, *, plans: str = "nnUNetPlans", labels: int = 3, **architecture: Any
) -> Task:
    """An edited configuration as `tiny`, with other arguments of the network, of a data set with so many labels."""
    plan = Plan.read(GOLDEN / f"{data}__{plans}.json")
    raw = DatasetDescription.read(GOLDEN / f"{data}__dataset.json").raw
    names = {"background": 0, **{f"organ {value}": value for value in range(1, labels)}}
    kept = {key: value for key, value in raw.items() if key != "regions_class_order"}
    description = DatasetDescription.from_json({**kept, "labels": names})
    fingerprint = Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json")
    task = apply_edits(
        Task.of(plan, configuration, description), parse_edits(edits.split()), fingerprint, name="tiny"
    ).after
    entry = task.configuration.raw["architecture"]
    entry = {**entry, "arch_kwargs": {**entry["arch_kwargs"], **architecture}}
    return Task.of(task.plan.with_configuration("tiny", {"architecture": entry}), "tiny", description)


SMALL = "features_per_stage=8 patch_size=24,40,32 batch_size=2"
CASES = {
    "plain": tiny(HIPPO, "3d_fullres", SMALL),
    "residual": tiny(HIPPO, "3d_fullres", SMALL, plans=RESIDUAL),
    "slices": tiny(BRAIN, "2d", "features_per_stage=8 patch_size=192,128 batch_size=3", labels=4),
    "flat kernels": tiny(CARDIAC, "3d_fullres", "features_per_stage=4 patch_size=16,64,64 batch_size=2"),
    "many classes": tiny(HIPPO, "3d_fullres", "features_per_stage=4 patch_size=24,24,32 batch_size=1", labels=60),
    "a single patch": tiny(HIPPO, "3d_fullres", "features_per_stage=8 patch_size=48,48,48 batch_size=1"),
    "cascade": tiny(CT, "3d_cascade_fullres", "features_per_stage=4 patch_size=32,64,64 batch_size=2"),
    "batch norm": tiny(HIPPO, "3d_fullres", SMALL, norm_op="torch.nn.BatchNorm3d"),
    "no norm": tiny(HIPPO, "3d_fullres", SMALL, norm_op=None),
    "not in place": tiny(HIPPO, "3d_fullres", SMALL, nonlin_kwargs={}),
    "with dropout": tiny(HIPPO, "3d_fullres", SMALL, dropout_op="torch.nn.Dropout3d", dropout_op_kwargs={"p": 0.2}),
}


@pytest.fixture
def num_threads() -> Iterator[Any]:
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)


def count(case: str, device: str = "cpu", **flags: Any) -> StepMemory:
    return step_memory(CASES[case], device, flags=flags)


def trainer_of(case: str, **flags: Any) -> Trainer:
    return make_trainer(CASES[case], flags=flags)


# What they put out is taken by operations within them; what they take themselves they work with, and release. How much
# that is depends on the processor and on the number of threads.
CONVOLUTIONS = (
    "aten::convolution_backward",
    "aten::mkldnn_convolution",
    "aten::slow_conv3d_forward",
    "aten::_slow_conv2d_forward",
    "aten::slow_conv_transpose3d",
    "aten::slow_conv_transpose2d",
)


def peak_of_tensors(step: Any) -> int:
    """Bytes that torch's tensors take at the peak of a step, beyond what is there before, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    operations: list[tuple[Any, list[int]]] = []  # those that are under way, with the working memory of each
    held = peak = 0
    for event in events:
        while operations and operations[-1][0].end_ns() < event.start_ns():
            operations.pop()
        if event.name() != "[memory]":
            operations.append((event, []))
            continue
        operation, working = operations[-1] if operations else (None, [])
        size = event.nbytes()
        in_convolution = operation is not None and operation.name() in CONVOLUTIONS
        if in_convolution and size > 0:
            working.append(size)
        elif in_convolution and -size in working:
            working.remove(-size)
        else:
            held += size
        peak = max(peak, held)
    return peak


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize(
    ("case", "threads", "tolerance"),
    [
        *((case, 2, 0.02) for case in ("plain", "residual", "slices", "cascade", "batch norm", "no norm")),
        # with one thread or a single patch, torch takes other paths through small convolutions, with copies of its own
        *((case, 1, 0.1) for case in ("flat kernels", "many classes", "a single patch", "not in place", "no norm")),
    ],
)
def test_the_peak_is_the_one_that_torch_counts(case: str, num_threads: Any, threads: int, tolerance: float) -> None:
    num_threads(threads)
    trainer = trainer_of(case)
    trainer.initialize()
    batch = random_batch(trainer)
    trainer.network.train()
    trainer.train_step(batch)
    trainer.optimizer.zero_grad()
    there = 2 * sum(parameter.nbytes for parameter in trainer.network.parameters())  # with the momentum
    there += sum(tensor.nbytes for tensor in (batch["data"], *batch["target"]))
    peak = there + peak_of_tensors(lambda: trainer.train_step(batch))
    assert count(case).total == pytest.approx(peak, rel=tolerance)


@pytest.mark.filterwarnings("ignore")
def test_a_validation_step_holds_less() -> None:
    trainer = trainer_of("many classes")
    trainer.initialize()
    batch = random_batch(trainer)
    trainer.network.eval()
    with torch.no_grad():
        peak = peak_of_tensors(lambda: trainer.validation_step(batch))
    model = count("many classes")
    assert peak < model.activations + model.temporary


@pytest.mark.parametrize(("recipe", "states"), [("nnunet", 1), ("short", 2)])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("case", ["plain", "cascade"])
def test_parameters_and_optimizer_are_those_of_torch(case: str, device: str, recipe: str, states: int) -> None:
    trainer = trainer_of(case, recipe=recipe)
    trainer.initialize()
    size = sum(parameter.nbytes for parameter in trainer.network.parameters())
    step = count(case, device, recipe=recipe)
    steps = 0 if recipe == "nnunet" else 4 * len(list(trainer.network.parameters()))  # AdamW counts its own steps
    assert step.optimizer == states * size + steps
    assert size <= step.parameters <= (1.5 if device == "cuda" else 1) * size


def test_the_trainer_is_left_as_it_is() -> None:
    trainer = trainer_of("plain")
    before = dict(vars(trainer))
    count_step_memory(trainer, device="cuda", batch_size=5)
    assert vars(trainer) == before


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("case", ["plain", "residual", "slices"])
def test_memory_is_a_line_in_the_batch_size(case: str, device: str) -> None:
    two, four, eight = (count(case, device, batch_size=batch) for batch in (2, 4, 8))
    assert eight.total - four.total == pytest.approx(2 * (four.total - two.total), rel=0.01)
    assert two.parameters == eight.parameters


def test_huge_batches_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count("plain", batch_size=64).total
    monkeypatch.setattr(counting, "LARGEST_COUNTED", 16)
    assert count("plain", batch_size=64).total == pytest.approx(counted, rel=0.01)
    assert count("plain", batch_size=10**15).total > 10**20


def test_mixed_precision_takes_little_more_than_half() -> None:
    single, half = count("plain", "mps"), count("plain", "cuda")
    assert 1.4 < single.total / half.total < 2
    assert single.to_json()["total"] == sum(size for key, size in single.to_json().items() if key != "total")


@pytest.mark.parametrize("case", ["a single patch", "slices"])
def test_the_number_of_threads_does_not_matter(case: str, num_threads: Any) -> None:
    num_threads(1)
    one = count(case)
    num_threads(2)
    assert count(case) == one


def test_regions_are_counted_by_their_outputs() -> None:
    task = CASES["many classes"]
    regions = {"background": 0, **{f"region {value}": [value, value + 1] for value in range(1, 100)}}
    raw = {**task.description.raw, "labels": regions, "regions_class_order": list(range(1, 100))}
    more = step_memory(Task.of(task.plan, "tiny", DatasetDescription.from_json(raw)), "cpu")
    assert more.activations > 1.5 * count("many classes").activations


class _Squares(nn.Module):
    """A loss that keeps much: of sigmoids, each squared."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((logits.sigmoid() ** 2).exp() - target).abs().mean()


class _Own(Trainer):
    def _build_loss(self) -> nn.Module:
        return DeepSupervisionLoss(_Squares(), deep_supervision_weights(len(self._get_deep_supervision_scales())))


@pytest.mark.filterwarnings("ignore")
def test_a_loss_of_ones_own_is_the_one_that_is_counted(num_threads: Any) -> None:
    trainer = trainer_of("many classes")
    own = _Own(trainer.plan.raw, "tiny", 0, trainer.description.raw, device=torch.device("cpu"))
    own.budget, own.batch_size = trainer.budget, trainer.batch_size
    counted = count_step_memory(own, device="cpu").total
    own.initialize()
    batch = random_batch(own)
    num_threads(2)
    own.train_step(batch)
    own.optimizer.zero_grad()
    there = 2 * sum(parameter.nbytes for parameter in own.network.parameters())
    there += sum(tensor.nbytes for tensor in (batch["data"], *batch["target"]))
    assert counted == pytest.approx(there + peak_of_tensors(lambda: own.train_step(batch)), rel=0.03)
    assert counted != count("many classes").total


def test_a_storage_is_counted_once_while_anything_refers_to_it() -> None:
    with StorageCount() as storages:
        first = torch.zeros(10)
        view = first.view(2, 5)[0]
        first += 1
        del first
        second = torch.zeros(5, requires_grad=True)
        product = second * view
        del view, second, product
        torch.zeros(3)
    assert storages.at_peak() == {"activations": 40 + 20 + 20}
    assert not storages._live


def test_half_precision_casts_parameters_once_and_losses_back() -> None:
    with torch.device("meta"), StorageCount() as storages, HalfPrecision():
        layer, x = nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 8, 8)
        storages.name(list(layer.parameters()), "parameters")
        out = layer(x) + layer(x)
        loss = nn.functional.cross_entropy(out, torch.zeros(1, 6, 6, dtype=torch.long))
    assert (out.dtype, loss.dtype) == (torch.float16, torch.float32)
    assert storages.at_peak()["parameters"] == (4 + 2) * 20


def test_counting_leaves_the_compiler_as_it_was() -> None:
    """Torch's compiler is not imported to be kept out of the way, and functions are exempted from it afterwards."""
    program = (
        "import sys, torch\n"
        "from segwright.explain.step_memory import _compiler_left_out\n"
        "from torch.optim import SGD\n"
        "with _compiler_left_out():\n"
        "    optimizer = SGD([torch.nn.Parameter(torch.ones(1))])\n"
        "    optimizer.step()\n"
        "    optimizer.zero_grad()\n"
        "print('torch._dynamo' in sys.modules, hasattr(SGD.zero_grad.__wrapped__, '__dynamo_disable'))\n"
        "import torch._dynamo\n"
        "SGD([torch.nn.Parameter(torch.ones(1))]).zero_grad()\n"
        "print(torch._dynamo.disable.__module__.startswith('torch._dynamo'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
