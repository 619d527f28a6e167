"""A model in bytes of what one training step needs on the device, to explain a plan before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segwright.explain.step_simulation import CPU, CUDA, MPS, STEP_DEVICES, StepDevice, StepSimulation
from segwright.planning.architecture import Architecture
from segwright.planning.memory import parameter_count

__all__ = ["CPU", "CUDA", "MPS", "OPTIMIZER_STATES", "STEP_DEVICES", "StepDevice", "StepMemory", "estimate_step_memory"]

# values that an optimizer keeps for each parameter: the momentum, or the two moments
OPTIMIZER_STATES = {"sgd": 1, "adamw": 2}


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training step holds at the moment when it holds most, by what they are for.

    `activations` wait for the backward pass, `temporary` are gradients of feature maps and copies of them; only those
    gradients of parameters are counted that are there at that moment. On top come what the device's libraries work
    with and what the allocator keeps for later.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.temporary

    def to_json(self) -> dict[str, Any]:
        """The parts and the total, in bytes."""
        return {**asdict(self), "total": self.total}


def estimate_step_memory(
    architecture: Architecture,
    *,
    patch_size: Sequence[int],
    batch_size: int,
    num_input_channels: int,
    num_outputs: int,
    device: StepDevice = CUDA,
    optimizer_states: int = 1,
) -> StepMemory:
    """Model the peak of a training step of a plain or residual U-Net with deep supervision.

    `optimizer_states` is the number of values that the optimizer keeps for a parameter. On CUDA the step runs in mixed
    precision: maps are float16, parameters, gradients and the loss float32, and a float16 copy of the parameters is
    kept during the step.
    """
    count = parameter_count(architecture, num_input_channels=num_input_channels, num_outputs=num_outputs)
    step = StepSimulation(architecture, device, optimizer_states=optimizer_states)
    step.run(
        patch_size=patch_size,
        batch_size=batch_size,
        num_input_channels=num_input_channels,
        num_outputs=num_outputs,
        num_parameters=count,
    )
    peak = step.ledger.at_peak
    return StepMemory(
        parameters=peak["parameters"],
        gradients=peak["gradients"],
        optimizer=peak["optimizer"],
        activations=peak["activations"],
        temporary=peak["temporary"],
    )
