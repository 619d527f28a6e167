"""How large a network is: nnU-Net's count of feature map elements, its parameters, and its multiplications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segwright.planning.architecture import Architecture, Kind


@dataclass(frozen=True)
class FeatureMaps:
    """Elements that one sample leaves in the maps of a forward pass, by what makes them.

    `convolutions` are followed by normalisation (shortcuts of residual blocks included), `upsampling` by transposed
    convolutions, `logits` at full resolution, `auxiliary_logits` below it, which deep supervision trains.
    """

    convolutions: int
    upsampling: int
    logits: int
    auxiliary_logits: int

    @property
    def planned_elements(self) -> int:
        """What nnU-Net's planner compares with its reference: deep supervision and copies are not counted."""
        return self.convolutions + self.upsampling + self.logits


def feature_maps(
    *,
    kind: Kind,
    patch_size: Sequence[int],
    strides: Sequence[Sequence[int]],
    features_per_stage: Sequence[int],
    blocks_per_stage: Sequence[int],
    convs_per_decoder_stage: Sequence[int],
    num_outputs: int,
) -> FeatureMaps:
    """Count the elements of all feature maps for one sample.

    Formula of nnU-Net v2's planner (`compute_conv_feature_map_size`), with V the voxels of a stage and F its features:
    plain, blocks·F·V a stage; residual, a stem of F·V, then 2·F·V a block and F·V more for a block that changes size
    or features; decoder, (convs + 1)·F·V a stage; and the logits.
    """
    voxels = voxels_per_stage(patch_size, strides)
    maps = [features * size for features, size in zip(features_per_stage, voxels, strict=True)]
    if kind == "residual":
        convolutions = maps[0] + sum(
            map_size * (2 * blocks + _has_shortcut(stage, strides, features_per_stage))
            for stage, (map_size, blocks) in enumerate(zip(maps, blocks_per_stage, strict=True))
        )
    else:
        convolutions = sum(map_size * blocks for map_size, blocks in zip(maps, blocks_per_stage, strict=True))
    skips = maps[:-1]
    # the decoder runs from the deepest stage up, its entries with it
    convolutions += sum(
        map_size * convs for map_size, convs in zip(reversed(skips), convs_per_decoder_stage, strict=True)
    )
    return FeatureMaps(
        convolutions=convolutions,
        upsampling=sum(skips),
        logits=num_outputs * voxels[0] if skips else 0,
        auxiliary_logits=num_outputs * sum(voxels[1:-1]),
    )


def voxels_per_stage(patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """Count the voxels of one sample's map at each stage, the first at full resolution."""
    edges, voxels = [int(edge) for edge in patch_size], []
    for stride in strides:
        edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
        voxels.append(math.prod(edges))
    return voxels


def _has_shortcut(stage: int, strides: Sequence[Sequence[int]], features: Sequence[int]) -> bool:
    return any(step != 1 for step in strides[stage]) or (stage > 0 and features[stage] != features[stage - 1])


def parameter_count(architecture: Architecture, *, num_input_channels: int, num_outputs: int) -> int:
    """Count the trainable parameters of a plain or residual U-Net, heads of deep supervision included."""
    bias = int(architecture.conv_bias)
    norm = 2 * bool(architecture.norm_op) * bool(architecture.norm_op_kwargs.get("affine", False))
    features, kernels = architecture.features_per_stage, architecture.kernel_sizes
    total = 0

    def conv(inputs: int, outputs: int, kernel: Sequence[int]) -> int:
        return outputs * (inputs * math.prod(kernel) + bias + norm)

    inputs = num_input_channels
    if architecture.kind == "residual":
        total, inputs = conv(inputs, features[0], kernels[0]), features[0]
    for outputs, kernel, blocks in zip(features, kernels, architecture.blocks_per_stage, strict=True):
        convs = 2 * blocks if architecture.kind == "residual" else blocks
        total += conv(inputs, outputs, kernel) + (convs - 1) * conv(outputs, outputs, kernel)
        if architecture.kind == "residual" and inputs != outputs:
            total += outputs * (inputs + norm)  # 1x1 shortcut, without bias
        inputs = outputs
    deepest_first = range(len(features) - 2, -1, -1)
    for stage, convs in zip(deepest_first, architecture.convs_per_decoder_stage, strict=True):
        outputs, kernel = features[stage], kernels[stage]
        total += outputs * (features[stage + 1] * math.prod(architecture.strides[stage + 1]) + bias)
        total += conv(2 * outputs, outputs, kernel) + (convs - 1) * conv(outputs, outputs, kernel)
        total += num_outputs * (outputs + 1)
    return total


def multiplications(
    architecture: Architecture, *, patch_size: Sequence[int], num_input_channels: int, num_outputs: int
) -> int:
    """Count the multiplications of all convolutions for one sample, forward: the work that decides how long it takes.

    Every output voxel takes a kernel's volume times the channels that enter, for each channel that leaves; of a
    transposed convolution, whose kernel is its stride, only the channels that enter.
    """
    features, kernels = architecture.features_per_stage, architecture.kernel_sizes
    voxels = voxels_per_stage(patch_size, architecture.strides)
    residual = architecture.kind == "residual"
    total, inputs = 0, num_input_channels
    if residual:
        total, inputs = voxels[0] * inputs * features[0] * math.prod(kernels[0]), features[0]
    for size, outputs, kernel, blocks in zip(voxels, features, kernels, architecture.blocks_per_stage, strict=True):
        convs = 2 * blocks if residual else blocks
        total += size * outputs * (inputs + (convs - 1) * outputs) * math.prod(kernel)
        if residual and inputs != outputs:
            total += size * outputs * inputs
        inputs = outputs
    deepest_first = range(len(features) - 2, -1, -1)
    for stage, convs in zip(deepest_first, architecture.convs_per_decoder_stage, strict=True):
        size, outputs = voxels[stage], features[stage]
        total += size * outputs * (features[stage + 1] + (convs + 1) * outputs * math.prod(kernels[stage]))
        total += size * outputs * num_outputs
    return total
