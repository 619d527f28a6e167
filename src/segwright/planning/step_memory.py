"""A model in bytes of what one training step needs on the device, to explain a plan before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segwright.planning.architecture import Architecture
from segwright.planning.memory import feature_maps, parameter_count

BYTES_FLOAT32 = 4
BYTES_FLOAT16 = 2
# autograd keeps what enters each normalisation and what leaves the nonlinearity after it
_KEPT_PER_CONVOLUTION = 2
# at the widest point of the backward pass: gradients of a concatenation (2 maps), of a convolution's input and output
_GRADIENT_MAPS = 4
# float32 for the loss: softmax and logarithm of the softmax, the target as masks, their gradient
_LOSS_FLOATS_PER_LOGIT = 4


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step, by what holds them. An estimate: the working space of the device's libraries, often
    half a gigabyte to one on a GPU, comes on top."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    backward: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.backward

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
    mixed_precision: bool = True,
    optimizer_states: int = 1,
) -> StepMemory:
    """Estimate the memory of a training step of a plain or residual U-Net with deep supervision.

    `optimizer_states` is the number of values that the optimizer keeps for a parameter: 1 for SGD with momentum, 2 for
    AdamW. In mixed precision the maps are float16, parameters, gradients and the loss float32, and a float16 copy of
    the parameters is kept during the step.
    """
    maps = feature_maps(
        kind=architecture.kind,
        patch_size=patch_size,
        strides=architecture.strides,
        features_per_stage=architecture.features_per_stage,
        blocks_per_stage=architecture.blocks_per_stage,
        convs_per_decoder_stage=architecture.convs_per_decoder_stage,
        num_outputs=num_outputs,
    )
    count = parameter_count(architecture, num_input_channels=num_input_channels, num_outputs=num_outputs)
    element = BYTES_FLOAT16 if mixed_precision else BYTES_FLOAT32
    kept = _KEPT_PER_CONVOLUTION * maps.convolutions + maps.concatenations
    logits = maps.logits + maps.auxiliary_logits
    return StepMemory(
        parameters=count * (BYTES_FLOAT32 + (BYTES_FLOAT16 if mixed_precision else 0)),
        gradients=count * BYTES_FLOAT32,
        optimizer=count * BYTES_FLOAT32 * optimizer_states,
        activations=batch_size * (kept * element + logits * _LOSS_FLOATS_PER_LOGIT * BYTES_FLOAT32),
        backward=batch_size * _GRADIENT_MAPS * maps.largest_map * element,
    )
