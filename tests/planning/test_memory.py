"""The count of elements, of parameters and of multiplications against what the networks themselves do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segwright.networks import build_network
from segwright.planning.architecture import Architecture
from segwright.planning.memory import feature_maps, multiplications, parameter_count
from segwright.planning.plan import Plan

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
CASES = [
    ("Dataset903_Hippo__nnUNetPlans", "3d_fullres", (16, 24, 16)),
    ("Dataset903_Hippo__nnUNetResEncUNetLPlans", "3d_fullres", (16, 24, 16)),
    ("Dataset902_BrainReg__nnUNetPlans", "2d", (64, 96)),
    ("Dataset902_BrainReg__nnUNetResEncUNetLPlans", "2d", (64, 96)),
    ("Dataset904_Cardiac__nnUNetResEncUNetPlans", "3d_fullres", (8, 64, 64)),
]


def architecture_of(name: str, configuration: str) -> Architecture:
    return Plan.read(GOLDEN / f"{name}.json").configuration(configuration).architecture


def sizes(architecture: Architecture, patch_size: tuple[int, ...], num_outputs: int = 3) -> Any:
    return feature_maps(
        kind=architecture.kind,
        patch_size=patch_size,
        strides=architecture.strides,
        features_per_stage=architecture.features_per_stage,
        blocks_per_stage=architecture.blocks_per_stage,
        convs_per_decoder_stage=architecture.convs_per_decoder_stage,
        num_outputs=num_outputs,
    )


def test_the_known_count_of_a_plain_network() -> None:
    maps = feature_maps(
        kind="plain",
        patch_size=(128, 128, 128),
        strides=((1, 1, 1), *((2, 2, 2),) * 5),
        features_per_stage=(32, 64, 128, 256, 320, 320),
        blocks_per_stage=(2,) * 6,
        convs_per_decoder_stage=(2,) * 5,
        num_outputs=3,
    )
    assert maps.planned_elements + maps.auxiliary_logits == 453_694_976


def test_a_network_of_one_stage_has_no_decoder() -> None:
    maps = feature_maps(
        kind="plain",
        patch_size=(3, 3, 3),
        strides=((1, 1, 1),),
        features_per_stage=(32,),
        blocks_per_stage=(2,),
        convs_per_decoder_stage=(),
        num_outputs=3,
    )
    assert maps.planned_elements == 2 * 32 * 27


def test_known_numbers_of_parameters() -> None:
    plain = architecture_of("Dataset901_CTAniso__nnUNetPlans", "3d_lowres")
    residual = architecture_of("Dataset901_CTAniso__nnUNetResEncUNetLPlans", "3d_lowres")
    for architecture, known in ((plain, 31_196_399), (residual, 102_350_575)):
        cube = replace(architecture, kernel_sizes=((3, 3, 3),) * 6, strides=((1, 1, 1), *((2, 2, 2),) * 5))
        assert parameter_count(cube, num_input_channels=1, num_outputs=3) == known


@pytest.mark.parametrize(("name", "configuration", "patch_size"), CASES)
def test_parameters_are_those_of_the_network(name: str, configuration: str, patch_size: tuple[int, ...]) -> None:
    architecture = architecture_of(name, configuration)
    network = build_network(architecture, num_input_channels=2, num_outputs=3)
    known = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(architecture, num_input_channels=2, num_outputs=3) == known


@pytest.mark.parametrize(("name", "configuration", "patch_size"), CASES)
def test_multiplications_are_those_of_the_convolutions(
    name: str, configuration: str, patch_size: tuple[int, ...]
) -> None:
    architecture = architecture_of(name, configuration)
    network = build_network(architecture, num_input_channels=2, num_outputs=3)
    counted = 0

    def count(module: Any, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal counted
        # a weight is (out, in, *kernel), of transposed convolutions (in, out, *kernel) with one tap an output voxel
        transposed = "Transpose" in type(module).__name__
        taps = module.in_channels if transposed else module.weight[0].numel()
        counted += output.numel() * taps

    for module in network.modules():
        if hasattr(module, "kernel_size") and hasattr(module, "weight"):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.rand(1, 2, *patch_size))
    assert counted == multiplications(architecture, patch_size=patch_size, num_input_channels=2, num_outputs=3)


def test_feature_maps_follow_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of a plain network equals the elements that its convolutions put out."""
    architecture = architecture_of("Dataset903_Hippo__nnUNetPlans", "3d_fullres")
    network = build_network(architecture, num_input_channels=1, num_outputs=3, deep_supervision=False)
    counted = 0

    def count(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel()

    convolutions = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    handles = {id(m): m.register_forward_hook(count) for m in network.modules() if isinstance(m, convolutions)}
    with torch.no_grad():
        network(torch.rand(1, 1, 16, 24, 16))
    assert handles
    assert sizes(architecture, (16, 24, 16)).planned_elements == counted
