"""Edits of a configuration, as `KEY=VALUE`, and the separate configuration that they make."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segwright.errors import PlanError, SettingsError, message
from segwright.explain.comparison import same
from segwright.planning.architecture import BLOCKS_KEY
from segwright.planning.budget import SETTING_NAMES
from segwright.planning.configuration import Configuration
from segwright.planning.decisions import MAX_FEATURES
from segwright.planning.fields import is_whole
from segwright.planning.presets import PLANNERS, decoder_convs, encoder_blocks
from segwright.planning.spacing import median_shape_at
from segwright.planning.topology import MIN_FEATURE_MAP_EDGE, choose_topology
from segwright.planning.wording import sizes
from segwright.task import Task

if TYPE_CHECKING:
    from segwright.fingerprint import Fingerprint
    from segwright.planning.plan import Plan

DATA_KEYS = ("spacing", "normalization_schemes", "use_mask_for_norm")
NETWORK_KEYS = (
    "n_stages",
    "features_per_stage",
    "strides",
    "kernel_sizes",
    "n_conv_per_stage",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
)
TRAINING_KEYS = (*(name for name in SETTING_NAMES if name != "batch_size"), "recipe")
EDITABLE = ("batch_size", "patch_size", *DATA_KEYS, "batch_dice", *NETWORK_KEYS, *TRAINING_KEYS)
_LIST_KEYS = ("patch_size", *DATA_KEYS)
_PLANNER_OF_KIND = {"plain": "ExperimentPlanner", "residual": "ResEncUNetPlanner"}


@dataclass(frozen=True)
class Edited:
    """A separate configuration: `entry` is what to add to the plans file for it, which `after.plan` holds.

    `adapted` says what had to follow from the edits and was changed with them. `needs_preprocessing` is True where the
    training data are no longer those of the configuration that it inherits from.
    """

    before: Task
    after: Task
    edits: Mapping[str, Any]
    entry: Mapping[str, Any]
    adapted: tuple[str, ...]
    needs_preprocessing: bool


def _refused(key: str, *, expected: str, got: Any, remedy: str) -> PlanError:
    return PlanError(message(f"--set, key '{key}'", expected=expected, got=got, remedy=remedy))


def parse_edits(texts: Sequence[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` texts. A value is JSON (`[1, 2]`, `true`, `0.5`), numbers with commas between, or a word.

    Raises:
        SettingsError: a text without `=`, or a key that cannot be edited, with the nearest that can.
    """
    edits: dict[str, Any] = {}
    for text in texts:
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not value:
            raise SettingsError(
                message("--set", expected="KEY=VALUE", got=repr(text), remedy="Try --set batch_size=4, without spaces.")
            )
        if key not in EDITABLE:
            near = difflib.get_close_matches(key, EDITABLE, n=3, cutoff=0.5)
            remedy = f"Did you mean {' or '.join(near)}?" if near else "Choose one of them."
            where, expected = f"--set, key '{key}'", f"one of {', '.join(EDITABLE)}"
            raise SettingsError(message(where, expected=expected, got=repr(key), remedy=remedy))
        parsed = _value(value)
        edits[key] = [parsed] if key in _LIST_KEYS and not isinstance(parsed, list) else parsed
    return edits


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [_value(part.strip()) for part in text.split(",")] if "," in text else text


def apply_edits(task: Task, edits: Mapping[str, Any], fingerprint: Fingerprint, *, name: str) -> Edited:
    """Make a configuration that inherits from the task's and differs in the edits and what must follow from them.

    A patch that the network's strides do not divide gets the network that the planner would give it. Another number of
    stages cuts the lowest ones off, or pools the axes again that are long enough.

    Raises:
        PlanError: an edit is not possible; names the key.
    """
    plan, present = task.plan, task.configuration
    asked = type(plan).from_json(plan.raw, where="--set")
    entry: dict[str, Any] = {"inherits_from": present.name}
    entry.update({key: value for key, value in edits.items() if key not in NETWORK_KEYS})
    medians = {"median_image_size_in_voxels": list(present.median_image_size_in_voxels)} if "spacing" in entry else {}
    # the values of other keys are looked at before anything follows from them
    asked.with_configuration(name, {**medians, **entry, "patch_size": list(present.patch_size)}).configuration(name)
    _check_schemes(present, edits)
    needs_preprocessing = any(key in edits and not same(present.raw.get(key), edits[key]) for key in DATA_KEYS)
    if needs_preprocessing:
        entry["data_identifier"] = f"{plan.plans_name}_{name}"
    if "spacing" in edits and not same(present.spacing_mm, edits["spacing"]):
        entry["median_image_size_in_voxels"] = _median_size(plan, present, edits["spacing"], fingerprint)
    architecture, patch, adapted = _network(present, edits)
    entry.pop("patch_size", None)
    if patch != present.patch_size:
        entry["patch_size"] = list(patch)
    if architecture != present.raw["architecture"]:
        entry["architecture"] = architecture
    asked.with_configuration(name, {**medians, **entry}).configuration(name)
    return Edited(
        before=task,
        after=Task.of(plan.with_configuration(name, entry), name, task.description),
        edits=dict(edits),
        entry=entry,
        adapted=tuple(adapted),
        needs_preprocessing=needs_preprocessing,
    )


def _check_schemes(present: Configuration, edits: Mapping[str, Any]) -> None:
    channels, schemes = len(present.normalization_schemes), edits.get("normalization_schemes", ())
    if "normalization_schemes" in edits and len(schemes) != channels:
        raise _refused(
            "normalization_schemes",
            expected=f"{channels}, one for each channel of the images",
            got=f"{len(schemes)}: {', '.join(schemes)}",
            remedy=f"At present: {','.join(present.normalization_schemes)}.",
        )


def _median_size(plan: Plan, present: Configuration, spacing: Sequence[float], fingerprint: Fingerprint) -> list[float]:
    """Median size of the images at a spacing, as the planner computes it."""
    across = 3 - len(spacing)  # of slices, the axis whose size is not asked for
    asked = (*plan.original_median_spacing_mm[:across], *spacing)
    try:
        shape = median_shape_at(fingerprint, [asked[axis] for axis in plan.transpose_backward])
        median = [shape[axis] for axis in plan.transpose_forward[across:]]
    except PlanError:  # it does not name the key
        median = [0.0]
    if min(median) < 1:
        raise _refused(
            "spacing",
            expected="a spacing at which the median image has a voxel along each axis",
            got=f"{sizes(spacing)} mm",
            remedy=f"Choose a finer one; the present is {','.join(f'{mm:g}' for mm in present.spacing_mm)}.",
        )
    return median


def _network(present: Configuration, edits: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[int, ...], list[str]]:
    """The edited entry `architecture`, the patch, and what followed from the edits, in words."""
    architecture = copy.deepcopy(dict(present.raw["architecture"]))
    patch, spacing = _patch(present, edits), edits.get("spacing", present.spacing_mm)
    wanted = {key: edits[key] for key in NETWORK_KEYS if key in edits}
    if present.architecture.kind == "other":
        for key in wanted:
            expected, got = "a network of nnU-Net's, plain or residual", present.architecture.network_class_name
            raise _refused(key, expected=expected, got=got, remedy="Edit the plans file by hand.")
        return architecture, patch, []
    _check_blocks_key(present, wanted)
    kwargs = architecture["arch_kwargs"]
    adapted: list[str] = []
    if "strides" in wanted:
        kwargs["n_stages"] = len(wanted["strides"]) if isinstance(wanted["strides"], list) else kwargs["n_stages"]
    elif "n_stages" in wanted:
        adapted = _with_stages(kwargs, present, patch, wanted["n_stages"])
    elif any(size % stride for size, stride in zip(patch, present.architecture.total_stride, strict=True)):
        patch, adapted = _as_planned(kwargs, present, spacing, patch)
    if is_whole(wanted.get("features_per_stage")):
        wanted["features_per_stage"] = _features(wanted["features_per_stage"], kwargs["n_stages"], len(patch))
    kwargs.update(wanted)
    return architecture, patch, adapted


def _patch(present: Configuration, edits: Mapping[str, Any]) -> tuple[int, ...]:
    patch, dims = edits.get("patch_size", list(present.patch_size)), len(present.patch_size)
    if len(patch) != dims or not all(is_whole(edge) and edge > 0 for edge in patch):
        raise _refused(
            "patch_size",
            expected=f"{dims} whole numbers ({'y,x' if dims == 2 else 'z,y,x'}) for '{present.name}'",
            got=",".join(map(str, patch)),
            remedy=f"The present patch is {','.join(map(str, present.patch_size))}.",
        )
    return tuple(patch)


def _check_blocks_key(present: Configuration, wanted: Mapping[str, Any]) -> None:
    """Refuse the key of the other kind of network, which this one would not be built with."""
    own = BLOCKS_KEY[present.architecture.kind]
    for key in BLOCKS_KEY.values():
        if key in wanted and key != own:
            raise _refused(
                key,
                expected=f"'{own}', because the network of '{present.name}' is {present.architecture.kind}",
                got=f"'{key}'",
                remedy=f"Try --set {own}={json.dumps(wanted[key], separators=(',', ':'))}.",
            )


def _as_planned(
    kwargs: dict[str, Any], present: Configuration, spacing: Sequence[float], patch: tuple[int, ...]
) -> tuple[tuple[int, ...], list[str]]:
    """Give the network the depth that the planner would choose for the patch, and pad the patch to it."""
    topology, total = choose_topology(spacing, patch), present.architecture.total_stride
    below = [max(size // stride, 1) * stride for size, stride in zip(patch, total, strict=True)]
    above = [low + stride * (size > low) for size, low, stride in zip(patch, below, total, strict=True)]
    nearest = " or ".join(dict.fromkeys((sizes(below), sizes(above))))
    if topology.num_stages < 2:
        raise _refused(
            "patch_size",
            expected=f"sides that can be pooled, at least {2 * MIN_FEATURE_MAP_EDGE} voxels",
            got=",".join(map(str, patch)),
            remedy=f"With the network as it is, the nearest that works is {nearest}.",
        )
    _set_stages(kwargs, present, topology.strides, topology.kernel_sizes)
    return topology.patch_size, [
        f"This network downsamples by {sizes(total)}, which does not divide a patch of {sizes(patch)}. The answer is "
        f"for the network that the planner would take: {topology.num_stages} stages, downsampled by "
        f"{sizes(topology.divisor)}, with a patch of {sizes(topology.patch_size)}. For the present network, the "
        f"nearest patch is {nearest}."
    ]


def _with_stages(kwargs: dict[str, Any], present: Configuration, patch: Sequence[int], stages: Any) -> list[str]:
    architecture = present.architecture
    if not is_whole(stages) or stages < 2:
        remedy = f"The network has {architecture.num_stages} now."
        raise _refused("n_stages", expected="a whole number of 2 or more", got=repr(stages), remedy=remedy)
    strides, kernels = list(architecture.strides[:stages]), list(architecture.kernel_sizes[:stages])
    while len(strides) < stages:
        edges = _deepest(patch, strides)
        stride = tuple(2 if edge >= 2 * MIN_FEATURE_MAP_EDGE and edge % 2 == 0 else 1 for edge in edges)
        if all(step == 1 for step in stride):
            raise _refused(
                "n_stages",
                expected=f"at most {len(strides)} for a patch of {sizes(patch)}",
                got=stages,
                remedy=f"The deepest map has {sizes(edges)} voxels and cannot be pooled again; enlarge the patch.",
            )
        strides.append(stride)
        kernels.append(tuple(3 for _ in patch))
    _set_stages(kwargs, present, strides, kernels)
    return [f"The deepest of the {stages} feature maps then has {sizes(_deepest(patch, strides))} voxels."]


def _deepest(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    edges = list(patch)
    for stride in strides:
        edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
    return edges


def _set_stages(
    kwargs: dict[str, Any],
    present: Configuration,
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]],
) -> None:
    architecture, count = present.architecture, len(strides)
    preset = PLANNERS[_PLANNER_OF_KIND[architecture.kind]]
    blocks = (*architecture.blocks_per_stage, *encoder_blocks(preset, count)[architecture.num_stages :])[:count]
    convs = architecture.convs_per_decoder_stage
    more = _features(architecture.features_per_stage[0], count, len(strides[0]))
    kwargs["n_stages"] = count
    kwargs["features_per_stage"] = [*architecture.features_per_stage, *more[architecture.num_stages :]][:count]
    kwargs["kernel_sizes"] = [list(kernel) for kernel in kernels]
    kwargs["strides"] = [list(stride) for stride in strides]
    kwargs[BLOCKS_KEY[architecture.kind]] = list(blocks)
    kwargs["n_conv_per_stage_decoder"] = [*convs, *decoder_convs(preset, count)][: count - 1]


def _features(first: int, stages: int, dims: int) -> list[int]:
    return [min(first * 2**stage, max(first, MAX_FEATURES[dims])) for stage in range(stages)]
