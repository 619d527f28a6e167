"""Explain a configuration: why this spacing, patch, depth and batch, and what it needs, from the data themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from segwright.explain.comparison import Difference, Replanned, plan_again
from segwright.explain.cost import StepMemory, num_network_inputs, planned_elements, step_memory
from segwright.explain.words import Subject, memory_paragraphs, paragraphs_for
from segwright.planning.configuration import Configuration
from segwright.planning.memory import parameter_count
from segwright.planning.plan import Plan

if TYPE_CHECKING:
    from segwright.dataset.description import DatasetDescription
    from segwright.fingerprint import Fingerprint


@dataclass(frozen=True)
class Paragraph:
    """A topic in a word or two, and what there is to say about it in plain sentences."""

    topic: str
    text: str


@dataclass(frozen=True)
class NetworkSize:
    """The size of a network, and the two accounts of its memory.

    `planned_elements` is what nnU-Net's planner counts for one sample, to be compared with `reference_elements`, which
    stands for a batch of `reference_batch_size`. `step_cuda` and `step_cpu` are the bytes of a training step, on a GPU
    in mixed precision and on a CPU; None where they have not been counted.
    """

    num_parameters: int
    planned_elements: int
    reference_elements: float
    reference_batch_size: int
    step_cuda: StepMemory | None = None
    step_cpu: StepMemory | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field; bytes under `step_cuda` and `step_cpu`."""
        counted = {"step_cuda": self.step_cuda, "step_cpu": self.step_cpu}
        return {**asdict(self), **{key: None if step is None else step.to_json() for key, step in counted.items()}}


@dataclass(frozen=True)
class Explanation:
    """Why a configuration is as it is. `size` is None for a network that is not one of nnU-Net's two, and for one
    of a single stage, which cannot be trained."""

    dataset_name: str
    plans_name: str
    planner: str
    configuration: str
    paragraphs: tuple[Paragraph, ...]
    differences: tuple[Difference, ...]
    size: NetworkSize | None
    numbers: dict[str, Any]

    @property
    def steps(self) -> dict[str, StepMemory]:
        """Memory of a step by type of device, as far as it was counted."""
        counted = {} if self.size is None else {"cuda": self.size.step_cuda, "cpu": self.size.step_cpu}
        return {device: step for device, step in counted.items() if step is not None}

    def to_json(self) -> dict[str, Any]:
        """All of it, as a program would read it."""
        return {
            "dataset_name": self.dataset_name,
            "plans_name": self.plans_name,
            "planner": self.planner,
            "configuration": self.configuration,
            "paragraphs": [asdict(paragraph) for paragraph in self.paragraphs],
            "differences": [difference.to_json() for difference in self.differences],
            "size": None if self.size is None else self.size.to_json(),
            "numbers": self.numbers,
        }


def explain_plan(
    plan: Plan,
    fingerprint: Fingerprint,
    description: DatasetDescription,
    configuration: str,
    *,
    gpu_memory_gb: float | None = None,
) -> Explanation:
    """Explain a configuration of a plan by running its planner again and comparing, and count a step's memory.

    `gpu_memory_gb` is the memory that was planned for, the planner's own where it is None (a plan does not record it).

    Raises:
        PlanError: where the configuration is wrong, or the data cannot be planned.
    """
    explanation = explain_decisions(plan, fingerprint, description, configuration, gpu_memory_gb=gpu_memory_gb)
    return with_step_memory(explanation, plan, description)


def with_step_memory(
    explanation: Explanation, plan: Plan, description: DatasetDescription, *, flags: Mapping[str, Any] | None = None
) -> Explanation:
    """Add what a training step holds, which imports torch; `flags` are settings that overrule the plan's."""
    if explanation.size is None:
        return explanation
    cuda, cpu = (
        step_memory(plan, explanation.configuration, description, device, flags=flags) for device in ("cuda", "cpu")
    )
    return replace(
        explanation,
        paragraphs=(*explanation.paragraphs, *(Paragraph(*each) for each in memory_paragraphs(cuda, cpu))),
        size=replace(explanation.size, step_cuda=cuda, step_cpu=cpu),
    )


def explain_decisions(
    plan: Plan,
    fingerprint: Fingerprint,
    description: DatasetDescription,
    configuration: str,
    *,
    gpu_memory_gb: float | None = None,
) -> Explanation:
    """Explain as `explain_plan` does, less the memory of a step: without torch."""
    chosen = plan.configuration(configuration)
    replanned = plan_again(plan, fingerprint, description, chosen, gpu_memory_gb=gpu_memory_gb)
    size = _network_size(chosen, replanned, description)
    subject = Subject(
        plan=plan,
        configuration=chosen,
        fingerprint=fingerprint,
        description=description,
        replanned=replanned,
        num_parameters=None if size is None else size.num_parameters,
        planned_elements=None if size is None else size.planned_elements,
    )
    return Explanation(
        dataset_name=plan.dataset_name,
        plans_name=plan.plans_name,
        planner=plan.experiment_planner_used,
        configuration=configuration,
        paragraphs=tuple(Paragraph(topic, text) for topic, text in paragraphs_for(subject)),
        differences=replanned.differences,
        size=size,
        numbers=_numbers(chosen, replanned),
    )


def _network_size(
    configuration: Configuration, replanned: Replanned, description: DatasetDescription
) -> NetworkSize | None:
    architecture = configuration.architecture
    if not architecture.is_computable:
        return None
    return NetworkSize(
        num_parameters=parameter_count(
            architecture,
            num_input_channels=num_network_inputs(configuration, description),
            num_outputs=description.labels.num_outputs,
        ),
        planned_elements=planned_elements(configuration, replanned.decisions.num_label_entries),
        reference_elements=replanned.network.reference_elements,
        reference_batch_size=replanned.network.reference_batch_size,
    )


def _numbers(configuration: Configuration, replanned: Replanned) -> dict[str, Any]:
    network, target, lowres = replanned.network, replanned.decisions.target, replanned.decisions.lowres
    median = configuration.median_image_size_in_voxels
    return {
        "spacing_mm": list(configuration.spacing_mm),
        "spacing_rule": target.rule,
        "median_image_size_in_voxels": list(median),
        "patch_size": list(configuration.patch_size),
        "patch_covers_per_axis": [edge / whole for edge, whole in zip(configuration.patch_size, median, strict=True)],
        "planned_patch_size": list(network.topology.patch_size),
        "planned_patch_shrinks": network.num_shrinks,
        "planned_stops": [asdict(stop) for stop in network.topology.stops],
        "total_stride": list(configuration.architecture.total_stride),
        "batch_size": configuration.batch_size,
        "batch_size_by_memory": network.batch_size_by_memory,
        "batch_size_by_dataset": network.batch_size_by_dataset,
        "planned_batch_size": network.batch_size,
        "gpu_memory_gb": replanned.decisions.gpu_memory_gb,
        "fullres_patch_covers": None if lowres is None else lowres.patch_fraction,
        "lowres_is_planned": lowres is not None and lowres.network is not None,
        "lowres_reduction": None if lowres is None else lowres.reduction,
    }
