"""Explain a configuration: why this spacing, patch, depth and batch, and what it needs, from the data themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from segwright.explain.comparison import Difference, Replanned, plan_again
from segwright.explain.cost import StepMemory, planned_elements, step_memory
from segwright.explain.words import Paragraph, Row, Subject, describe_decisions, describe_step_memory
from segwright.planning.configuration import Configuration
from segwright.planning.memory import parameter_count
from segwright.planning.plan import Plan
from segwright.task import Task

if TYPE_CHECKING:
    from segwright.dataset.description import DatasetDescription
    from segwright.fingerprint import Fingerprint


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
    """Why a configuration is as it is: `rows` of a table, and `paragraphs` with what the rows leave out.

    `size` is None for a network that is not one of nnU-Net's two, and for one of a single stage, which cannot be
    trained.
    """

    dataset_name: str
    plans_name: str
    planner: str
    configuration: str
    rows: tuple[Row, ...]
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
            "rows": [asdict(row) for row in self.rows],
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
    task = Task.of(plan, configuration, description)
    return with_step_memory(explain_decisions(task, fingerprint, gpu_memory_gb=gpu_memory_gb), task)


def with_step_memory(explanation: Explanation, task: Task, *, flags: Mapping[str, Any] | None = None) -> Explanation:
    """Add what a training step holds, which imports torch; `flags` are settings that overrule the plan's."""
    if explanation.size is None:
        return explanation
    cuda, cpu = (step_memory(task, device, flags=flags) for device in ("cuda", "cpu"))
    row, paragraphs = describe_step_memory(cuda, cpu)
    place = [each.decision for each in explanation.rows].index("batch size") + 1
    return replace(
        explanation,
        rows=(*explanation.rows[:place], row, *explanation.rows[place:]),
        paragraphs=(*explanation.paragraphs, *paragraphs),
        size=replace(explanation.size, step_cuda=cuda, step_cpu=cpu),
    )


def explain_decisions(task: Task, fingerprint: Fingerprint, *, gpu_memory_gb: float | None = None) -> Explanation:
    """Explain as `explain_plan` does, less the memory of a step: without torch."""
    plan, configuration = task.plan, task.configuration
    replanned = plan_again(task, fingerprint, gpu_memory_gb=gpu_memory_gb)
    size = _network_size(task, replanned)
    subject = Subject(
        task=task,
        fingerprint=fingerprint,
        replanned=replanned,
        num_parameters=None if size is None else size.num_parameters,
        planned_elements=None if size is None else size.planned_elements,
    )
    rows, paragraphs = describe_decisions(subject)
    return Explanation(
        dataset_name=plan.dataset_name,
        plans_name=plan.plans_name,
        planner=plan.experiment_planner_used,
        configuration=configuration.name,
        rows=rows,
        paragraphs=paragraphs,
        differences=replanned.differences,
        size=size,
        numbers=_numbers(configuration, replanned),
    )


def _network_size(task: Task, replanned: Replanned) -> NetworkSize | None:
    architecture = task.configuration.architecture
    if not architecture.is_computable:
        return None
    return NetworkSize(
        num_parameters=parameter_count(architecture, num_input_channels=task.num_inputs, num_outputs=task.num_outputs),
        planned_elements=planned_elements(task.configuration, replanned.decisions.num_label_entries),
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
