"""A task for tests: a plan's configuration with labels, and a description that says no more than that."""

from __future__ import annotations

from segwright.dataset import DatasetDescription
from segwright.labels import Labels
from segwright.planning.plan import Plan
from segwright.task import Task


def task_of(plan: Plan, configuration: str, labels: Labels) -> Task:
    chosen = plan.configuration(configuration)
    channels = tuple(f"channel {number}" for number, _ in enumerate(chosen.normalization_schemes))
    return Task(plan, chosen, DatasetDescription({}, channels, labels, ".nii.gz", num_training=1))
