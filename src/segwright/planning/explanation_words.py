"""The sentences of an explanation. Every number in them comes from the plan or from a decision of the planner."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segwright.planning.comparison import Difference, Replanned
from segwright.planning.configuration import Configuration
from segwright.planning.decisions import LOWRES_BELOW_PATCH_FRACTION, MIN_BATCH_SIZE
from segwright.planning.plan import Plan
from segwright.planning.planner import MASK_BELOW_RELATIVE_SIZE
from segwright.planning.spacing import ANISOTROPY_THRESHOLD
from segwright.planning.step_memory import StepMemory
from segwright.planning.topology import MIN_FEATURE_MAP_EDGE, SIMILAR_SPACING, AxisStop

if TYPE_CHECKING:
    from segwright.dataset.description import DatasetDescription
    from segwright.fingerprint import Fingerprint

_NORMALIZATION_WORDS = {
    "CTNormalization": "CT values mean the same in every image, so all are clipped to the range between the 0.5 and "
    "99.5 percentiles of the labelled voxels of the whole data set, then scaled by their mean and spread there",
    "ZScoreNormalization": "each image is scaled to a mean of 0 and a spread of 1, because such values are comparable "
    "only within one image",
    "NoNormalization": "the values are used as they are",
    "RescaleTo01Normalization": "each image is scaled so that its values run from 0 to 1",
    "RGBTo01Normalization": "colours from 0 to 255 are divided by 255",
}
_MAX_LISTED_DIFFERENCES = 12


@dataclass(frozen=True)
class Subject:
    """All that the sentences speak of."""

    plan: Plan
    configuration: Configuration
    fingerprint: Fingerprint
    description: DatasetDescription
    replanned: Replanned
    num_parameters: int | None
    planned_elements: int | None
    step: StepMemory | None

    def changed(self, *keys: str) -> bool:
        """Whether one of these keys differs from what the planner would write."""
        return any(difference.key in keys for difference in self.replanned.differences)


def paragraphs_for(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield topics with their text, in the order in which the planner decides."""
    for topic, sentences in (
        ("Data", _data(subject)),
        ("Spacing", _spacing(subject)),
        ("Order of axes", _transpose(subject)),
        ("Patch", _patch(subject)),
        ("Depth", _depth(subject)),
        ("Network", _network(subject)),
        ("Batch size", _batch(subject)),
        ("Low resolution", _lowres(subject)),
        ("Normalisation", _normalization(subject)),
        ("Memory", _memory(subject)),
        ("Changes by hand", _changes(subject)),
    ):
        text = " ".join(sentences)
        if text:
            yield topic, text


def _data(subject: Subject) -> Iterator[str]:
    channels, target = subject.description.channel_names, subject.replanned.decisions.target
    labels = subject.description.labels
    classes = _count(len(labels.classes), "region" if labels.has_regions else "label")
    yield (
        f"{subject.description.num_training} training images with {_count(len(channels), 'channel')} "
        f"({', '.join(channels)}) and {classes} to find."
    )
    yield (
        f"Their median size is {_sizes(target.median_shape)} voxels of {_mm(target.median_spacing_mm)}, "
        "after a border of zeros is cut off."
    )


def _spacing(subject: Subject) -> Iterator[str]:
    configuration = subject.configuration
    ancestor = subject.replanned.ancestor
    yield f"Images are resampled to voxels of {_mm(configuration.spacing_mm)}."
    if ancestor is None or subject.changed("spacing"):
        yield "This spacing was written into the plan by hand."
    elif ancestor == "3d_lowres":
        lowres = subject.replanned.decisions.lowres
        assert lowres is not None
        yield (
            f"It is the full-resolution spacing, made coarser in {lowres.num_steps} steps of 3 %, the finer axes first "
            "where they were more than twice as fine, until a patch covered a quarter of the image."
        )
    else:
        yield from _spacing_rule(subject)
    if configuration.resampling_data.function == "no_resampling_hack":
        yield "But this plan turns resampling off: every image keeps its own spacing."
    yield f"The median image then has {_sizes(configuration.median_image_size_in_voxels)} voxels."


def _spacing_rule(subject: Subject) -> Iterator[str]:
    target = subject.replanned.decisions.target
    worst = target.median_spacing_mm[target.coarsest_axis]
    next_coarsest = max(v for axis, v in enumerate(target.median_spacing_mm) if axis != target.coarsest_axis)
    slices = target.median_shape[target.coarsest_axis]
    if target.median_shape[target.coarsest_axis] == 1:
        yield "It is the median of the training images; each is a single slice."
        return
    if subject.configuration.is_2d:
        yield "These are the two finer axes; slices are cut across the third."
    if target.rule == "override":
        yield f"It was chosen by hand; the median of the training images is {_mm(target.median_spacing_mm)}."
    elif target.rule == "10th percentile":
        yield (
            f"Slices are {worst:.4g} mm apart, more than {ANISOTROPY_THRESHOLD} times the {next_coarsest:.4g} mm "
            f"within them, and there are few ({slices:.4g} at the median). At the median spacing, images with finer "
            "slices would lose detail that only they have, so that axis takes the spacing that a tenth of the images "
            f"stay below, {target.spacing_mm[target.coarsest_axis]:.4g} mm; the others take their median."
        )
        if target.was_held_above_other_axes:
            yield "That tenth is finer than the slices' own pixels, so it was held just above their spacing."
    else:
        yield "It is the median of the training images along each axis: half of them are finer, half coarser."
        if target.spacing_is_anisotropic:
            yield (
                f"Slices are far apart ({worst:.4g} mm against {next_coarsest:.4g} mm), but there are enough of them "
                f"({slices:.4g}) to keep the median."
            )


def _transpose(subject: Subject) -> Iterator[str]:
    plan, target = subject.plan, subject.replanned.decisions.target
    if subject.replanned.transpose_is_own_choice:
        yield f"The axes are taken in the order {list(plan.transpose_forward)}, which was chosen by hand."
    elif plan.transpose_forward == (0, 1, 2):
        yield "The axes stay in the order of the files: the first is already the coarsest, or none is coarser than it."
    else:
        first = plan.transpose_forward[0]
        yield (
            f"Axis {first} of the files is put first, because its spacing of {target.spacing_mm[first]:.4g} mm is the "
            "coarsest; sizes below are in that order."
        )


def _patch(subject: Subject) -> Iterator[str]:
    configuration, network = subject.configuration, subject.replanned.network
    patch, median = configuration.patch_size, configuration.median_image_size_in_voxels
    covers = [min(edge / whole, 1) for edge, whole in zip(patch, median, strict=True)]
    physical = [edge * mm for edge, mm in zip(patch, configuration.spacing_mm, strict=True)]
    yield (
        f"The network sees {_sizes(patch)} voxels at a time, {' × '.join(f'{mm:.4g}' for mm in physical)} mm: "
        f"{_percents(covers)} of the median image along its axes, {_percent(math.prod(covers))} of it in all."
    )
    planned = network.topology.patch_size
    if patch != planned:
        yield f"The planner would take {_sizes(planned)}."
        return
    if network.num_shrinks:
        yield (
            f"The planner began with {_sizes(network.first_patch_size)}, the median image or a patch of about the same "
            f"length in mm on every side, and took {_count(network.num_shrinks, 'step')} off the side that covered "
            "most of the image, until the network fitted the memory."
        )
    else:
        yield "The planner's first choice fitted the memory, so nothing was cut off."
    yield f"Each side is a multiple of {_sizes(network.topology.divisor)}, which the halvings of the network ask for."


def _depth(subject: Subject) -> Iterator[str]:
    architecture, network = subject.configuration.architecture, subject.replanned.network
    if architecture.kind == "other":
        yield f"The network {architecture.network_class_name} was set by hand; its depth is its own matter."
        return
    yield (
        f"The network has {_count(architecture.num_stages, 'resolution')}; from the first to the last the axes shrink "
        f"by {_sizes(architecture.total_stride)}."
    )
    topology = network.topology
    if architecture.strides != topology.strides or subject.configuration.patch_size != topology.patch_size:
        yield "This is not the depth that the planner would choose for its own patch, so its reasons do not apply."
        return
    for axis, (pools, stop) in enumerate(zip(topology.num_pool_per_axis, topology.stops, strict=True)):
        voxels = _count(stop.edge, "voxel")
        yield f"Axis {axis + 1} is halved {_times(pools)} and stops at {voxels}, {_stop_reason(stop)}."
    if any(1 in kernel for kernel in architecture.kernel_sizes):
        yield (
            "Kernels are flat (1 voxel) along an axis while it is at least "
            f"{SIMILAR_SPACING} times as coarse as the finest, so that distances in mm stay alike."
        )


def _stop_reason(stop: AxisStop) -> str:
    if stop.reason == "too short":
        return f"as another halving takes at least {2 * MIN_FEATURE_MAP_EDGE}"
    if stop.reason == "too coarse":
        return (
            f"as its spacing is by then {stop.spacing_mm:.4g} mm, at least {SIMILAR_SPACING} times that of the axes "
            "that could go on"
        )
    return f"as no other axis can go on with it, which takes {3 * MIN_FEATURE_MAP_EDGE} voxels"


def _network(subject: Subject) -> Iterator[str]:
    architecture = subject.configuration.architecture
    if subject.num_parameters is None:
        return
    kind = "residual encoder U-Net" if architecture.kind == "residual" else "plain U-Net"
    yield (
        f"A {kind} with {', '.join(map(str, architecture.features_per_stage))} features from the finest to the "
        f"coarsest resolution. {subject.num_parameters / 1e6:.1f} million parameters."
    )


def _batch(subject: Subject) -> Iterator[str]:
    configuration, network = subject.configuration, subject.replanned.network
    unit = "slices" if configuration.is_2d else "patches"
    yield f"{configuration.batch_size} {unit} a batch."
    if configuration.batch_size != network.batch_size:
        own = _sizes(network.topology.patch_size)
        yield f"The planner would take {network.batch_size}, with its own patch of {own}."
    part = _percent(network.max_dataset_covered)
    memory, cap = network.batch_size_by_memory, network.batch_size_by_dataset
    yield (
        f"The memory target of {subject.replanned.decisions.gpu_memory_gb:g} GB allows {memory}; the rule that a batch "
        f"holds at most {part} of the data set's voxels, lest it be learnt by heart, allows {cap}."
    )
    if min(memory, cap) < MIN_BATCH_SIZE:
        yield f"Fewer than {MIN_BATCH_SIZE} are never planned, so that decides."
    elif memory == cap:
        yield "Both agree."
    else:
        yield f"The {'memory' if memory < cap else 'size of the data set'} decides."


def _lowres(subject: Subject) -> Iterator[str]:
    lowres = subject.replanned.decisions.lowres
    if lowres is None:
        yield "The images are two-dimensional, so there are no 3D configurations."
        return
    covers = _percent(lowres.patch_fraction)
    limit = _percent(LOWRES_BELOW_PATCH_FRACTION)
    if lowres.reduction is None:
        yield f"None is planned: a patch at full resolution covers {covers} of the image, not less than {limit}."
    elif lowres.network is None:
        yield (
            f"None is planned: a patch at full resolution covers {covers} of the image, less than {limit}, but the "
            f"lower resolution would have only {lowres.reduction:.2g} times fewer voxels, and less than twice is not "
            "worth it."
        )
    else:
        yield (
            f"A patch at full resolution covers only {covers} of the image, less than {limit}, so the network could "
            f"miss where it is. 3d_lowres sees the image at {_mm(lowres.network.spacing_mm)}, with "
            f"{lowres.reduction:.3g} times fewer voxels, and 3d_cascade_fullres refines what it finds."
        )


def _normalization(subject: Subject) -> Iterator[str]:
    configuration, relative = subject.configuration, subject.fingerprint.median_relative_size_after_cropping
    named = list(zip(subject.description.channel_names, configuration.normalization_schemes, strict=False))
    for scheme in dict.fromkeys(configuration.normalization_schemes):
        channels = ", ".join(name for name, used in named if used == scheme)
        yield f"{channels}: {_NORMALIZATION_WORDS[scheme]} ({scheme})."
    if subject.changed("normalization_schemes"):
        yield "This was set by hand; the planner goes by the channel's name."
    else:
        yield "The name of the channel in dataset.json decides."
    if subject.changed("use_mask_for_norm"):
        yield "Whether only voxels inside the object count was set by hand."
    elif any(configuration.use_mask_for_norm):
        yield (
            f"Only voxels inside the object count, because cutting off the border left {_percent(relative)} of the "
            f"image, less than {_percent(MASK_BELOW_RELATIVE_SIZE)}."
        )


def _memory(subject: Subject) -> Iterator[str]:
    network, step = subject.replanned.network, subject.step
    if step is None or subject.planned_elements is None:
        yield "It cannot be estimated for a network that is not one of nnU-Net's own; measure it on the device."
        return
    yield (
        f"The planner counts {subject.planned_elements / 1e6:.1f} million elements in the feature maps of one sample, "
        f"where {network.reference_elements / 1e6:.1f} million stand for {subject.replanned.decisions.gpu_memory_gb:g} "
        f"GB with a batch of {network.reference_batch_size}."
    )
    yield (
        f"Estimate in bytes for a training step with SGD in mixed precision: {_gb(step.total)} "
        f"({_gb(step.activations)} for the activations of the batch, {_gb(step.temporary)} for gradients of maps, "
        f"{_gb(step.parameters + step.gradients + step.optimizer)} for parameters, their gradients and the optimizer). "
        "It is an estimate, not a measurement: the libraries' working space, often 0.5 to 1 GB on a GPU, comes on top."
    )


def _changes(subject: Subject) -> Iterator[str]:
    replanned = subject.replanned
    if not replanned.planner_is_known:
        yield (
            f"The planner {subject.plan.experiment_planner_used} is not known here; the reasons above are those of "
            f"{replanned.decisions.preset.name}."
        )
    if replanned.spacing_is_own_choice:
        yield "The full-resolution spacing is not the planner's own; the rest is compared with a plan at that spacing."
    if replanned.ancestor is None:
        yield f"The configuration {subject.configuration.name} was made by hand: the planner plans none of its name."
    if replanned.differences:
        yield (
            "Not as the planner would choose it now (edited, planned for another GPU memory, or by another version of "
            "nnU-Net):"
        )
        listed = replanned.differences[:_MAX_LISTED_DIFFERENCES]
        yield "; ".join(_difference(difference) for difference in listed) + "."
        if len(replanned.differences) > len(listed):
            yield f"And {len(replanned.differences) - len(listed)} more."


def _difference(difference: Difference) -> str:
    planner = "nothing" if difference.planned is None else str(difference.planned)
    return f"{difference.key} is {difference.in_plan}, the planner writes {planner}"


def _sizes(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def _mm(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values) + " mm"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %" if fraction < 1 else "100 %"


def _percents(fractions: Sequence[float]) -> str:
    return ", ".join(_percent(fraction) for fraction in fractions)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _gb(size: int) -> str:
    return f"{size / 1e9:.2g} GB"
