from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from segwright.errors import CheckpointError
from segwright.interop.weights import load_state_dict, to_nnunet_state_dict, without_copies
from segwright.networks import build_network
from segwright.planning.architecture import Architecture, parse_architecture
from segwright.planning.fields import Fields

SIX_STAGES = [32, 64, 128, 256, 320, 320]


def architecture(
    kind: str = "plain", *, features: list[int] | None = None, blocks: Any = 2, **extra: Any
) -> Architecture:
    features = features or [2, 4]
    name = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}[kind]
    arguments = {
        "n_stages": len(features),
        "features_per_stage": features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": 3,
        "strides": [1, *[2] * (len(features) - 1)],
        "n_conv_per_stage" if kind == "plain" else "n_blocks_per_stage": blocks,
        "n_conv_per_stage_decoder": 2 if kind == "plain" else 1,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **extra,
    }
    return parse_architecture(Fields({"network_class_name": name, "arch_kwargs": arguments}, "test"), spatial_dims=3)


def build(kind: str = "plain", **kwargs: Any) -> nn.Module:
    return build_network(architecture(kind, **kwargs), num_input_channels=1, num_outputs=3)


@pytest.mark.parametrize(("kind", "blocks", "keys"), [("plain", 2, 292), ("residual", [1, 3, 4, 6, 6, 6], 956)])
def test_number_of_keys_is_nnunets(kind: str, blocks: Any, keys: int) -> None:
    with torch.device("meta"):
        assert len(to_nnunet_state_dict(build(kind, features=SIX_STAGES, blocks=blocks))) == keys


def test_keys_of_a_small_network_in_nnunets_order() -> None:
    keys = list(to_nnunet_state_dict(build(blocks=1, n_conv_per_stage_decoder=1)))
    block = [
        f"{part}.{tensor}"
        for part in ("conv", "norm", "all_modules.0", "all_modules.1")
        for tensor in ("weight", "bias")
    ]
    encoder = [f"encoder.stages.{stage}.0.convs.0.{tensor}" for stage in (0, 1) for tensor in block]
    heads = [f"decoder.{part}.0.{tensor}" for part in ("transpconvs", "seg_layers") for tensor in ("weight", "bias")]
    decoder = [f"decoder.stages.0.convs.0.{tensor}" for tensor in block]
    assert keys == [*encoder, *(f"decoder.{key}" for key in encoder), *decoder, *heads]


def test_dropout_moves_the_norm_in_the_list_of_modules() -> None:
    network = build(dropout_op="torch.nn.Dropout3d", dropout_op_kwargs={"p": 0.5})
    state = to_nnunet_state_dict(network)
    assert "encoder.stages.0.0.convs.0.all_modules.2.weight" in state
    assert "encoder.stages.0.0.convs.0.all_modules.1.weight" not in state


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_copies_share_storage_and_are_the_only_additions(kind: str) -> None:
    network = build(kind)
    state = to_nnunet_state_dict(network)
    assert {value.data_ptr() for value in state.values()} == {p.data_ptr() for p in network.parameters()}
    assert list(without_copies(state)) == [name for name, _ in network.named_parameters()]


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_round_trip(kind: str, prefix: str) -> None:
    torch.manual_seed(1)
    source, target = build(kind), build(kind)
    load_state_dict(target, {prefix + key: value for key, value in to_nnunet_state_dict(source).items()}, where="x")
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key]), key


def test_a_wrapped_network_is_unwrapped() -> None:
    network = build()
    wrapped = nn.DataParallel(network)
    assert list(to_nnunet_state_dict(wrapped)) == list(to_nnunet_state_dict(network))
    load_state_dict(wrapped, to_nnunet_state_dict(network), where="x")


def test_a_foreign_network_with_names_like_copies_keeps_them() -> None:
    network = nn.ModuleDict({"block": nn.ModuleDict({"all_modules": nn.Sequential(nn.Linear(1, 1))})})
    load_state_dict(network, network.state_dict(), where="x")
    assert list(to_nnunet_state_dict(network)) == ["block.all_modules.0.weight", "block.all_modules.0.bias"]


def test_every_difference_is_named() -> None:
    state = to_nnunet_state_dict(build())
    del state["decoder.seg_layers.0.bias"]
    state["decoder.extra.weight"] = torch.zeros(1)
    state["decoder.seg_layers.0.weight"] = torch.zeros(5, 2, 1, 1, 1)
    with pytest.raises(CheckpointError) as caught:
        load_state_dict(build(), state, where="fold_0/checkpoint_final.pth")
    text = str(caught.value)
    assert text.startswith("fold_0/checkpoint_final.pth: ")
    assert "decoder.seg_layers.0.bias" in text
    assert "decoder.extra.weight" in text
    assert re.search(r"decoder\.seg_layers\.0\.weight.*\(5, 2, 1, 1, 1\).*\(3, 2, 1, 1, 1\)", text)


def test_nothing_is_loaded_when_something_does_not_fit() -> None:
    network = build()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = to_nnunet_state_dict(build())
    del state["decoder.seg_layers.0.bias"]
    with pytest.raises(CheckpointError):
        load_state_dict(network, state, where="x")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_another_kind_of_number_is_refused_and_another_precision_is_not(dtype: torch.dtype) -> None:
    network = build()
    weights = network.state_dict()
    load_state_dict(network, {key: value.half() for key, value in weights.items()}, where="half.pth")
    with pytest.raises(CheckpointError, match=str(dtype)):
        load_state_dict(network, {key: value.to(dtype) for key, value in weights.items()}, where="other.pth")
