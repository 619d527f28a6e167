from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from segwright.errors import PlanError
from segwright.networks import build_network
from segwright.networks.blocks import ResidualBlock
from segwright.planning.architecture import Architecture


def architecture(kind: str = "plain", *, dims: int = 3, features: tuple[int, ...] = (4, 8, 16), **changes: Any) -> Any:
    stages = len(features)
    result = Architecture(
        network_class_name=kind,
        kind=kind,  # type: ignore[arg-type]
        num_stages=stages,
        features_per_stage=features,
        spatial_dims=dims,
        kernel_sizes=((3,) * dims,) * stages,
        strides=((1,) * dims, *((2,) * dims for _ in range(stages - 1))),
        blocks_per_stage=(2,) * stages,
        convs_per_decoder_stage=(2 if kind == "plain" else 1,) * (stages - 1),
        conv_bias=True,
        norm_op=f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        dropout_op=None,
        dropout_op_kwargs=None,
        nonlin="torch.nn.LeakyReLU",
        nonlin_kwargs={"inplace": True},
        other_kwargs={},
    )
    return dataclasses.replace(result, **changes)


def build(wanted: Any, **kwargs: Any) -> Any:
    return build_network(wanted, **{"num_input_channels": 1, "num_outputs": 3, **kwargs})


SIX_STAGES = (32, 64, 128, 256, 320, 320)


@pytest.mark.parametrize(
    ("kind", "blocks", "parameters", "tensors"),
    [("plain", (2,) * 6, 31_196_399, 108), ("residual", (1, 3, 4, 6, 6, 6), 102_350_575, 264)],
)
def test_size_is_nnunets(kind: str, blocks: tuple[int, ...], parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        network = build(architecture(kind, features=SIX_STAGES, blocks_per_stage=blocks))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(list(network.parameters())) == tensors


def test_parameter_names_and_order_of_the_plain_network() -> None:
    network = build(architecture(features=(2, 4), blocks_per_stage=(1, 1), convs_per_decoder_stage=(1,)))
    block = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    assert [name for name, _ in network.named_parameters()] == [
        *(f"encoder.stages.{stage}.0.convs.0.{tensor}" for stage in (0, 1) for tensor in block),
        *(f"decoder.stages.0.convs.0.{tensor}" for tensor in block),
        *(f"decoder.{part}.0.{tensor}" for part in ("transpconvs", "seg_layers") for tensor in ("weight", "bias")),
    ]


def test_parameter_names_of_the_residual_networks_skips() -> None:
    network = build(architecture("residual", features=(4, 8, 8), blocks_per_stage=(1, 2, 1)))
    skips = sorted(
        {name.split(".norm")[0].split(".conv.")[0] for name, _ in network.named_parameters() if "skip" in name}
    )
    assert skips == ["encoder.stages.1.blocks.0.skip.1"], "behind the pooling; no projection where channels stay"
    assert "encoder.stages.1.blocks.0.skip.1.conv.bias" not in dict(network.named_parameters())
    assert "encoder.stem.convs.0.conv.weight" in dict(network.named_parameters())


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
def test_deep_supervision_gives_the_highest_resolution_first_and_can_be_switched(kind: str, dims: int) -> None:
    network = build(architecture(kind, dims=dims), num_input_channels=2).eval()
    x = torch.randn(1, 2, *(16,) * dims)
    with torch.no_grad():
        outputs = network(x)
        network.decoder.deep_supervision = False
        single = network(x)
    assert [tuple(output.shape) for output in outputs] == [(1, 3, *(16,) * dims), (1, 3, *(8,) * dims)]
    assert torch.equal(single, outputs[0])


def test_unequal_strides_and_kernels_keep_the_grid() -> None:
    wanted = architecture(
        features=(4, 8, 8), kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2))
    )
    for kind in ("plain", "residual"):
        outputs = build(dataclasses.replace(wanted, kind=kind))(torch.zeros(1, 1, 6, 12, 8))
        assert [tuple(output.shape[2:]) for output in outputs] == [(6, 12, 8), (6, 6, 4)]


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = build(architecture("residual", features=(32, 64)))
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and module.bias is not None:
            assert not module.bias.any()
        if isinstance(module, ResidualBlock):
            assert not module.conv2.norm.weight.any()  # type: ignore[union-attr,operator]
            assert module.conv1.norm.weight.eq(1).all()  # type: ignore[union-attr,operator]
    weight = network.encoder.stages[1].blocks[0].conv2.conv.weight
    expected = (2 / (1 + 1e-4) / (64 * 27)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.02)


def test_a_silent_residual_branch_still_passes_gradients() -> None:
    network = build(architecture("residual"))
    sum(output.square().mean() for output in network(torch.randn(2, 1, 16, 16, 16))).backward()
    silent = network.encoder.stages[1].blocks[1].conv2.norm.weight
    assert silent.grad is not None
    assert silent.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.5}}, nn.Dropout3d),
        ({"nonlin": "torch.nn.modules.activation.ReLU"}, nn.ReLU),
        ({"norm_op": "torch.nn.BatchNorm3d"}, nn.BatchNorm3d),
    ],
)
def test_modules_named_by_the_plan_are_used(changes: Mapping[str, Any], part: type[nn.Module]) -> None:
    block = build(architecture(**changes)).encoder.stages[0][0].convs[0]
    assert part in {type(module) for module in block.children()}


@pytest.mark.parametrize(
    ("changes", "key", "named"),
    [
        ({"nonlin": "os.system"}, "nonlin", "torch.nn.LeakyReLU"),
        ({"nonlin": "evil.LeakyReLU"}, "nonlin", "torch.nn.LeakyReLU"),
        ({"norm_op": "torch.nn.InstanceNorm2d"}, "norm_op", "torch.nn.InstanceNorm3d"),
        ({"dropout_op": "torch.nn.Linear"}, "dropout_op", "torch.nn.Dropout3d"),
        ({"nonlin_kwargs": {"slope": 1}}, "nonlin_kwargs", "slope"),
        ({"nonlin_kwargs": {"negative_slope": "a"}}, "nonlin_kwargs", "negative_slope"),
        ({"nonlin": "torch.nn.PReLU", "nonlin_kwargs": {"num_parameters": 7}}, "nonlin_kwargs", "num_parameters"),
        ({"norm_op_kwargs": {"eps": "small"}}, "norm_op_kwargs", "small"),
        ({"norm_op_kwargs": {"eps": float("nan")}}, "norm_op_kwargs", "nan"),
        ({"dropout_op": "torch.nn.Dropout", "dropout_op_kwargs": {"p": float("nan")}}, "dropout_op_kwargs", "nan"),
        ({"kind": "other", "network_class_name": "x.Primus"}, "network_class_name", "x.Primus"),
        ({"other_kwargs": {"stem_channels": 7}}, "arch_kwargs", "stem_channels"),
        ({"num_stages": 1}, "n_stages", "1"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(changes: Mapping[str, Any], key: str, named: str) -> None:
    with pytest.raises(PlanError, match=key) as caught:
        build(architecture(**changes))
    assert named in str(caught.value)


def test_trying_the_arguments_draws_no_random_number_and_works_without_memory() -> None:
    dropout = {"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.5}}
    weights = []
    for changes in ({}, dropout):
        torch.manual_seed(0)
        weights.append(build(architecture(**changes)).encoder.stages[0][0].convs[0].conv.weight)
    assert torch.equal(*weights)
    with torch.device("meta"), pytest.raises(PlanError, match="norm_op_kwargs"):
        build(architecture(norm_op_kwargs={"eps": float("nan")}))
