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
from segwright.explain.cost import StepMemory, batch_work, planned_elements, step_flags, step_memory
from segwright.explain.edits import Edited
from segwright.explain.words import untrainable
from segwright.planning.budget import Budget
from segwright.planning.configuration import Configuration
from segwright.planning.decisions import MIN_BATCH_SIZE, batch_size_allowed
from segwright.planning.recipes import FULL_LENGTH_ITERATIONS
from segwright.planning.topology import choose_topology
from segwright.planning.wording import GIB, duration, gigabytes, ordinal, sizes, times

if TYPE_CHECKING:
    from segwright.fingerprint import Fingerprint
    from segwright.task import Task

# a validation iteration is a forward pass, about a third of a training iteration
VALIDATION_SHARE = 1 / 3


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
    """The answer. `fits_by_count` goes by the planner's count of elements, `fits_by_bytes` by the bytes of a step.

    `remarks` say what else the edit asks for or brings with it.
    """

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
        """Whether the bytes of a step are fewer than the memory that is planned for."""
        return self.then.step_cuda.total <= self.gpu_memory_gb * GIB

    @property
    def work_factor(self) -> float:
        """Time of an iteration after the edit, as a multiple of that before, by the multiplications."""
        return self.then.multiplications / self.now.multiplications

    @property
    def verdict(self) -> str:
        """Whether it fits, in a sentence."""
        if self.fits_by_count != self.fits_by_bytes:
            count, step = ("fits", "does not") if self.fits_by_count else ("does not fit", "does")
            return (
                f"May or may not fit the {self.gpu_memory_gb:g} GB planned for: by the planner's count it {count}, by "
                f"the memory of a step it {step}. --measure tries it on the device."
            )
        return f"{'Fits' if self.fits_by_count else 'Does not fit'} the {self.gpu_memory_gb:g} GB planned for."

    def rows(self) -> list[tuple[str, str, str]]:
        """What changes: what it is, now, and with the edit."""
        now, then = self.now, self.then
        if self.speed is not None and now.hours is not None and then.hours is not None:
            hours = duration(now.hours), duration(then.hours)
        else:
            hours = "not measured yet", _as_long(then.work / now.work)
        return [
            ("memory on a GPU", gigabytes(now.step_cuda.total), _change(now.step_cuda.total, then.step_cuda.total)),
            ("memory on a CPU", gigabytes(now.step_cpu.total), _change(now.step_cpu.total, then.step_cpu.total)),
            ("batch size", str(now.batch_size), str(then.batch_size)),
            ("largest by the planner's count", str(now.batch_size_allowed), str(then.batch_size_allowed)),
            ("an iteration", "", _as_long(self.work_factor)),
            ("the training", *hours),
            ("iterations", f"{now.iterations:,}", f"{then.iterations:,}"),
            ("patches", f"{now.samples:,}", f"{then.samples:,}"),
            (
                "passes over the training cases",
                f"{now.passes_over_training_cases:,.1f}",
                f"{then.passes_over_training_cases:,.1f}",
            ),
        ]

    def sentences(self) -> tuple[str, ...]:
        """The answer in words, the most important first: what the rows do not say."""
        return (self.verdict, *self.edited.adapted, *self.remarks)

    def to_json(self) -> dict[str, Any]:
        """All of it, as a program would read it."""
        return {
            "configuration": self.edited.before.configuration.name,
            "name": self.edited.after.configuration.name,
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

    def snippet(self) -> str:
        """The configuration as it goes into the plans file, under the key `configurations`."""
        text = json.dumps(dict(self.edited.entry), indent=4)
        for _ in range(2):  # lists of numbers, then lists of these, on one line
            text = re.sub(r"\[\s+([^{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
        return f'"{self.edited.after.configuration.name}": {text}'


def what_if(
    edited: Edited,
    fingerprint: Fingerprint,
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
    both = edited.before, edited.after
    for task in both:
        _check_computable(task.configuration)
    replanned = [plan_again(task, fingerprint, gpu_memory_gb=gpu_memory_gb) for task in both]
    now, then = (
        _side(task, again, budget, num_training_cases, speed)
        for task, again, budget in zip(both, replanned, budgets, strict=True)
    )
    return WhatIf(
        edited=edited,
        now=now,
        then=then,
        gpu_memory_gb=replanned[1].decisions.gpu_memory_gb,
        speed=speed,
        remarks=(*_other_recipe(budgets, edited), *_remarks(edited, then, replanned[1])),
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


def _side(task: Task, replanned: Replanned, budget: Budget, num_training_cases: int, speed: Speed | None) -> Side:
    configuration, batch_size = task.configuration, int(budget.value("batch_size"))
    elements = planned_elements(configuration, replanned.decisions.num_label_entries)
    cuda, cpu = (step_memory(task, device, flags=step_flags(budget)) for device in ("cuda", "cpu"))
    multiplications = batch_work(task, batch_size)
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
    """Say which recipe comes with the edit, mostly by the length of the training."""
    now, then = budgets
    if now.recipe.name == then.recipe.name:
        return
    keep = ""
    if "recipe" not in edited.edits:
        side = "below" if then.total_iterations < FULL_LENGTH_ITERATIONS else "from"
        always = f"as always {side} {FULL_LENGTH_ITERATIONS:,} iterations"
        keep = f", {always}. To keep the present one: --set recipe={now.recipe.name}"
    rates = f"learning rate {now.value('initial_lr'):g} to {then.value('initial_lr'):g}"
    yield f"The recipe changes from {now.recipe.name} to {then.recipe.name} ({then.recipe.summary}), {rates}{keep}."


def _remarks(edited: Edited, then: Side, replanned: Replanned) -> Iterator[str]:
    configuration, edits, network = edited.after.configuration, edited.edits, replanned.network
    if edited.after.untrainable:
        yield untrainable(edited.after)
    if edited.needs_preprocessing:
        yield (
            f"The training data change: segwright preprocess {edited.after.plan.dataset_name} -c {configuration.name} "
            f"writes them to a folder of their own, {configuration.data_identifier}."
        )
    if "spacing" in edits:
        yield (
            f"At this spacing the median image has {sizes(configuration.median_image_size_in_voxels)} voxels; the "
            f"planner would take a patch of {sizes(network.topology.patch_size)} and a batch of {network.batch_size}."
        )
    if then.batch_size < MIN_BATCH_SIZE:
        yield f"The planner never takes fewer than {MIN_BATCH_SIZE} patches a batch: gradients of 1 are noisy."
    yield from _beyond_the_five_percent(edited.after, then, replanned)
    if "patch_size" in edits and not edited.adapted and network.topology.patch_size != configuration.patch_size:
        yield from _other_depth(configuration)
    if {"patch_size", "spacing"} & set(edits):
        yield from _more_than_the_image(configuration)
    if "batch_dice" in edits:
        yield "batch_dice: true takes the Dice of the whole batch as of one image, false the mean over its patches."
    if "batch_size" in edits and not {"initial_lr", "num_epochs", "num_iterations_per_epoch"} & set(edits):
        yield "Iterations and learning rate stay, as in nnU-Net; only the number of patches changes."


def _beyond_the_five_percent(task: Task, then: Side, replanned: Replanned) -> Iterator[str]:
    """Warn of a batch that holds more of the data set than the planner's rule allows for its patch."""
    limit = replanned.network.max_dataset_covered
    a_patch = math.prod(then.patch_size) / voxels_of_dataset(replanned.decisions, task)
    allowed = max(round(limit / a_patch), MIN_BATCH_SIZE)
    if then.batch_size > allowed:
        percent = 100 * then.batch_size * a_patch
        yield (
            f"A batch would hold {f'{percent:.3g}' if percent < 100 else f'{percent:,.0f}'} % of the data set's "
            f"voxels. Against overfitting the planner takes at most {100 * limit:g} %, for this patch {allowed}."
        )


def _more_than_the_image(configuration: Configuration) -> Iterator[str]:
    """Warn of axes along which the patch exceeds the median image by more than the network's rounding up."""
    patch, median = configuration.patch_size, configuration.median_image_size_in_voxels
    for axis, divisor in enumerate(configuration.architecture.total_stride):
        if patch[axis] >= median[axis] + divisor:
            yield (
                f"Along the {ordinal(axis)} axis the patch has {patch[axis]} voxels, the median image "
                f"{median[axis]:.4g}: the rest is zero padding, which takes memory and time."
            )


def _other_depth(configuration: Configuration) -> Iterator[str]:
    """Offer the depth that the planner would take for the patch."""
    architecture = configuration.architecture
    topology = choose_topology(configuration.spacing_mm, configuration.patch_size)
    if topology.strides == architecture.strides or topology.patch_size != configuration.patch_size:
        return
    if topology.num_stages != architecture.num_stages:
        offer = f"n_stages={topology.num_stages}"
    else:
        offer = f"strides={json.dumps([list(stride) for stride in topology.strides], separators=(',', ':'))}"
    yield (
        f"The network stays as it is: {architecture.num_stages} stages, downsampled by "
        f"{sizes(architecture.total_stride)}. For this patch the planner would take {topology.num_stages}, by "
        f"{sizes(topology.divisor)}: --set {offer}."
    )


def _as_long(factor: float) -> str:
    return "as long as now" if abs(factor - 1) < 0.01 else f"{times(factor)} times as long"


def _change(now: int, then: int) -> str:
    if gigabytes(now) == gigabytes(then) or abs(then / now - 1) < 0.005:  # else it would read +0 %
        return gigabytes(then)
    return (
        f"{gigabytes(then)} ({f'{times(then / now)} times' if then > 2 * now else f'{100 * (then / now - 1):+.0f} %'})"
    )
