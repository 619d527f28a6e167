"""Configurations of nnU-Net 2.4 and older, which describe the network by keys of their own, not `architecture`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segwright.planning.architecture import MOST_BLOCKS, MOST_FEATURES, MOST_STAGES, architecture_entry
from segwright.planning.fields import Fields

_CLASS_NAMES = {
    "PlainConvUNet": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "ResidualEncoderUNet": "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet",
}
_REPLACED_KEYS = (
    "UNet_class_name",
    "UNet_base_num_features",
    "n_conv_per_stage_encoder",
    "n_conv_per_stage_decoder",
    "num_pool_per_axis",
    "pool_op_kernel_sizes",
    "conv_kernel_sizes",
    "unet_max_num_features",
)


def is_legacy(configuration: Mapping[str, Any]) -> bool:
    """Whether a configuration, inheritance resolved, is in the form of nnU-Net 2.4 and older."""
    return "architecture" not in configuration and "UNet_class_name" in configuration


def upgrade(configuration: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return a configuration of the old form in the new one, as nnU-Net 2.5 and later read it.

    Raises:
        PlanError: for a key of the old form that is missing or wrong.
    """
    fields = Fields(configuration, where)
    class_name = fields.text("UNet_class_name", known=tuple(_CLASS_NAMES))
    convs = fields.whole_numbers("n_conv_per_stage_encoder", maximum=MOST_BLOCKS)
    base = fields.whole_number("UNet_base_num_features", minimum=1, maximum=MOST_FEATURES, remedy="nnU-Net's is 32.")
    cap = fields.whole_number(
        "unet_max_num_features", minimum=1, maximum=MOST_FEATURES, remedy="nnU-Net's is 320 in 3D and 512 in 2D."
    )
    dims = len(fields.whole_numbers("patch_size"))
    convs_key = "n_conv_per_stage" if class_name == "PlainConvUNet" else "n_blocks_per_stage"
    kept = {key: value for key, value in configuration.items() if key not in _REPLACED_KEYS}
    kept["architecture"] = architecture_entry(
        _CLASS_NAMES[class_name],
        dims=dims,
        features_per_stage=[min(base * 2 ** min(stage, MOST_STAGES), cap) for stage in range(len(convs))],
        kernel_sizes=fields.required("conv_kernel_sizes"),
        strides=fields.required("pool_op_kernel_sizes"),
        blocks={convs_key: list(convs)},
        convs_per_decoder_stage=fields.required("n_conv_per_stage_decoder"),
    )
    return kept
