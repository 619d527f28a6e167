"""Every step of nnU-Net's planner as a value: what was chosen, from what, and what limited it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segwright.errors import PlanError, message
from segwright.planning.memory import feature_maps
from segwright.planning.presets import PlannerPreset, decoder_convs, encoder_blocks
from segwright.planning.spacing import TargetSpacing, choose_target_spacing, choose_transpose, median_shape_at
from segwright.planning.topology import Topology, choose_topology

if TYPE_CHECKING:
    from segwright.dataset.description import DatasetDescription
    from segwright.fingerprint import Fingerprint

BASE_FEATURES = 32
MOST_MEMORY_GB = 1e6
MAX_FEATURES = {2: 512, 3: 320}
REFERENCE_BATCH_SIZE = {2: 12, 3: 2}
MIN_BATCH_SIZE = 2
# the first patch, before it is cut to the image and the memory, has the volume of this cube or square
START_EDGE = {2: 2048, 3: 256}
LOWRES_BELOW_PATCH_FRACTION = 0.25
LOWRES_SPACING_STEP = 1.03
LOWRES_MIN_REDUCTION = 2


@dataclass(frozen=True)
class NetworkDecision:
    """The network, patch and batch of one configuration. Axes in the order of the plan.

    `start_patch_size` has the aspect of the voxels and far too many of them, `first_patch_size` is cut to the median
    image and padded; `num_shrinks` steps took it to `topology.patch_size`, where `elements` (one sample) fit the
    `reference_elements`, which stand for a batch of `reference_batch_size`.
    """

    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    start_patch_size: tuple[int, ...]
    first_patch_size: tuple[int, ...]
    num_shrinks: int
    topology: Topology
    features_per_stage: tuple[int, ...]
    blocks_per_stage: tuple[int, ...]
    convs_per_decoder_stage: tuple[int, ...]
    elements: int
    reference_elements: float
    reference_batch_size: int
    batch_size_by_memory: int
    batch_size_by_dataset: int
    max_dataset_covered: float

    @property
    def batch_size(self) -> int:
        """What memory and data set allow, and at least 2."""
        return max(min(self.batch_size_by_memory, self.batch_size_by_dataset), MIN_BATCH_SIZE)


@dataclass(frozen=True)
class LowresDecision:
    """Whether to plan `3d_lowres`: `patch_fraction` is the part of the median image that a full-resolution patch holds,
    `reduction` the number by which the low resolution divides its voxels. `network` is None where it is not planned."""

    patch_fraction: float
    reduction: float | None
    num_steps: int
    network: NetworkDecision | None


@dataclass(frozen=True)
class PlanningDecisions:
    """All that the planner decided. `fullres` and `lowres` are None for two-dimensional data."""

    preset: PlannerPreset
    gpu_memory_gb: float
    target: TargetSpacing
    transpose_forward: tuple[int, ...]
    transpose_backward: tuple[int, ...]
    median_shape: tuple[float, ...]
    num_label_entries: int
    dataset_voxels: float
    fullres: NetworkDecision | None
    lowres: LowresDecision | None
    two_d: NetworkDecision


def decide(
    fingerprint: Fingerprint,
    description: DatasetDescription,
    *,
    preset: PlannerPreset,
    gpu_memory_gb: float | None = None,
    overwrite_target_spacing_mm: Sequence[float] | None = None,
    suppress_transpose: bool = False,
) -> PlanningDecisions:
    """Run nnU-Net's planner and keep every decision.

    Raises:
        PlanError: where the target spacing or the memory leave nothing to train on.
    """
    memory = _checked_memory(preset, gpu_memory_gb)
    target = choose_target_spacing(fingerprint, overwrite_target_spacing_mm)
    forward, backward = choose_transpose(target.spacing_mm, suppress=suppress_transpose)
    shape = median_shape_at(fingerprint, target.spacing_mm)
    spacing = tuple(target.spacing_mm[axis] for axis in forward)
    median = tuple(shape[axis] for axis in forward)
    voxels = float(np.prod(np.array(median), dtype=np.float64) * description.num_training)
    labels = description.labels.num_declared

    def network(spacing_mm: Sequence[float], median_shape: Sequence[float], voxels: float) -> NetworkDecision:
        return decide_network(
            spacing_mm, median_shape, dataset_voxels=voxels, num_labels=labels, preset=preset, gpu_memory_gb=memory
        )

    fullres = network(spacing, median, voxels) if median[0] != 1 else None
    lowres = None
    if fullres is not None:
        lowres = _decide_lowres(fullres, description.num_training, labels, preset, memory)
    return PlanningDecisions(
        preset=preset,
        gpu_memory_gb=memory,
        target=target,
        transpose_forward=forward,
        transpose_backward=backward,
        median_shape=median,
        num_label_entries=labels,
        dataset_voxels=voxels,
        fullres=fullres,
        lowres=lowres,
        two_d=network(spacing[1:], median[1:], voxels),
    )


def decide_network(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    *,
    dataset_voxels: float,
    num_labels: int,
    preset: PlannerPreset,
    gpu_memory_gb: float,
) -> NetworkDecision:
    """Choose patch, topology and batch size for images of a median shape at a spacing.

    Shrinks the patch, along the axis that covers most of the image, until its feature maps fit the reference.

    Raises:
        PlanError: where not even the smallest patch fits.
    """
    dims = len(spacing_mm)
    reference = _reference(preset, dims) * (gpu_memory_gb / preset.reference_memory_gb)
    reference_batch = REFERENCE_BATCH_SIZE[dims]
    start = _start_patch_size(spacing_mm)
    first = choose_topology(spacing_mm, [min(a, b) for a, b in zip(start, median_shape, strict=True)])
    topology, num_shrinks = first, 0
    elements = _elements(topology, num_labels, preset, dims)
    while patch_exceeds(elements, reference, dims=dims, preset=preset):
        topology = _shrink(topology, spacing_mm, median_shape)
        elements = _elements(topology, num_labels, preset, dims)
        num_shrinks += 1
    if elements == 0:
        raise _nothing_fits(gpu_memory_gb, median_shape)
    patch_voxels = np.prod(topology.patch_size, dtype=np.float64)
    return NetworkDecision(
        spacing_mm=tuple(float(value) for value in spacing_mm),
        median_shape=tuple(median_shape),
        start_patch_size=start,
        first_patch_size=first.patch_size,
        num_shrinks=num_shrinks,
        topology=topology,
        features_per_stage=_features(topology.num_stages, dims),
        blocks_per_stage=encoder_blocks(preset, topology.num_stages),
        convs_per_decoder_stage=decoder_convs(preset, topology.num_stages),
        elements=elements,
        reference_elements=reference,
        reference_batch_size=reference_batch,
        batch_size_by_memory=batch_size_allowed(elements, reference, dims=dims, preset=preset),
        batch_size_by_dataset=round(float(dataset_voxels * preset.max_dataset_covered / patch_voxels)),
        max_dataset_covered=preset.max_dataset_covered,
    )


def patch_exceeds(elements: int, reference: float, *, dims: int, preset: PlannerPreset) -> bool:
    """Whether the planner would shrink a patch whose feature maps hold that many elements, one sample."""
    counted = elements / REFERENCE_BATCH_SIZE[dims] * MIN_BATCH_SIZE if preset.counts_minimum_batch else elements
    return counted > reference


def batch_size_allowed(elements: int, reference: float, *, dims: int, preset: PlannerPreset) -> int:
    """Return the largest batch that the planner's count allows for a patch, 0 where not even one does.

    The planner rounds to the nearest, as only patches that it does not shrink come to that; others are rounded down.
    """
    allowed = (reference / elements) * REFERENCE_BATCH_SIZE[dims]
    return math.floor(allowed) if patch_exceeds(elements, reference, dims=dims, preset=preset) else round(allowed)


def _decide_lowres(
    fullres: NetworkDecision, num_training: int, num_labels: int, preset: PlannerPreset, gpu_memory_gb: float
) -> LowresDecision:
    full_spacing, full_shape = np.array(fullres.spacing_mm), np.array(fullres.median_shape)
    full_voxels = median_voxels = np.prod(full_shape, dtype=np.float64)
    patch_fraction = float(np.prod(fullres.topology.patch_size, dtype=np.float64) / full_voxels)
    network, steps, spacing, fraction = None, 0, full_spacing.copy(), patch_fraction
    while fraction < LOWRES_BELOW_PATCH_FRACTION:
        much_finer = spacing.max() / spacing > 2
        spacing[much_finer if much_finer.any() else slice(None)] *= LOWRES_SPACING_STEP
        shape = full_spacing / spacing * full_shape
        median_voxels = np.prod(shape, dtype=np.float64)
        network = decide_network(
            spacing,
            # nnU-Net rounds an axis of one voxel to none here, and fails
            [max(1, round(float(edge))) for edge in shape],
            dataset_voxels=float(median_voxels * num_training),
            num_labels=num_labels,
            preset=preset,
            gpu_memory_gb=gpu_memory_gb,
        )
        fraction = float(np.prod(network.topology.patch_size, dtype=np.float64) / median_voxels)
        steps += 1
    reduction = float(full_voxels / median_voxels) if steps else None
    if reduction is not None and reduction < LOWRES_MIN_REDUCTION:
        network = None
    return LowresDecision(patch_fraction=patch_fraction, reduction=reduction, num_steps=steps, network=network)


def _start_patch_size(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    dims = len(spacing_mm)
    density = 1 / np.array(spacing_mm)
    edges = density * (START_EDGE[dims] ** dims / np.prod(density)) ** (1 / dims)
    return tuple(round(float(edge)) for edge in edges)


def _shrink(topology: Topology, spacing_mm: Sequence[float], median_shape: Sequence[float]) -> Topology:
    """Take one step off the axis that covers most of the image, by the divisor that holds after the step."""
    patch = list(topology.patch_size)
    coverage = [edge / median for edge, median in zip(patch, median_shape, strict=True)]
    axis = max(range(len(patch)), key=lambda candidate: (coverage[candidate], candidate))  # of equals, the last
    trial = list(patch)
    trial[axis] -= topology.divisor[axis]
    patch[axis] -= choose_topology(spacing_mm, trial).divisor[axis]
    return choose_topology(spacing_mm, patch)


def _elements(topology: Topology, num_labels: int, preset: PlannerPreset, dims: int) -> int:
    return feature_maps(
        kind=preset.kind,
        patch_size=topology.patch_size,
        strides=topology.strides,
        features_per_stage=_features(topology.num_stages, dims),
        blocks_per_stage=encoder_blocks(preset, topology.num_stages),
        convs_per_decoder_stage=decoder_convs(preset, topology.num_stages),
        num_outputs=num_labels,
    ).planned_elements


def _features(num_stages: int, dims: int) -> tuple[int, ...]:
    return tuple(min(MAX_FEATURES[dims], BASE_FEATURES * 2**stage) for stage in range(num_stages))


def _reference(preset: PlannerPreset, dims: int) -> float:
    return preset.reference_elements_2d if dims == 2 else preset.reference_elements_3d


def _checked_memory(preset: PlannerPreset, gpu_memory_gb: float | None) -> float:
    memory = preset.reference_memory_gb if gpu_memory_gb is None else gpu_memory_gb
    if not 0 < memory <= MOST_MEMORY_GB:
        expected = f"a number of GB above 0 and up to {MOST_MEMORY_GB:g}"
        raise PlanError(message("GPU memory", expected=expected, got=memory, remedy="nnU-Net's default is 8."))
    return memory


def _nothing_fits(gpu_memory_gb: float, median_shape: Sequence[float]) -> PlanError:
    return PlanError(
        message(
            "planner",
            expected="GPU memory for at least a small patch",
            got=f"{gpu_memory_gb} GB for images of {list(median_shape)} voxels",
            remedy="Plan for more memory, or choose a coarser target spacing.",
        )
    )
