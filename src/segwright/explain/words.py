"""The sentences of an explanation. Every number in them comes from the plan or from a decision of the planner."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segwright.explain.comparison import Difference, Replanned
from segwright.explain.cost import StepMemory, not_trained_yet
from segwright.planning.configuration import Configuration
from segwright.planning.decisions import (
    BASE_FEATURES,
    LOWRES_BELOW_PATCH_FRACTION,
    MAX_FEATURES,
    MIN_BATCH_SIZE,
    START_EDGE,
)
from segwright.planning.plan import Plan
from segwright.planning.planner import MASK_BELOW_RELATIVE_SIZE
from segwright.planning.spacing import ANISOTROPY_THRESHOLD
from segwright.planning.topology import MIN_FEATURE_MAP_EDGE, SIMILAR_SPACING, AxisStop
from segwright.planning.wording import count, gigabytes, ordinal, sizes, times

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
_AXES = "zyx"  # of an image's array
_ENDINGS_WITH_X_FIRST = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl")
# what the reader of photographs writes for the distance between slices that there are not (nnU-Net v2)
NO_SPACING_MM = 999


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

    @property
    def is_flat(self) -> bool:
        """Whether the images are single slices, such as photographs."""
        target = self.replanned.decisions.target
        return target.median_shape[target.coarsest_axis] == 1

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
        ("Training", _training(subject)),
        ("Changes by hand", _changes(subject)),
    ):
        text = " ".join(sentences)
        if text:
            yield topic, text


def _data(subject: Subject) -> Iterator[str]:
    channels, target = subject.description.channel_names, subject.replanned.decisions.target
    labels = subject.description.labels
    classes = count(len(labels.classes), "region" if labels.has_regions else "label")
    yield (
        f"{count(subject.description.num_training, 'training image')} with {count(len(channels), 'channel')} "
        f"({', '.join(channels)}) and {classes} to find."
    )
    shape, spacing = target.median_shape, target.median_spacing_mm
    if subject.is_flat:
        flat = [axis for axis in range(3) if axis != target.coarsest_axis]
        size, pixel = [shape[axis] for axis in flat], [spacing[axis] for axis in flat]
        yield f"They are single slices; their median size is {sizes(size)} pixels of {_mm(pixel)}."
        if spacing[target.coarsest_axis] == NO_SPACING_MM:
            yield "Such files carry no spacing, so a pixel counts as 1 mm."
    else:
        yield f"Their median size is {sizes(shape)} voxels of {_mm(spacing)}, in the order z, y, x."
        if _names_x_first(subject):
            yield "Viewers and the files' headers name x first."
    yield "Borders that hold nothing but zeros are cut off first."


def _spacing(subject: Subject) -> Iterator[str]:
    configuration = subject.configuration
    ancestor = subject.replanned.ancestor
    voxels = "pixels" if configuration.is_2d else "voxels"
    yield f"Images are resampled to {voxels} of {_mm(configuration.spacing_mm)}, so that all have the same scale."
    if ancestor is None or subject.changed("spacing"):
        yield "This spacing was written into the plan by hand."
    elif ancestor == "3d_lowres":
        lowres = subject.replanned.decisions.lowres
        assert lowres is not None
        yield (
            f"It is the full-resolution spacing, made coarser in {lowres.num_steps} steps of 3 %, the finer axes first "
            "where they were more than twice as fine, until a patch covered a quarter of the image."
        )
    elif configuration.is_2d:
        yield from _spacing_rule_2d(subject)
    else:
        yield from _spacing_rule(subject)
    if configuration.resampling_data.function == "no_resampling_hack":
        yield "But this plan turns resampling off: every image keeps its own spacing."
    yield f"The median image then has {sizes(configuration.median_image_size_in_voxels)} {voxels}."


def _spacing_rule_2d(subject: Subject) -> Iterator[str]:
    target = subject.replanned.decisions.target
    if subject.is_flat:
        yield "It is the median of the training images."
        return
    across = subject.plan.transpose_forward[0]
    if target.rule == "override":
        yield "It was chosen by hand."
    elif target.rule == "median" or across == target.coarsest_axis:
        yield "It is the median of the training images along the two axes of a slice."
    else:
        yield "It is the spacing of full resolution along the two axes of a slice."
    yield f"Slices are cut across {_axis(across, subject)}, whose spacing plays no part in 2D."


def _spacing_rule(subject: Subject) -> Iterator[str]:
    target = subject.replanned.decisions.target
    worst = target.median_spacing_mm[target.coarsest_axis]
    next_coarsest = max(v for axis, v in enumerate(target.median_spacing_mm) if axis != target.coarsest_axis)
    slices = target.median_shape[target.coarsest_axis]
    if target.rule == "override":
        yield f"It was chosen by hand; the median of the training images is {_mm(target.median_spacing_mm)}."
    elif target.rule == "10th percentile":
        yield (
            f"Slices are {worst:.4g} mm apart, more than {ANISOTROPY_THRESHOLD} times the {next_coarsest:.4g} mm "
            f"within them, and there are few ({slices:.4g} at the median). At the median spacing, images with finer "
            "slices would lose detail that only they have, so that axis takes a spacing that at most about a tenth of "
            f"the images are finer than: {target.spacing_mm[target.coarsest_axis]:.4g} mm. The others take their "
            "median."
        )
        if target.was_held_above_other_axes:
            yield "That tenth is finer than the slices' own pixels, so it was held just above their spacing."
    else:
        yield (
            "It is the median of the training images along each axis: at most half of them are finer, at most half "
            "coarser."
        )
        if target.spacing_is_anisotropic:
            yield (
                f"Slices are far apart ({worst:.4g} mm against {next_coarsest:.4g} mm), but there are enough of them "
                f"({slices:.4g}) to keep the median."
            )


def _transpose(subject: Subject) -> Iterator[str]:
    plan, target = subject.plan, subject.replanned.decisions.target
    if subject.is_flat and plan.transpose_forward == (0, 1, 2):
        return
    if subject.replanned.transpose_is_own_choice:
        yield f"The axes of the images are taken in the order {_order(plan)}, which was chosen by hand."
    elif plan.transpose_forward == (0, 1, 2):
        yield "The axes stay in the order z, y, x, because z is already the coarsest, or none is coarser than it."
    else:
        first = plan.transpose_forward[0]
        yield (
            f"A{_axis(first, subject)[1:]} is put first, because its spacing of "
            f"{target.spacing_mm[first]:.4g} mm is the coarsest; sizes below are in the order {_order(plan)}."
        )


def _axis(axis: int, subject: Subject) -> str:
    """Name an axis of the images, whose arrays are (z, y, x)."""
    place = ("last", "second", "first")[axis]
    in_header = f" (the {place} in the file's header)" if _names_x_first(subject) else ""
    return f"axis {_AXES[axis]} of the images{in_header}"


def _names_x_first(subject: Subject) -> bool:
    return subject.description.file_ending.lower() in _ENDINGS_WITH_X_FIRST


def _order(plan: Plan) -> str:
    return ", ".join(_AXES[axis] for axis in plan.transpose_forward)


def _patch(subject: Subject) -> Iterator[str]:
    configuration, network = subject.configuration, subject.replanned.network
    patch, median = configuration.patch_size, configuration.median_image_size_in_voxels
    covers = [min(edge / whole, 1) for edge, whole in zip(patch, median, strict=True)]
    physical = [edge * mm for edge, mm in zip(patch, configuration.spacing_mm, strict=True)]
    seen = f"{sizes(patch)} {'pixels' if configuration.is_2d else 'voxels'} ({_mm(physical)})"
    if min(covers) == 1:
        yield f"The network sees {seen} at a time: the whole of the median image."
    else:
        yield (
            f"The network sees {seen} at a time. Along its axes that is {_list(map(_percent, covers))} of the median "
            f"image, and {_percent(math.prod(covers))} of it in all{_counted_whole(patch, median)}."
        )
    planned = network.topology.patch_size
    if patch != planned:
        yield f"The planner would take {sizes(planned)}."
        return
    if network.num_shrinks:
        shape = "square" if configuration.is_2d else "block"
        yield (
            f"The planner began with {sizes(network.first_patch_size)}: the median image or, where that is larger, a "
            f"{shape} about as long in mm on every side. It shortened the side that covered most of the image "
            f"{_times(network.num_shrinks)}, until the network fitted the memory."
        )
    elif any(edge < whole for edge, whole in zip(network.first_patch_size, network.median_shape, strict=True)):
        start = f"a square of {START_EDGE[2]} pixels" if configuration.is_2d else f"a block of {START_EDGE[3]} voxels"
        yield (
            f"The planner begins with at most {start} a side, or one that holds as many and is about as long in mm on "
            "every side. That fitted the memory, so the planner stayed there, though the images are larger."
        )
    else:
        yield "The planner's first choice fitted the memory, so nothing was cut off."
    if network.topology.num_stages > 1:
        yield (
            f"Each side is a multiple of {sizes(network.topology.divisor)}, because the network halves it again and "
            "again."
        )


def _counted_whole(patch: Sequence[int], median: Sequence[float]) -> str:
    """What the planner says of a patch that is longer than the image: it counts the part that lies outside too."""
    if all(edge <= whole for edge, whole in zip(patch, median, strict=True)):
        return ""
    fraction = math.prod(patch) / math.prod(median)
    return f" ({100 * fraction:.3g} % as the planner counts, with the part of the patch that lies outside the image)"


def _depth(subject: Subject) -> Iterator[str]:
    architecture, network = subject.configuration.architecture, subject.replanned.network
    if architecture.kind == "other":
        yield f"The network {architecture.network_class_name} was set by hand; its depth is its own matter."
        return
    yield (
        f"The network works on the patch at {count(architecture.num_stages, 'resolution')}; from the first to the "
        f"last the axes shrink by {sizes(architecture.total_stride)}."
    )
    if architecture.num_stages == 1:
        yield (
            "Such a network cannot be trained, because a U-Net needs a coarser resolution beneath the finest. Plan the "
            "data set with a finer target spacing."
        )
    topology, patch = network.topology, subject.configuration.patch_size
    if architecture.strides != topology.strides or patch != topology.patch_size:
        yield "This is not the depth that the planner would choose for its own patch, so its reasons do not apply."
        return
    unit = "pixel" if subject.configuration.is_2d else "voxel"
    axes_told: dict[str, list[str]] = {}
    for axis, (pools, stop) in enumerate(zip(topology.num_pool_per_axis, topology.stops, strict=True)):
        halved = f"halved {_times(pools)}, from {patch[axis]} to {count(stop.edge, unit)}" if pools else "not halved"
        axes_told.setdefault(f"{halved}: {_stop_reason(stop)}.", []).append(ordinal(axis))
    for told, axes in axes_told.items():
        yield f"The {axes[0]} axis is {told}" if len(axes) == 1 else f"The {_list(axes)} axes are each {told}"
    if any(1 in kernel for kernel in architecture.kernel_sizes):
        yield (
            "Kernels are flat (1 voxel) along an axis while it is at least "
            f"{SIMILAR_SPACING} times as coarse as the finest, so that distances in mm stay alike."
        )


def _stop_reason(stop: AxisStop) -> str:
    if stop.reason == "too short":
        return f"another halving would need at least {2 * MIN_FEATURE_MAP_EDGE}"
    if stop.reason == "too coarse":
        return (
            f"its spacing is by then {stop.spacing_mm:.4g} mm, at least {SIMILAR_SPACING} times that of the axes that "
            "could go on"
        )
    return f"no other axis can go on with it, and alone it would need {3 * MIN_FEATURE_MAP_EDGE}"


def _network(subject: Subject) -> Iterator[str]:
    configuration, architecture = subject.configuration, subject.configuration.architecture
    if subject.num_parameters is None:
        return
    kind = "residual encoder U-Net" if architecture.kind == "residual" else "plain U-Net"
    features = architecture.features_per_stage
    yield (
        f"A {kind} with {_list(map(str, features))} features (patterns that it looks for) from the finest to the "
        "coarsest resolution."
    )
    limit = MAX_FEATURES[len(configuration.patch_size)]
    if features == tuple(min(limit, BASE_FEATURES * 2**stage) for stage in range(len(features))):
        yield f"They begin with {BASE_FEATURES} and double at each halving, up to {limit}."
    if configuration.previous_stage is not None:
        more = count(len(subject.description.labels.foreground_labels), "more channel")
        yield f"Beside the image it sees what {configuration.previous_stage} found, as {more}, one for each label."
    yield f"{subject.num_parameters / 1e6:.1f} million parameters."


def _batch(subject: Subject) -> Iterator[str]:
    configuration, network = subject.configuration, subject.replanned.network
    unit = "slices" if configuration.is_2d else "patches"
    yield f"{configuration.batch_size} {unit} a batch."
    if configuration.batch_size != network.batch_size:
        own = sizes(network.topology.patch_size)
        yield f"The planner would take {network.batch_size}, with its own patch of {own}, for these reasons:"
    memory, cap = network.batch_size_by_memory, network.batch_size_by_dataset
    yield f"The memory target of {subject.replanned.decisions.gpu_memory_gb:g} GB allows {memory};"
    if network.max_dataset_covered < 1:
        part = _percent(network.max_dataset_covered)
        yield (
            f"the rule that a batch holds at most {part} of the data set's voxels, lest it be learnt by heart, "
            f"allows {cap}."
        )
    else:
        yield f"a batch may hold as many voxels as the whole data set, which allows {cap}."
    if min(memory, cap) < MIN_BATCH_SIZE:
        yield f"But fewer than {MIN_BATCH_SIZE} are never planned, and this minimum decides."
    elif memory == cap:
        yield "Both agree."
    else:
        yield f"The {'memory' if memory < cap else 'size of the data set'} decides."


def _lowres(subject: Subject) -> Iterator[str]:
    lowres = subject.replanned.decisions.lowres
    if lowres is None:
        yield "The images are two-dimensional, so there are no 3D configurations."
        return
    covers = f"{100 * lowres.patch_fraction:.3g} % of the image"
    fullres = subject.replanned.decisions.fullres
    if fullres is not None and _counted_whole(fullres.topology.patch_size, fullres.median_shape):
        covers += " (counting the part of the patch that lies outside it)"
    limit = _percent(LOWRES_BELOW_PATCH_FRACTION)
    if lowres.reduction is None:
        yield f"None is planned: a patch at full resolution covers {covers}, not less than {limit}."
    elif lowres.network is None:
        yield (
            f"None is planned: a patch at full resolution covers {covers}, less than {limit}, but the "
            f"lower resolution would have only {lowres.reduction:.2g} times fewer voxels, and less than twice is not "
            "worth it."
        )
    else:
        reduction = times(lowres.reduction) if lowres.reduction >= 100 else f"{lowres.reduction:.3g}"
        yield (
            f"A patch at full resolution covers only {covers}, less than {limit}, so the network could "
            f"miss where it is. 3d_lowres sees the image at {_mm(lowres.network.spacing_mm)}, with "
            f"{reduction} times fewer voxels, and 3d_cascade_fullres refines what it finds."
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
    network = subject.replanned.network
    if subject.planned_elements is None:
        if subject.configuration.architecture.kind == "other":
            yield (
                "It cannot be computed for a network that is not one of nnU-Net's own; --measure measures it on the "
                "device."
            )
        else:
            yield "It is not computed for a network that cannot be trained."
        return
    yield (
        "In the planner's own unit, the feature maps (what the network computes at each resolution) of one sample hold "
        f"{subject.planned_elements / 1e6:.1f} million elements, where {network.reference_elements / 1e6:.1f} million "
        f"stand for {subject.replanned.decisions.gpu_memory_gb:g} GB with a batch of {network.reference_batch_size}."
    )


def memory_paragraphs(cuda: StepMemory, cpu: StepMemory) -> Iterator[tuple[str, str]]:
    """Yield what a training step holds, and how far that can be relied on: topics with their text."""
    yield (
        "Memory of a step",
        f"A training step holds {gigabytes(cuda.total)} on a GPU in mixed precision (most numbers in 2 bytes instead "
        f"of 4): {gigabytes(cuda.activations)} are feature maps, kept for the backward pass, "
        f"{gigabytes(cuda.temporary)} their gradients and copies, "
        f"{gigabytes(cuda.parameters + cuda.gradients + cuda.optimizer)} parameters, their gradients and the "
        f"optimizer's state. On a CPU it holds {gigabytes(cpu.total)}.",
    )
    yield (
        "Beyond the step",
        "The bytes are those of torch's own tensors. What the libraries work with comes on top, on a GPU often 0.5 to "
        "1 GB, and the process keeps memory that was released for later. On CPUs the measured plans were within 15 %; "
        "on a GPU nothing has been measured yet. --measure measures a step on this machine.",
    )


def _training(subject: Subject) -> Iterator[str]:
    told = not_trained_yet(subject.configuration, subject.description)
    if told is not None:
        yield told


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
    in_plan = "missing" if difference.is_missing else difference.in_plan
    return f"{difference.key} is {in_plan}, the planner writes {planner}"


def _mm(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values) + " mm"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %" if fraction < 1 else "100 %"


def _list(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
