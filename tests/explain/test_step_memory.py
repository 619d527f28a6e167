"""The model of a step's memory against torch's own account of the same step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from segwright.explain.ledger import Ledger
from segwright.explain.step_memory import CPU, CUDA, MPS, StepDevice, StepMemory, estimate_step_memory
from segwright.explain.step_simulation import StepSimulation
from segwright.networks import build_network
from segwright.planning.architecture import Architecture
from segwright.planning.memory import parameter_count
from segwright.planning.plan import Plan
from segwright.planning.recipes import NNUNET, SHORT
from segwright.training.losses import DeepSupervisionLoss, DiceCELoss, deep_supervision_weights
from segwright.training.schedule import make_optimizer

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


def architecture_of(name: str, configuration: str, features: int, **changes: Any) -> Architecture:
    architecture = Plan.read(GOLDEN / f"{name}.json").configuration(configuration).architecture
    per_stage = tuple(features * 2 ** min(stage, 2) for stage in range(architecture.num_stages))
    return replace(architecture, features_per_stage=per_stage, **changes)


HIPPO, HIPPO_RESIDUAL = "Dataset903_Hippo__nnUNetPlans", "Dataset903_Hippo__nnUNetResEncUNetMPlans"
CASES = {
    "plain": (architecture_of(HIPPO, "3d_fullres", 8), (24, 40, 32), 2, 1, 3),
    "residual": (architecture_of(HIPPO_RESIDUAL, "3d_fullres", 8), (24, 40, 32), 2, 3, 3),
    "slices": (architecture_of("Dataset902_BrainReg__nnUNetPlans", "2d", 8), (192, 128), 3, 4, 4),
    "flat kernels": (architecture_of("Dataset904_Cardiac__nnUNetPlans", "3d_fullres", 4), (16, 64, 64), 2, 1, 4),
    "many classes": (architecture_of(HIPPO, "3d_fullres", 4), (24, 24, 32), 1, 1, 60),
    "a single patch": (architecture_of(HIPPO, "3d_fullres", 8), (48, 48, 48), 1, 1, 3),
    "a single residual patch": (architecture_of(HIPPO_RESIDUAL, "3d_fullres", 16), (32, 40, 48), 1, 2, 3),
    "a single slice": (architecture_of("Dataset902_BrainReg__nnUNetPlans", "2d", 4), (128, 128), 1, 4, 4),
    "batch norm": (
        architecture_of(HIPPO, "3d_fullres", 8, norm_op="torch.nn.BatchNorm3d"),
        (24, 40, 32),
        2,
        1,
        3,
    ),
    "no norm": (architecture_of(HIPPO, "3d_fullres", 8, norm_op=None), (24, 40, 32), 2, 1, 3),
    "not in place": (architecture_of(HIPPO, "3d_fullres", 8, nonlin_kwargs={}), (24, 40, 32), 2, 1, 3),
}


class Steps:
    """A network that takes training steps as `training.trainer` does, on random data."""

    def __init__(self, architecture: Architecture, patch: tuple[int, ...], batch: int, channels: int, outputs: int):
        torch.manual_seed(0)
        self.layout = torch.channels_last if len(patch) == 2 else torch.channels_last_3d
        self.network = build_network(architecture, num_input_channels=channels, num_outputs=outputs)
        self.network.to(memory_format=self.layout)
        self.loss = DeepSupervisionLoss(
            DiceCELoss(batch_dice=False), deep_supervision_weights(architecture.num_stages - 1)
        )
        self.image, self.target, edges = torch.randn(batch, channels, *patch), [], list(patch)
        for stride in architecture.strides[:-1]:
            edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
            self.target.append(torch.randint(outputs, (batch, 1, *edges)).short())

    def optimize_with(self, recipe: Any) -> None:
        self.optimizer = make_optimizer(self.network.parameters(), recipe, initial_lr=1e-4, weight_decay=0.0)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.network(self.image.to(memory_format=self.layout)), self.target).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12.0)
        self.optimizer.step()


# what they put out is taken by operations within them; what they take themselves they work with, and release
CONVOLUTIONS = ("aten::convolution_backward", "aten::mkldnn_convolution")


def peaks_of_a_step(steps: Steps) -> tuple[int, int]:
    """Bytes beyond what is there before the step, gradients of the step before aside, as torch's profiler has them.

    The first peak is that of torch's own tensors. The second has what convolutions work with as well: that is the
    library's choice for the processor, next to nothing with AVX-512 and columns of the map with AVX2.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        steps.step()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    operations: list[tuple[Any, list[int]]] = []  # those that are under way, with the working memory of each
    tensors = working = 0
    peaks = [0, 0]
    for event in events:
        while operations and operations[-1][0].end_ns() < event.start_ns():
            operations.pop()
        if event.name() != "[memory]":
            operations.append((event, []))
            continue
        operation, taken = operations[-1] if operations else (None, [])
        size = event.nbytes()
        is_in_convolution = operation is not None and operation.name() in CONVOLUTIONS
        if is_in_convolution and size > 0:
            taken.append(size)
            working += size
        elif is_in_convolution and -size in taken:
            taken.remove(-size)
            working += size
        else:
            tensors += size
        peaks = [max(peaks[0], tensors), max(peaks[1], tensors + working)]
    assert working == 0
    return peaks[0], peaks[1]


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_the_one_that_torch_counts(case: str) -> None:
    architecture, patch, batch, channels, outputs = CASES[case]
    steps = Steps(architecture, patch, batch, channels, outputs)
    steps.optimize_with(NNUNET)
    steps.step()
    there = sum(parameter.nbytes for parameter in steps.network.parameters()) * 2
    loaded = sum(target.nbytes for target in steps.target) + (steps.image.nbytes if channels > 1 else 0)
    loaded += steps.image.nbytes if channels == 1 else 0
    tensors, with_working_memory = (peak + there + loaded for peak in peaks_of_a_step(steps))
    assert 0.98 * tensors <= estimate(*CASES[case]).total <= 1.02 * with_working_memory
    assert with_working_memory <= 1.15 * estimate(*CASES[case]).total


def estimate(
    architecture: Architecture,
    patch: tuple[int, ...],
    batch: int,
    channels: int,
    outputs: int,
    device: StepDevice = CPU,
    optimizer_states: int = 1,
) -> StepMemory:
    return estimate_step_memory(
        architecture,
        patch_size=patch,
        batch_size=batch,
        num_input_channels=channels,
        num_outputs=outputs,
        device=device,
        optimizer_states=optimizer_states,
    )


@pytest.mark.parametrize("recipe", [NNUNET, SHORT], ids=["sgd", "adamw"])
@pytest.mark.parametrize("case", CASES)
def test_parameters_gradients_and_optimizer_are_those_of_torch(case: str, recipe: Any) -> None:
    architecture, patch, batch, channels, outputs = CASES[case]
    steps = Steps(architecture, patch, batch, channels, outputs)
    steps.optimize_with(recipe)
    steps.step()
    states = 1 if recipe is NNUNET else 2
    simulation = StepSimulation(architecture, CPU, optimizer_states=states)
    simulation.run(
        patch_size=patch,
        batch_size=batch,
        num_input_channels=channels,
        num_outputs=outputs,
        num_parameters=parameter_count(architecture, num_input_channels=channels, num_outputs=outputs),
    )
    parameters = list(steps.network.parameters())
    held = simulation.ledger.held
    assert held["parameters"] == sum(parameter.nbytes for parameter in parameters)
    assert held["gradients"] == sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
    kept = [value for state in steps.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    # the lowest output, which no loss looks at, is never stepped
    unused = sum(parameter.nbytes for parameter in parameters if parameter.grad is None)
    assert held["optimizer"] - states * unused == sum(value.nbytes for value in kept if value.ndim)


@pytest.mark.parametrize("device", [CPU, CUDA, MPS], ids=lambda device: device.name)
@pytest.mark.parametrize("case", CASES)
def test_a_step_lets_go_of_all_that_it_took(case: str, device: StepDevice) -> None:
    architecture, patch, batch, channels, outputs = CASES[case]
    simulation = StepSimulation(architecture, device, optimizer_states=1)
    count = parameter_count(architecture, num_input_channels=channels, num_outputs=outputs)
    simulation.run(
        patch_size=patch,
        batch_size=batch,
        num_input_channels=channels,
        num_outputs=outputs,
        num_parameters=count,
    )
    held, voxels = simulation.ledger.held, batch * torch.Size(patch).numel()
    assert held["parameters"] == held["optimizer"] == 4 * count
    assert held["activations"] + held["temporary"] <= 14 * channels * voxels + 4 * voxels  # the batch itself


def test_memory_grows_with_the_batch_and_nearly_halves_in_mixed_precision() -> None:
    one, two = (estimate(CASES["plain"][0], (40, 56, 40), batch, 1, 3) for batch in (2, 4))
    assert two.activations == 2 * one.activations
    assert two.parameters == one.parameters
    assert one.to_json()["total"] == one.total == sum(v for k, v in one.to_json().items() if k != "total")
    single, half = (estimate(CASES["plain"][0], (40, 56, 40), 2, 1, 3, device) for device in (MPS, CUDA))
    assert 1.4 < single.total / half.total < 2


def test_a_buffer_is_released_by_its_last_holder() -> None:
    ledger = Ledger()
    buffer = ledger.take(10, "activations")
    ledger.hold(buffer)
    ledger.drop(buffer)
    with ledger.passing(5):
        assert ledger.held.total() == 15
    ledger.drop(buffer)
    assert ledger.held.total() == 0
    assert ledger.at_peak == {"activations": 10, "temporary": 5}
