"""What in a plan differs from what its planner would choose for the same data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from segwright.errors import PlanError, message
from segwright.planning.architecture import BLOCKS_KEY, Architecture
from segwright.planning.configuration import Configuration
from segwright.planning.decisions import NetworkDecision, PlanningDecisions, decide, decide_network
from segwright.planning.fields import is_number
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.planning.presets import DEFAULT_PLANNER, PLANNERS

if TYPE_CHECKING:
    from segwright.fingerprint import Fingerprint
    from segwright.task import Task

# keys that say how the entry is written, not what it holds
_SPELLING_KEYS = ("inherits_from", "architecture._kw_requires_import")


@dataclass(frozen=True)
class Difference:
    """A value of the plan that its planner would not have written. `planned` is None where the planner writes no such
    key; `is_missing` is True where the plan does not hold it, though its planner would. `key` is dotted."""

    key: str
    in_plan: Any
    planned: Any
    is_missing: bool = False

    def to_json(self) -> dict[str, Any]:
        """The four fields."""
        return asdict(self)


@dataclass(frozen=True)
class Replanned:
    """What the planner would do with the data again, given the spacing of the plan where that was chosen by hand.

    `planner_is_known` is False where the plan names a planner of which nothing is known; the default one stands in.
    `ancestor` is the planned configuration that the explained one is or inherits from, None where there is none.
    """

    planner_is_known: bool
    spacing_is_own_choice: bool
    transpose_is_own_choice: bool
    decisions: PlanningDecisions
    plan: Plan
    ancestor: str | None
    network: NetworkDecision
    differences: tuple[Difference, ...]


def plan_again(task: Task, fingerprint: Fingerprint, *, gpu_memory_gb: float | None = None) -> Replanned:
    """Run the plan's planner once more and compare. `gpu_memory_gb` is the planner's own where it is None.

    Raises:
        PlanError: where the data cannot be planned, or have other channels than the configuration normalises.
    """
    plan, configuration, description = task.plan, task.configuration, task.description
    _check_channels(task)
    known = plan.experiment_planner_used in PLANNERS
    preset = PLANNERS[plan.experiment_planner_used if known else DEFAULT_PLANNER]
    decide_on = partial(decide, fingerprint, description, preset=preset, gpu_memory_gb=gpu_memory_gb)
    decisions = decide_on()
    own_spacing = _own_spacing(plan, decisions)
    if own_spacing is not None:
        decisions = decide_on(overwrite_target_spacing_mm=own_spacing)
    suppressed = plan.transpose_forward == (0, 1, 2) != decisions.transpose_forward
    if suppressed:
        decisions = decide_on(overwrite_target_spacing_mm=own_spacing, suppress_transpose=True)
    planned = make_plan(
        fingerprint,
        description,
        dataset_name=plan.dataset_name,
        image_reader_writer=plan.image_reader_writer,
        planner=preset.name,
        gpu_memory_gb=gpu_memory_gb,
        overwrite_target_spacing_mm=own_spacing,
        plans_name=plan.plans_name,
        suppress_transpose=suppressed,
    )
    ancestor = _ancestor(plan, configuration.name, planned)
    return Replanned(
        planner_is_known=known,
        spacing_is_own_choice=own_spacing is not None,
        transpose_is_own_choice=plan.transpose_forward != decisions.transpose_forward or suppressed,
        decisions=decisions,
        plan=planned,
        ancestor=ancestor,
        network=_network(decisions, ancestor, task),
        differences=() if ancestor is None else _differences(configuration, planned.configuration(ancestor)),
    )


def _check_channels(task: Task) -> None:
    schemes, channels = task.configuration.normalization_schemes, task.description.channel_names
    if len(schemes) != len(channels):
        raise PlanError(
            message(
                f"{task.plan.where}, configuration '{task.configuration.name}', key 'normalization_schemes'",
                expected=f"{len(channels)}, one for each channel of the images ({', '.join(channels)})",
                got=f"{len(schemes)}: {', '.join(schemes)}",
                remedy="Correct it, or let the planner write the file again.",
            )
        )


def _own_spacing(plan: Plan, decisions: PlanningDecisions) -> tuple[float, ...] | None:
    """The spacing of 3d_fullres in the order of the images, where it is not the one that the planner takes."""
    if "3d_fullres" not in plan.configuration_names or decisions.fullres is None:
        return None
    # the entry as it stands: what else is in it may be broken, and is not what is asked about
    try:
        entry = plan.resolved_entry("3d_fullres").get("spacing")
    except PlanError:
        return None
    if not isinstance(entry, Sequence) or len(entry) != 3 or not all(is_number(mm) and mm > 0 for mm in entry):
        return None
    spacing = tuple(entry[axis] for axis in plan.transpose_backward)
    return None if same(spacing, decisions.target.spacing_mm) else spacing


def _ancestor(plan: Plan, name: str, planned: Plan) -> str | None:
    current: str | None = name
    while current is not None and current not in planned.configuration_names:
        current = plan.raw["configurations"][current].get("inherits_from")
    return current


def _network(decisions: PlanningDecisions, ancestor: str | None, task: Task) -> NetworkDecision:
    configuration = task.configuration
    lowres = decisions.lowres.network if decisions.lowres else None
    fullres = decisions.fullres
    by_name = {"2d": decisions.two_d, "3d_lowres": lowres, "3d_fullres": fullres, "3d_cascade_fullres": fullres}
    decided = by_name.get(ancestor or "")
    if decided is not None and same(decided.spacing_mm, configuration.spacing_mm):
        return decided
    median = configuration.median_image_size_in_voxels
    return decide_network(
        configuration.spacing_mm,
        median,
        dataset_voxels=voxels_of_dataset(decisions, task),
        num_labels=decisions.num_label_entries,
        preset=decisions.preset,
        gpu_memory_gb=decisions.gpu_memory_gb,
    )


def voxels_of_dataset(decisions: PlanningDecisions, task: Task) -> float:
    """Voxels of all training images at a configuration's spacing; of slices, as many as the planner has."""
    median = math.prod(task.configuration.median_image_size_in_voxels)
    if task.configuration.is_2d:
        return decisions.dataset_voxels * median / math.prod(decisions.two_d.median_shape)
    return float(median * task.description.num_training)


def _differences(configuration: Configuration, planned: Configuration) -> tuple[Difference, ...]:
    own, expected = dict(_flat(configuration.raw)), dict(_flat(planned.raw))
    changed = (
        Difference(key, value, expected.get(key))
        for key, value in own.items()
        if not same(value, expected.get(key))
        and not (key.endswith("network_class_name") and _same_class(key, own, expected))
    )
    missing = (
        Difference(key, None, value, is_missing=True)
        for key, value in expected.items()
        # a key that is not there means null to nnU-Net
        if key not in own and value is not None and not _of_another_network(key, configuration.architecture)
    )
    return (*changed, *missing)


def _of_another_network(key: str, architecture: Architecture) -> bool:
    """Whether the network has no such argument."""
    prefix, _, argument = key.rpartition(".")
    if not prefix.endswith("arch_kwargs"):
        return False
    if architecture.kind == "other":
        return True
    return argument in BLOCKS_KEY.values() and argument != BLOCKS_KEY[architecture.kind]


def _same_class(key: str, own: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    # the module in which the class lives has moved between versions
    return str(own[key]).rsplit(".", 1)[-1] == str(expected.get(key)).rsplit(".", 1)[-1]


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in entry.items():
        name = f"{prefix}{key}"
        if name in _SPELLING_KEYS:
            continue
        if key in ("architecture", "arch_kwargs") and isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def same(first: Any, second: Any) -> bool:
    """Whether two values of a plan mean the same: lists or tuples, 1 or 1.0."""
    if isinstance(first, Sequence) and isinstance(second, Sequence) and not isinstance(first, str):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-9)
    return bool(first == second)
