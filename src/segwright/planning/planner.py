"""Make a plan from a fingerprint and a data set's description, as nnU-Net v2's planners do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segwright.planning.architecture import BLOCKS_KEY, architecture_entry
from segwright.planning.decisions import NetworkDecision, PlanningDecisions, decide
from segwright.planning.plan import Plan
from segwright.planning.presets import PlannerPreset, planner_named, resampling_entries

if TYPE_CHECKING:
    from segwright.dataset.description import DatasetDescription
    from segwright.fingerprint import Fingerprint

_CLASS_NAMES = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
_NORMALIZATION_OF_CHANNEL = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}
# images that keep less than this part of their voxels after cropping are normalised inside the mask alone
MASK_BELOW_RELATIVE_SIZE = 3 / 4


def make_plan(
    fingerprint: Fingerprint,
    description: DatasetDescription,
    *,
    dataset_name: str,
    image_reader_writer: str,
    planner: str = "ExperimentPlanner",
    gpu_memory_gb: float | None = None,
    overwrite_target_spacing_mm: Sequence[float] | None = None,
    plans_name: str | None = None,
    suppress_transpose: bool = False,
    preprocessor_name: str = "DefaultPreprocessor",
) -> Plan:
    """Plan every configuration for a data set, equal to what nnU-Net's planner of that name writes.

    `overwrite_target_spacing_mm` is in the order of the images' axes, before any transpose.

    Raises:
        PlanError: for an unknown planner, or a spacing or memory that leaves nothing to train on.
    """
    preset = planner_named(planner)
    decisions = decide(
        fingerprint,
        description,
        preset=preset,
        gpu_memory_gb=gpu_memory_gb,
        overwrite_target_spacing_mm=overwrite_target_spacing_mm,
        suppress_transpose=suppress_transpose,
    )
    name = preset.plans_name if plans_name is None else plans_name
    shared = {
        "preprocessor_name": preprocessor_name,
        **normalization_entries(description.channel_names, fingerprint.median_relative_size_after_cropping),
    }
    forward = list(decisions.transpose_forward)
    spacing = np.median(np.asarray(fingerprint.spacings_mm, dtype=np.float64), 0)[forward]
    shape = np.median(np.asarray(fingerprint.shapes_after_crop, dtype=np.float64), 0)[forward]
    raw = {
        "dataset_name": dataset_name,
        "plans_name": name,
        "original_median_spacing_after_transp": [float(value) for value in spacing],
        "original_median_shape_after_transp": [round(float(value)) for value in shape],
        "image_reader_writer": image_reader_writer,
        "transpose_forward": forward,
        "transpose_backward": list(decisions.transpose_backward),
        "configurations": _configurations(decisions, name, shared),
        "experiment_planner_used": preset.name,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": fingerprint.to_json()[
            "foreground_intensity_properties_per_channel"
        ],
    }
    return Plan.from_json(raw, where=f"{name} of {dataset_name}")


def normalization_entries(channel_names: Sequence[str], median_relative_size: float) -> dict[str, Any]:
    """The keys `normalization_schemes` and `use_mask_for_norm`: one scheme a channel, chosen by the channel's name."""
    schemes = [_NORMALIZATION_OF_CHANNEL.get(name.casefold(), "ZScoreNormalization") for name in channel_names]
    masked = median_relative_size < MASK_BELOW_RELATIVE_SIZE
    return {
        "normalization_schemes": schemes,
        "use_mask_for_norm": [masked and scheme == "ZScoreNormalization" for scheme in schemes],
    }


def _configurations(decisions: PlanningDecisions, plans_name: str, shared: dict[str, Any]) -> dict[str, Any]:
    preset = decisions.preset
    fullres, lowres = decisions.fullres, decisions.lowres.network if decisions.lowres else None
    entries = {"2d": {**_entry("2d", decisions.two_d, preset, plans_name, shared), "batch_dice": True}}
    if lowres is not None:
        entries["3d_lowres"] = {
            **_entry("3d_lowres", lowres, preset, plans_name, shared),
            "batch_dice": False,
            "next_stage": "3d_cascade_fullres",
        }
    if fullres is not None:
        entry = _entry("3d_fullres", fullres, preset, plans_name, shared)
        entries["3d_fullres"] = {**entry, "batch_dice": lowres is not None}
    if lowres is not None:
        entries["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    return entries


def _entry(
    name: str, network: NetworkDecision, preset: PlannerPreset, plans_name: str, shared: dict[str, Any]
) -> dict[str, Any]:
    default_data = preset.shares_default_data and name != "3d_lowres"
    topology = network.topology
    return {
        "data_identifier": f"{'nnUNetPlans' if default_data else plans_name}_{name}",
        "preprocessor_name": shared["preprocessor_name"],
        "batch_size": network.batch_size,
        "patch_size": list(topology.patch_size),
        "median_image_size_in_voxels": list(network.median_shape),
        "spacing": list(network.spacing_mm),
        "normalization_schemes": list(shared["normalization_schemes"]),
        "use_mask_for_norm": list(shared["use_mask_for_norm"]),
        **resampling_entries(preset),
        "architecture": architecture_entry(
            _CLASS_NAMES[preset.kind],
            dims=len(topology.patch_size),
            features_per_stage=list(network.features_per_stage),
            kernel_sizes=[list(kernel) for kernel in topology.kernel_sizes],
            strides=[list(stride) for stride in topology.strides],
            blocks={BLOCKS_KEY[preset.kind]: list(network.blocks_per_stage)},
            convs_per_decoder_stage=list(network.convs_per_decoder_stage),
        ),
    }
