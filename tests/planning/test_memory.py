"""The count of elements, of parameters and of bytes against what the networks themselves do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segwright.networks import build_network
from segwright.planning.architecture import Architecture
from segwright.planning.memory import feature_maps, parameter_count
from segwright.planning.plan import Plan
from segwright.planning.step_memory import estimate_step_memory

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
def test_parameters_and_kept_bytes_are_those_of_the_network(
    name: str, configuration: str, patch_size: tuple[int, ...]
) -> None:
    architecture = architecture_of(name, configuration)
    network = build_network(architecture, num_input_channels=2, num_outputs=3)
    parameters = list(network.parameters())
    assert parameter_count(architecture, num_input_channels=2, num_outputs=3) == sum(p.numel() for p in parameters)
    own = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(torch.rand(1, 2, *patch_size))
        logits = sum(output.numel() for output in outputs)
    measured = sum(storage.nbytes() for storage in kept.values())
    step = estimate_step_memory(
        architecture,
        patch_size=patch_size,
        batch_size=1,
        num_input_channels=2,
        num_outputs=3,
        mixed_precision=False,
    )
    assert step.activations - 16 * logits == pytest.approx(measured, rel=0.05)


def test_memory_grows_with_batch_and_halves_with_float16() -> None:
    architecture = architecture_of("Dataset903_Hippo__nnUNetPlans", "3d_fullres")

    def estimate(batch_size: int, **options: Any) -> Any:
        return estimate_step_memory(
            architecture,
            patch_size=(40, 56, 40),
            batch_size=batch_size,
            num_input_channels=1,
            num_outputs=3,
            **options,
        )

    one, two = estimate(1), estimate(2)
    assert two.activations == 2 * one.activations
    assert two.parameters == one.parameters
    assert 1.5 < estimate(1, mixed_precision=False).activations / one.activations < 2
    assert estimate(1, optimizer_states=2).optimizer == 2 * one.optimizer
    assert one.to_json()["total"] == one.total == sum(v for k, v in one.to_json().items() if k != "total")


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
