"""What a configuration asks of a device on the images of a data set: the memory and the work of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from segwright.planning.memory import feature_maps, multiplications

if TYPE_CHECKING:
    from segwright.planning.budget import Budget
    from segwright.planning.configuration import Configuration
    from segwright.task import Task


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


def planned_elements(configuration: Configuration, num_label_entries: int) -> int:
    """Elements of the feature maps of one sample, as the planner counts them for so many entries in dataset.json's
    `labels`."""
    architecture = configuration.architecture
    return feature_maps(
        kind=architecture.kind,
        patch_size=configuration.patch_size,
        strides=architecture.strides,
        features_per_stage=architecture.features_per_stage,
        blocks_per_stage=architecture.blocks_per_stage,
        convs_per_decoder_stage=architecture.convs_per_decoder_stage,
        num_outputs=num_label_entries,
    ).planned_elements


def step_flags(budget: Budget) -> dict[str, Any]:
    """The settings of a budget that decide what a step holds."""
    return {"batch_size": budget.value("batch_size"), "recipe": budget.recipe.name}


def step_memory(task: Task, device: str, *, flags: Mapping[str, Any] | None = None) -> StepMemory:
    """Count the bytes of a training step on a type of device (`cpu`, `cuda`, `mps`), which imports torch.

    `flags` are settings that overrule the plan's.

    Only for networks whose `Architecture.is_computable` is True.
    """
    from segwright.explain.step_measurement import make_trainer
    from segwright.explain.step_memory import count_step_memory

    return count_step_memory(make_trainer(task, flags=flags), device=device)


def batch_work(task: Task, batch_size: int) -> int:
    """Multiplications of one batch, forward; of a network that cannot be computed the patches, to which they are in
    proportion."""
    if not task.configuration.architecture.is_computable:
        return batch_size
    return batch_size * multiplications(
        task.configuration.architecture,
        patch_size=task.configuration.patch_size,
        num_input_channels=task.num_inputs,
        num_outputs=task.num_outputs,
    )
