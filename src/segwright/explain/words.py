"""The decisions of a plan in words: rows of a table, and paragraphs with what the rows leave out.

Every number comes from the plan or from a decision of the planner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segwright.explain.comparison import Replanned
from segwright.explain.cost import StepMemory
from segwright.planning.decisions import LOWRES_BELOW_PATCH_FRACTION, MIN_BATCH_SIZE, START_EDGE
from segwright.planning.planner import MASK_BELOW_RELATIVE_SIZE
from segwright.planning.spacing import ANISOTROPY_THRESHOLD
from segwright.planning.topology import MIN_FEATURE_MAP_EDGE, SIMILAR_SPACING, AxisStop
from segwright.planning.wording import count, gigabytes, ordinal, sizes, times

if TYPE_CHECKING:
    from segwright.fingerprint import Fingerprint
    from segwright.task import Task

_NORMALIZATION = {
    "CTNormalization": "clipped to the foreground's 0.5 to 99.5 percentiles, then the data set's z-score",
    "ZScoreNormalization": "each image to mean 0 and standard deviation 1",
    "NoNormalization": "intensities as they are",
    "RescaleTo01Normalization": "each image rescaled to 0 to 1",
    "RGBTo01Normalization": "colours of 0 to 255 divided by 255",
}
_MAX_LISTED_DIFFERENCES = 12
_AXES = "zyx"  # of an image's array
_ENDINGS_WITH_X_FIRST = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl")
# what the reader of photographs writes for the distance between slices that there are not (nnU-Net v2)
NO_SPACING_MM = 999


@dataclass(frozen=True)
class Row:
    """A decision, its value, and the reason in a dozen words."""

    decision: str
    value: str
    reason: str


@dataclass(frozen=True)
class Paragraph:
    """A topic in a word or two, and what its row leaves out, in sentences."""

    topic: str
    text: str


@dataclass(frozen=True)
class Subject:
    """All that the words are about."""

    task: Task
    fingerprint: Fingerprint
    replanned: Replanned
    num_parameters: int | None
    planned_elements: int | None

    @property
    def is_flat(self) -> bool:
        """Whether the images are single slices, such as photographs."""
        target = self.replanned.decisions.target
        return target.median_shape[target.coarsest_axis] == 1

    @property
    def unit(self) -> str:
        """What a patch is made of."""
        return "pixels" if self.task.configuration.is_2d else "voxels"

    @property
    def memory(self) -> str:
        """The memory that was planned for."""
        return f"{self.replanned.decisions.gpu_memory_gb:g} GB"

    def changed(self, *keys: str) -> bool:
        """Whether one of these keys differs from what the planner would write."""
        return any(difference.key in keys for difference in self.replanned.differences)


def describe_decisions(subject: Subject) -> tuple[tuple[Row, ...], tuple[Paragraph, ...]]:
    """Describe the decisions in the order in which the planner takes them; the memory of a step is not among them."""
    rows: list[Row] = []
    paragraphs = []
    for topic, words in (
        ("Data", _data(subject)),
        ("Spacing", _spacing(subject)),
        ("Order of axes", _transpose(subject)),
        ("Patch", _patch(subject)),
        ("Depth", _depth(subject)),
        ("Network", _network(subject)),
        ("Batch size", _batch(subject)),
        ("Normalisation", _normalization(subject)),
        ("Low resolution", _lowres(subject)),
        ("Memory", _memory(subject)),
        ("Training", _training(subject)),
        ("Changes by hand", _changes(subject)),
    ):
        said = list(words)
        rows += [each for each in said if isinstance(each, Row)]
        text = " ".join(each for each in said if isinstance(each, str) and each)
        if text:
            paragraphs.append(Paragraph(topic, text))
    return tuple(rows), tuple(paragraphs)


def _data(subject: Subject) -> Iterator[str]:
    description, target = subject.task.description, subject.replanned.decisions.target
    classes = count(len(description.labels.classes), "region" if description.labels.has_regions else "label")
    channels = f"{count(len(description.channel_names), 'channel')} ({', '.join(description.channel_names)})"
    yield f"{count(description.num_training, 'training image')}, {channels}, {classes}."
    shape, spacing = target.median_shape, target.median_spacing_mm
    if subject.is_flat:
        flat = [axis for axis in range(3) if axis != target.coarsest_axis]
        size, pixel = [shape[axis] for axis in flat], [spacing[axis] for axis in flat]
        yield f"Single slices, at the median {sizes(size)} pixels of {_mm(pixel)}."
        if spacing[target.coarsest_axis] == NO_SPACING_MM:
            yield "The files carry no spacing, so a pixel counts as 1 mm."
    else:
        yield f"At the median {sizes(shape)} voxels of {_mm(spacing)}, axes z, y, x, without borders of zeros."


def _spacing(subject: Subject) -> Iterator[Row | str]:
    configuration, target = subject.task.configuration, subject.replanned.decisions.target
    lowres, ancestor = subject.replanned.decisions.lowres, subject.replanned.ancestor
    across = subject.task.plan.transpose_forward[0]
    value, detail = _mm(configuration.spacing_mm), ""
    if configuration.resampling_data.function == "no_resampling_hack":
        value, reason = "each image's own", "this plan turns resampling off"
    elif ancestor is None or subject.changed("spacing"):
        reason = "written into the plan by hand"
    elif ancestor == "3d_lowres" and lowres is not None:
        reason = "full resolution made coarser until a patch covers a quarter of the image"
        detail = f"{lowres.num_steps} steps of 3 %, the finer axes first where they were more than twice as fine."
    elif target.rule == "override":
        reason = f"chosen by hand; the median of the images is {_mm(target.median_spacing_mm)}"
    elif configuration.is_2d:
        is_median = subject.is_flat or target.rule == "median" or across == target.coarsest_axis
        reason = "median of the training images" if is_median else "that of full resolution"
        reason += "" if subject.is_flat else ", along the axes of a slice"
    elif target.rule == "10th percentile":
        reason = "10th percentile across the few thick slices, median along the other axes"
        detail = _percentile_detail(subject)
    else:
        reason = "median of the training images along each axis"
    yield Row("spacing", value, reason)
    yield detail
    if configuration.is_2d and not subject.is_flat:
        yield f"Slices are cut across {_axis(across, subject)}; its spacing plays no part in 2D."
    yield f"The median image then has {sizes(configuration.median_image_size_in_voxels)} {subject.unit}."


def _percentile_detail(subject: Subject) -> str:
    target = subject.replanned.decisions.target
    coarsest, mm = target.coarsest_axis, target.median_spacing_mm
    within = max(value for axis, value in enumerate(mm) if axis != coarsest)
    held = ", held just above the spacing within slices" if target.was_held_above_other_axes else ""
    return (
        f"The {target.median_shape[coarsest]:.4g} slices are {mm[coarsest]:.4g} mm apart, more than "
        f"{ANISOTROPY_THRESHOLD} times the {within:.4g} mm within them. The median would lose detail of images with "
        f"thinner slices, so at most about a tenth are thinner than {target.spacing_mm[coarsest]:.4g} mm{held}."
    )


def _transpose(subject: Subject) -> Iterator[Row | str]:
    plan, target = subject.task.plan, subject.replanned.decisions.target
    order, first = ", ".join(_AXES[axis] for axis in plan.transpose_forward), plan.transpose_forward[0]
    if subject.replanned.transpose_is_own_choice:
        yield Row("axes", order, "chosen by hand")
    elif plan.transpose_forward != (0, 1, 2):
        yield Row("axes", order, f"{_AXES[first]} comes first, its {target.spacing_mm[first]:.4g} mm are the coarsest")
        yield f"A{_axis(first, subject)[1:]} is put first; sizes here are in the order {order}."


def _axis(axis: int, subject: Subject) -> str:
    """Name an axis of the images, whose arrays are (z, y, x)."""
    place = ("last", "second", "first")[axis]
    names_x_first = subject.task.description.file_ending.lower() in _ENDINGS_WITH_X_FIRST
    return f"axis {_AXES[axis]} of the images{f' (the {place} in the file header)' if names_x_first else ''}"


def _patch(subject: Subject) -> Iterator[Row | str]:
    configuration, network = subject.task.configuration, subject.replanned.network
    patch, median = configuration.patch_size, configuration.median_image_size_in_voxels
    covers = [min(edge / whole, 1) for edge, whole in zip(patch, median, strict=True)]
    percents = " × ".join(f"{100 * part:.0f}" for part in covers)
    seen = "the whole median image" if min(covers) == 1 else f"{percents} % of the median image"
    capped = any(edge < whole for edge, whole in zip(network.first_patch_size, network.median_shape, strict=True))
    if patch != network.topology.patch_size:
        reason = f"{seen}; the planner would take {sizes(network.topology.patch_size)}"
    elif network.num_shrinks:
        reason = f"{seen}; shortened {_times(network.num_shrinks)} to fit {subject.memory}"
    else:
        reason = f"{seen}; {'where the planner begins, ' if capped else ''}fits {subject.memory}"
    yield Row("patch", f"{sizes(patch)} {subject.unit}", reason)
    physical = _mm([edge * mm for edge, mm in zip(patch, configuration.spacing_mm, strict=True)])
    yield f"{physical}, {_share(math.prod(covers))} of the median image."
    if patch == network.topology.patch_size and network.num_shrinks:
        yield (
            f"The planner began with {sizes(network.first_patch_size)}: the median image or, where that is larger, "
            "about equal sides in mm. It shortened the side that covered most of the image until the network fitted."
        )
    elif patch == network.topology.patch_size and capped:
        yield f"The planner begins with about {START_EDGE[len(patch)]} {subject.unit} a side, and never goes beyond."
    if network.topology.num_stages > 1:
        yield f"Each side is a multiple of {sizes(network.topology.divisor)}, because the network downsamples it."


def _depth(subject: Subject) -> Iterator[Row | str]:
    architecture, topology = subject.task.configuration.architecture, subject.replanned.network.topology
    patch, stride = subject.task.configuration.patch_size, sizes(architecture.total_stride)
    if architecture.kind == "other":
        yield Row("depth", architecture.network_class_name, "set by hand, not one of nnU-Net's networks")
        return
    as_planned = architecture.strides == topology.strides and patch == topology.patch_size
    if architecture.num_stages == 1:
        reason = "cannot be trained: a U-Net needs two; plan with a finer target spacing"
    elif as_planned:
        deepest = sizes(stop.edge for stop in topology.stops)
        coarse = [ordinal(axis) for axis, stop in enumerate(topology.stops) if stop.reason == "too coarse"]
        too = f"the {_list(coarse)} axis too coarse, the rest too short" if coarse else "too short"
        reason = f"downsampled by {stride} to {deepest}, {too} to pool again"
    elif architecture.strides == topology.strides:
        reason = f"downsampled by {stride}, as planned for a patch of {sizes(topology.patch_size)}"
    else:
        planned = f"{topology.num_stages}, by {sizes(topology.divisor)}, for its own patch"
        reason = f"downsampled by {stride}; the planner would take {planned}"
    yield Row("depth", count(architecture.num_stages, "stage"), reason)
    if as_planned and architecture.num_stages > 1:
        by_words: dict[str, list[str]] = {}
        for axis, (pools, stop) in enumerate(zip(topology.num_pool_per_axis, topology.stops, strict=True)):
            pooled = f"pooled {_times(pools)}, from {patch[axis]} to {stop.edge}" if pools else "not pooled"
            by_words.setdefault(f"{pooled} ({_stop_reason(stop)})", []).append(ordinal(axis))
        yield f"Axes: {'; '.join(f'{_list(axes)} {words}' for words, axes in by_words.items())}."
    if any(1 in kernel for kernel in architecture.kernel_sizes):
        yield f"Kernels have size 1 along an axis while its spacing is {SIMILAR_SPACING} times the finest or more."


def _stop_reason(stop: AxisStop) -> str:
    if stop.reason == "too coarse":
        return f"by then of {stop.spacing_mm:.4g} mm, at least {SIMILAR_SPACING} times those of axes that go on"
    least, alone = (2, "") if stop.reason == "too short" else (3, " without another axis")
    return f"pooling again{alone} needs {least * MIN_FEATURE_MAP_EDGE} or more"


def _network(subject: Subject) -> Iterator[Row | str]:
    configuration = subject.task.configuration
    if subject.num_parameters is None:
        return
    features = configuration.architecture.features_per_stage
    kind = "residual encoder U-Net" if configuration.architecture.kind == "residual" else "plain U-Net"
    limit = f", at most {features[-1]}" if features[-1:] == features[-2:-1] else ""
    doubled = features == tuple(min(features[0] * 2**stage, features[-1]) for stage in range(len(features)))
    growth = f"doubled per stage{limit}; " if doubled else ""
    words = f"{growth}{kind}, {subject.num_parameters / 1e6:.1f} million parameters"
    yield Row("features", f"{features[0]} to {features[-1]}", words)
    yield f"Feature maps per stage: {_list(map(str, features))}."
    if subject.task.num_previous_channels:
        yield (
            f"Inputs: {subject.task.num_image_channels} of the image and {subject.task.num_previous_channels} with the "
            f"labels that {configuration.previous_stage} found."
        )


def _batch(subject: Subject) -> Iterator[Row | str]:
    size, network = subject.task.configuration.batch_size, subject.replanned.network
    memory, cap, part = (
        network.batch_size_by_memory,
        network.batch_size_by_dataset,
        _percent(network.max_dataset_covered),
    )
    if size != network.batch_size:
        reason = f"the planner would take {network.batch_size}, with its patch of {sizes(network.topology.patch_size)}"
    elif min(memory, cap) < MIN_BATCH_SIZE:
        reason = f"the minimum; {subject.memory} allow {memory}, {part} of the data set's voxels {cap}"
    elif memory <= cap:
        reason = f"the most that {subject.memory} allow; {part} of the data set's voxels allow {cap}"
    else:
        reason = f"at most {part} of the data set's voxels, against overfitting; {subject.memory} allow {memory}"
    yield Row("batch size", str(size), reason)
    if size != network.batch_size:
        yield f"For that, {subject.memory} allow {memory}; {part} of the data set's voxels allow {cap}."


def _lowres(subject: Subject) -> Iterator[Row | str]:
    lowres, fullres = subject.replanned.decisions.lowres, subject.replanned.decisions.fullres
    if lowres is None:
        yield Row("low resolution", "none", "the images are two-dimensional")
        return
    limit = _percent(LOWRES_BELOW_PATCH_FRACTION)
    covers = f"a full-resolution patch covers {_share(lowres.patch_fraction)} of the image"
    if lowres.reduction is None:
        yield Row("low resolution", "none", f"{covers}; planned only below {limit}")
    elif lowres.network is None:
        words = f"{covers}, but only {lowres.reduction:.2g} times fewer voxels; worth it from 2"
        yield Row("low resolution", "none", words)
    else:
        fewer = times(lowres.reduction) if lowres.reduction >= 100 else f"{lowres.reduction:.3g}"
        words = f"{covers}, less than {limit}; {fewer} times fewer voxels"
        yield Row("low resolution", _mm(lowres.network.spacing_mm), words)
        yield "The network could miss where a patch lies: 3d_cascade_fullres refines what 3d_lowres finds."
    planned = () if fullres is None else zip(fullres.topology.patch_size, fullres.median_shape, strict=True)
    if any(edge > whole for edge, whole in planned):
        yield "The share of the image counts the part of the patch that lies outside."


def _normalization(subject: Subject) -> Iterator[Row | str]:
    configuration, channels = subject.task.configuration, subject.task.description.channel_names
    schemes = tuple(dict.fromkeys(configuration.normalization_schemes))
    chosen = "set by hand" if subject.changed("normalization_schemes") else "by channel name"
    masked = ", of the object only" if any(configuration.use_mask_for_norm) else ""
    for scheme in schemes:
        named = zip(channels, configuration.normalization_schemes, strict=False)
        own = f" ({', '.join(name for name, used in named if used == scheme)})" if len(schemes) > 1 else ""
        yield Row("normalisation", f"{scheme}{own}", f"{_NORMALIZATION[scheme]}{masked}; {chosen}")
    if subject.changed("use_mask_for_norm"):
        yield "Whether only voxels of the object count was set by hand."
    elif any(configuration.use_mask_for_norm):
        yield (
            f"Only voxels of the object count, because cropping left "
            f"{_percent(subject.fingerprint.median_relative_size_after_cropping)} of the image, less than "
            f"{_percent(MASK_BELOW_RELATIVE_SIZE)}."
        )


def _memory(subject: Subject) -> Iterator[Row | str]:
    network = subject.replanned.network
    if subject.planned_elements is not None:
        yield (
            f"The planner counts {subject.planned_elements / 1e6:.1f} million elements of feature maps in one sample, "
            f"where {network.reference_elements / 1e6:.1f} million stand for {subject.memory} with a batch of "
            f"{network.reference_batch_size}."
        )
    elif subject.task.configuration.architecture.kind == "other":
        yield Row("memory", "not counted", "not one of nnU-Net's networks; --measure takes steps of it")
    else:
        yield Row("memory", "not counted", "the network cannot be trained")


def describe_step_memory(cuda: StepMemory, cpu: StepMemory) -> tuple[Row, tuple[Paragraph, ...]]:
    """Describe what a training step holds."""
    value = f"{gigabytes(cuda.total)} on a GPU, {gigabytes(cpu.total)} on a CPU"
    weights = gigabytes(cuda.parameters + cuda.gradients + cuda.optimizer)
    return Row("memory", value, f"of a training step; {gigabytes(cuda.activations)} on the GPU are feature maps"), (
        Paragraph(
            "Memory of a step",
            f"On a GPU in mixed precision {gigabytes(cuda.activations)} are feature maps kept for the backward pass, "
            f"{gigabytes(cuda.temporary)} their gradients and copies, {weights} parameters, their gradients and the "
            f"state of the optimizer. In float32 on a CPU the total is {gigabytes(cpu.total)}.",
        ),
        Paragraph(
            "Beyond the step",
            "Only tensors are counted: libraries add 0.5 to 1 GB on most GPUs, and the allocator keeps memory for "
            "later. Measured steps on CPUs were within 15 %. --measure takes a step on this machine.",
        ),
    )


def untrainable(task: Task) -> str:
    """What this version cannot train of a task, in a sentence; empty where it can."""
    if not task.untrainable:
        return ""
    return f"This version cannot train {' or '.join(task.untrainable)} yet; nnunetv2 can, from the same folder."


def _training(subject: Subject) -> Iterator[Row | str]:
    if subject.task.untrainable:
        what = " or ".join(subject.task.untrainable)
        yield Row("training", "not in this version", f"cannot train {what}; nnunetv2 can, from the same folder")
        yield untrainable(subject.task)


def _changes(subject: Subject) -> Iterator[Row | str]:
    replanned, name = subject.replanned, subject.task.configuration.name
    if not replanned.planner_is_known:
        planner = subject.task.plan.experiment_planner_used
        yield f"The planner {planner} is not known; the reasons are those of {replanned.decisions.preset.name}."
    if replanned.spacing_is_own_choice:
        yield "The full-resolution spacing is not the planner's; the rest is compared with a plan at that spacing."
    if replanned.ancestor is None:
        yield f"The configuration {name} was made by hand: the planner plans none of its name."
    for each in replanned.differences[:_MAX_LISTED_DIFFERENCES]:
        key = each.key.rpartition(".")[2]
        value = f"{key} is missing" if each.is_missing else f"{key} = {each.in_plan}"
        yield Row("changed", value, "not set by the planner" if each.planned is None else f"planner: {each.planned}")
    if replanned.differences:
        changed = count(len(replanned.differences), "value")
        yield f"{changed} not the planner's: edited, or planned for another GPU memory or by another nnU-Net version."


def _mm(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values) + " mm"


def _percent(fraction: float) -> str:
    return _share(min(fraction, 1))


def _share(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _list(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
