"""What an edit of a configuration would do: memory, hours, passes over the data, and what else it asks for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from segwright.errors import PlanError, message
from segwright.explain.comparison import Replanned, plan_again, voxels_of_dataset
from segwright.explain.cost import StepMemory, batch_work, not_trained_yet, planned_elements, step_flags, step_memory
from segwright.explain.edits import Edited
from segwright.planning.budget import Budget
from segwright.planning.configuration import Configuration
from segwright.planning.decisions import MIN_BATCH_SIZE, batch_size_allowed
from segwright.planning.recipes import FULL_LENGTH_ITERATIONS
from segwright.planning.topology import choose_topology
from segwright.planning.wording import GIB, duration, gigabytes, ordinal, sizes, times

if TYPE_CHECKING:
    from segwright.dataset.description import DatasetDescription
    from segwright.fingerprint import Fingerprint
    from segwright.planning.plan import Plan

# a validation iteration is a forward pass, about a third of a training iteration
VALIDATION_SHARE = 1 / 3
_OPTIMIZER_WORDS = {"sgd": "SGD", "adamw": "AdamW"}
_AUGMENTATION_WORDS = {
    "nnunet": "nnU-Net's augmentation",
    "light": "light augmentation",
    "none": "no augmentation",
}


@dataclass(frozen=True)
class Speed:
    """A measured time of one training iteration, with the multiplications (forward) that it took, and where from."""

    seconds_per_iteration: float
    multiplications: int
    source: str

    def to_json(self) -> dict[str, Any]:
        """The three fields."""
        return asdict(self)

    def hours(self, multiplications: int, budget: Budget) -> float:
        """Hours of a training whose iterations take that many multiplications, scaled by them; validation included."""
        seconds = self.seconds_per_iteration * multiplications / self.multiplications
        return float(seconds * _iterations_with_validation(budget) / 3600)


def _iterations_with_validation(budget: Budget) -> float:
    """Training iterations that take as long as the whole run, validation included."""
    validation = budget.value("num_val_iterations_per_epoch") * VALIDATION_SHARE
    return float(budget.total_iterations + budget.value("num_epochs") * validation)


@dataclass(frozen=True)
class Side:
    """A configuration with its budget, before or after the edit.

    `multiplications` are those of a batch, forward, `work` those of the whole training, validation included;
    `elements` are the planner's, of one sample. `batch_size_allowed` is the largest batch for which the planner's count
    of elements stays within the memory that is planned for, 0 where not even one patch does.
    """

    patch_size: tuple[int, ...]
    batch_size: int
    step_cuda: StepMemory
    step_cpu: StepMemory
    multiplications: int
    work: float
    elements: int
    batch_size_allowed: int
    iterations: int
    samples: int
    passes_over_training_cases: float
    hours: float | None

    def to_json(self) -> dict[str, Any]:
        """Every field; memory in bytes."""
        return {
            "patch_size": list(self.patch_size),
            "batch_size": self.batch_size,
            "memory_cuda": self.step_cuda.to_json(),
            "memory_cpu": self.step_cpu.to_json(),
            "multiplications": self.multiplications,
            "planned_elements": self.elements,
            "batch_size_allowed": self.batch_size_allowed,
            "iterations": self.iterations,
            "samples": self.samples,
            "passes_over_training_cases": self.passes_over_training_cases,
            "hours": self.hours,
        }


@dataclass(frozen=True)
class WhatIf:
    """The answer. `fits_by_count` goes by the planner's count of elements, `fits_by_bytes` by the model of bytes."""

    edited: Edited
    now: Side
    then: Side
    gpu_memory_gb: float
    speed: Speed | None
    remarks: tuple[str, ...]

    @property
    def fits_by_count(self) -> bool:
        """Whether the planner's count allows the batch."""
        return self.then.batch_size <= self.then.batch_size_allowed

    @property
    def fits_by_bytes(self) -> bool:
        """Whether the modelled bytes are fewer than the memory that is planned for."""
        return self.then.step_cuda.total <= self.gpu_memory_gb * GIB

    @property
    def work_factor(self) -> float:
        """Time of an iteration after the edit, as a multiple of that before, by the multiplications."""
        return self.then.multiplications / self.now.multiplications

    def to_json(self) -> dict[str, Any]:
        """All of it, as a program would read it."""
        return {
            "configuration": self.edited.inherits_from,
            "name": self.edited.name,
            "edits": dict(self.edited.edits),
            "entry": dict(self.edited.entry),
            "now": self.now.to_json(),
            "then": self.then.to_json(),
            "gpu_memory_gb": self.gpu_memory_gb,
            "fits_by_count": self.fits_by_count,
            "fits_by_bytes": self.fits_by_bytes,
            "work_factor": self.work_factor,
            "speed": None if self.speed is None else self.speed.to_json(),
            "needs_preprocessing": self.edited.needs_preprocessing,
            "sentences": list(self.sentences()),
        }

    def sentences(self) -> Iterator[str]:
        """The answer in words, the most important first."""
        yield _fits(self)
        yield _memory(self)
        yield _time(self)
        yield (
            f"Budget: {self.then.iterations:,} iterations, {self.then.samples:,} patches, "
            f"{self.then.passes_over_training_cases:,.1f} passes over the training cases (now "
            f"{self.now.iterations:,}, {self.now.samples:,} and {self.now.passes_over_training_cases:,.1f})."
        )
        yield from self.edited.adapted
        yield from self.remarks

    def snippet(self) -> str:
        """The configuration as it goes into the plans file, under the key `configurations`."""
        text = json.dumps(dict(self.edited.entry), indent=4)
        for _ in range(2):  # lists of numbers, then lists of these, on one line
            text = re.sub(r"\[\s+([^{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
        return f'"{self.edited.name}": {text}'


def what_if(
    edited: Edited,
    fingerprint: Fingerprint,
    description: DatasetDescription,
    *,
    budgets: tuple[Budget, Budget],
    num_training_cases: int,
    gpu_memory_gb: float | None = None,
    speed: Speed | None = None,
) -> WhatIf:
    """Say what an edit would do, without training.

    `budgets` are those of the configuration as it is and as edited, `speed` the measured one of either.

    Raises:
        PlanError: where the data cannot be planned, or memory and time of the network cannot be computed.
    """
    both = edited.plan.configuration(edited.inherits_from), edited.configuration
    for configuration in both:
        _check_computable(configuration)
    replanned = [
        plan_again(edited.plan, fingerprint, description, configuration, gpu_memory_gb=gpu_memory_gb)
        for configuration in both
    ]
    now, then = (
        _side(edited.plan, configuration, again, description, budget, num_training_cases, speed)
        for configuration, again, budget in zip(both, replanned, budgets, strict=True)
    )
    return WhatIf(
        edited=edited,
        now=now,
        then=then,
        gpu_memory_gb=replanned[1].decisions.gpu_memory_gb,
        speed=speed,
        remarks=(*_other_recipe(budgets, edited), *_remarks(edited, then, replanned[1], description)),
    )


def _check_computable(configuration: Configuration) -> None:
    architecture = configuration.architecture
    if architecture.is_computable:
        return
    if architecture.kind == "other":
        raise PlanError(
            message(
                "--set",
                expected="a network of nnU-Net's, plain or residual, whose memory and time can be computed",
                got=architecture.network_class_name,
                remedy="Edit the plans file, and let --measure take steps of it.",
            )
        )
    raise PlanError(
        message(
            f"--set, configuration '{configuration.name}'",
            expected="a network of two resolutions or more",
            got=f"{architecture.num_stages}, which cannot be trained",
            remedy="Plan the data set with a finer target spacing.",
        )
    )


def _side(
    plan: Plan,
    configuration: Configuration,
    replanned: Replanned,
    description: DatasetDescription,
    budget: Budget,
    num_training_cases: int,
    speed: Speed | None,
) -> Side:
    batch_size = int(budget.value("batch_size"))
    elements = planned_elements(configuration, replanned.decisions.num_label_entries)
    cuda, cpu = (
        step_memory(plan, configuration.name, description, device, flags=step_flags(budget))
        for device in ("cuda", "cpu")
    )
    multiplications = batch_work(configuration, description, batch_size)
    return Side(
        patch_size=configuration.patch_size,
        batch_size=batch_size,
        step_cuda=cuda,
        step_cpu=cpu,
        multiplications=multiplications,
        work=multiplications * _iterations_with_validation(budget),
        elements=elements,
        batch_size_allowed=batch_size_allowed(
            elements,
            replanned.network.reference_elements,
            dims=len(configuration.patch_size),
            preset=replanned.decisions.preset,
        ),
        iterations=budget.total_iterations,
        samples=budget.samples,
        passes_over_training_cases=round(budget.passes_over(num_training_cases), 3),
        hours=None if speed is None else speed.hours(multiplications, budget),
    )


def _other_recipe(budgets: tuple[Budget, Budget], edited: Edited) -> Iterator[str]:
    """Tell of a recipe that comes with the edit, mostly by the length of the training."""
    now, then = budgets
    if now.recipe.name == then.recipe.name:
        return
    if "recipe" in edited.edits:
        why, keep = "", ""
    else:
        boundary = f"{FULL_LENGTH_ITERATIONS:,} iterations"
        short = then.total_iterations < FULL_LENGTH_ITERATIONS
        why = f", as always {f'below {boundary}' if short else f'from {boundary} on'}"
        keep = f" To keep the present one: --set recipe={now.recipe.name}."
    yield f"The recipe becomes {_recipe(then)} instead of {_recipe(now)}{why}.{keep}"


def _recipe(budget: Budget) -> str:
    recipe = budget.recipe
    return (
        f"{recipe.name} ({_OPTIMIZER_WORDS[recipe.optimizer]}, rate {budget.value('initial_lr'):g}, "
        f"{_AUGMENTATION_WORDS[recipe.augmentation]}, {'mirroring' if recipe.mirroring else 'no mirroring'})"
    )


def _remarks(edited: Edited, then: Side, replanned: Replanned, description: DatasetDescription) -> Iterator[str]:
    configuration, edits, network = edited.configuration, edited.edits, replanned.network
    untrained = not_trained_yet(configuration, description)
    if untrained is not None:
        yield untrained
    if edited.needs_preprocessing:
        yield (
            f"The training data change, so they must be preprocessed again: segwright preprocess "
            f"{edited.plan.dataset_name} -c {edited.name}. "
            f"They get a folder of their own, {configuration.data_identifier}, and what is there stays."
        )
    if "spacing" in edits:
        about = "about " if edited.median_is_scaled else ""
        median, patch = configuration.median_image_size_in_voxels, network.topology.patch_size
        yield (
            f"At this spacing the median image has {about}{sizes(median)} voxels, and the planner would take a patch "
            f"of {sizes(patch)} and a batch of {network.batch_size}."
        )
    if then.batch_size < MIN_BATCH_SIZE:
        yield (
            f"The planner never takes fewer than {MIN_BATCH_SIZE} patches a batch: with 1 each step goes by a single "
            "patch, which makes training unsteady."
        )
    yield from _beyond_the_five_percent(configuration, then, replanned, description)
    if "patch_size" in edits and not edited.adapted and network.topology.patch_size != configuration.patch_size:
        yield from _other_depth(configuration)
    if {"patch_size", "spacing"} & set(edits):
        yield from _more_than_the_image(configuration)
    if "batch_dice" in edits:
        yield (
            "batch_dice true takes the Dice over the whole batch as if it were one image, false the mean over its "
            "patches; it costs no memory and no time."
        )
    if "batch_size" in edits and not {"initial_lr", "num_epochs", "num_iterations_per_epoch"} & set(edits):
        yield (
            "The number of iterations stays, so another batch size changes how many patches are seen. nnU-Net keeps "
            "the learning rate whatever the batch size."
        )


def _beyond_the_five_percent(
    configuration: Configuration, then: Side, replanned: Replanned, description: DatasetDescription
) -> Iterator[str]:
    """Tell of a batch that holds more of the data set than the planner's rule allows for its patch."""
    limit = replanned.network.max_dataset_covered
    voxels = voxels_of_dataset(replanned.decisions, configuration, description.num_training)
    a_patch = math.prod(then.patch_size) / voxels
    allowed = max(round(limit / a_patch), MIN_BATCH_SIZE)
    if then.batch_size > allowed:
        percent = 100 * then.batch_size * a_patch
        yield (
            f"A batch would hold {f'{percent:.3g}' if percent < 100 else f'{percent:,.0f}'} % of the data set's "
            f"voxels. The planner goes up to {100 * limit:g} %, lest the data be learnt by heart; for this patch that "
            f"allows {allowed}."
        )


def _more_than_the_image(configuration: Configuration) -> Iterator[str]:
    """Tell of each axis along which the patch exceeds the median image by more than the network's rounding up."""
    sides = zip(
        configuration.patch_size,
        configuration.median_image_size_in_voxels,
        configuration.architecture.total_stride,
        strict=True,
    )
    for axis, (edge, whole, divisor) in enumerate(sides):
        if edge >= whole + divisor:
            yield (
                f"Along the {ordinal(axis)} axis the patch has {edge} voxels, but the median image only "
                f"{whole:.4g}: the rest is filled with zeros, which take memory and time and teach nothing."
            )


def _other_depth(configuration: Configuration) -> Iterator[str]:
    architecture = configuration.architecture
    topology = choose_topology(configuration.spacing_mm, configuration.patch_size)
    if topology.strides == architecture.strides or topology.patch_size != configuration.patch_size:
        return
    if topology.num_stages != architecture.num_stages:
        yield (
            f"It works with the network as it is. For this patch the planner would choose {topology.num_stages} "
            f"resolutions instead of {architecture.num_stages}: --set n_stages={topology.num_stages}."
        )
    else:
        strides = json.dumps([list(stride) for stride in topology.strides], separators=(",", ":"))
        yield (
            f"It works with the network as it is. For this patch the planner would shrink the axes by "
            f"{sizes(topology.divisor)} instead of {sizes(architecture.total_stride)}: --set strides={strides}."
        )


def _fits(answer: WhatIf) -> str:
    then, target = answer.then, f"the {answer.gpu_memory_gb:g} GB planned for"
    allows = f"a batch of {then.batch_size_allowed}" if then.batch_size_allowed else "not even a batch of 1"
    model = f"our model says {gigabytes(then.step_cuda.total)} on a GPU in mixed precision."
    if answer.fits_by_count and answer.fits_by_bytes:
        up_to = then.batch_size_allowed
        return f"It fits {target}: by the planner's count a batch of up to {up_to} would, and {model}"
    if not answer.fits_by_count and not answer.fits_by_bytes:
        return f"It does not fit {target}: the planner's count allows {allows}, and {model}"
    count = "fits" if answer.fits_by_count else "does not fit"
    return (
        f"It may or may not fit {target}: by the planner's count, which allows {allows}, it {count}; {model} "
        "--measure tries it on the device."
    )


def _memory(answer: WhatIf) -> str:
    now, then = answer.now, answer.then
    return (
        f"Memory of a training step by our model: {_change(now.step_cuda.total, then.step_cuda.total)} on a GPU in "
        f"mixed precision, {_change(now.step_cpu.total, then.step_cpu.total)} on a CPU."
    )


def _time(answer: WhatIf) -> str:
    iteration = _as_long(answer.work_factor)
    now, then = answer.now.hours, answer.then.hours
    if answer.speed is None or now is None or then is None:
        return (
            f"By the multiplications in the network, an iteration takes {iteration} as now, and the whole training "
            f"{_as_long(answer.then.work / answer.now.work)}. Nothing says yet how long that is here: give --measure, "
            "or train an epoch."
        )
    return (
        f"The training takes about {duration(then)}, now {duration(now)} ({answer.speed.source}). By the "
        f"multiplications in the network, an iteration takes {iteration} as now."
    )


def _as_long(factor: float) -> str:
    return "as long" if abs(factor - 1) < 0.01 else f"about {times(factor)} times as long"


def _change(now: int, then: int) -> str:
    if gigabytes(now) == gigabytes(then) or abs(then / now - 1) < 0.005:  # else it would read +0 %
        return f"{gigabytes(then)} as before"
    more = f"{times(then / now)} times as much" if then > 2 * now else f"{100 * (then / now - 1):+.0f} %"
    return f"{gigabytes(then)} instead of {gigabytes(now)} ({more})"
