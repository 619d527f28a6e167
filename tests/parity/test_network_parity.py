"""Networks, weights and sliding window against nnunetv2, run in its own environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segwright.inference.export import logits_to_label_map
from segwright.inference.forward import predict_logits
from segwright.interop.weights import load_state_dict, to_nnunet_state_dict
from segwright.labels import Labels
from segwright.networks import build_network
from segwright.planning.plan import Plan
from tasks import task_of

pytestmark = pytest.mark.parity

GOLDEN_PLANS = Path(__file__).parents[1] / "golden" / "plans"
SCRIPT = Path(__file__).with_name("peer_networks.py")
NUM_INPUTS, NUM_OUTPUTS = 2, 3
RunPeer = Callable[[str, Path], dict[str, Any]]
PLAIN, RESIDUAL = "Dataset904_Cardiac__nnUNetPlans", "Dataset904_Cardiac__nnUNetResEncUNetMPlans"
DATASET_JSON = {
    "channel_names": {"0": "a", "1": "b"},
    "labels": {"background": 0, "one": 1, "two": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def run_peer(peer_python: str) -> RunPeer:
    def run(command: str, folder: Path) -> dict[str, Any]:
        result = subprocess.run([peer_python, SCRIPT, command, folder], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        with np.load(folder / "answer.npz") as content:
            return dict(content)

    return run


def small_plan(name: str, configuration: str) -> Plan:
    """A golden plan with few features, so that it runs in a moment."""
    raw = json.loads((GOLDEN_PLANS / f"{name}.json").read_text())
    arguments = raw["configurations"][configuration]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [4 + 2 * stage for stage in range(arguments["n_stages"])]
    return Plan.from_json(raw)


def randomised_network(plan: Plan, configuration: str) -> Any:
    torch.manual_seed(0)
    network = build_network(
        plan.configuration(configuration).architecture, num_input_channels=NUM_INPUTS, num_outputs=NUM_OUTPUTS
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def write_request(folder: Path, plan: Plan, configuration: str, network: Any, data: torch.Tensor, **more: Any) -> None:
    architecture = plan.configuration(configuration).raw["architecture"]
    (folder / "request.json").write_text(
        json.dumps({"architecture": architecture, "configuration": configuration, **more})
    )
    torch.save(to_nnunet_state_dict(network), folder / "ours.pth")
    np.save(folder / "data.npy", data.numpy())


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("plan_name", [PLAIN, RESIDUAL])
def test_same_weights_give_the_same_logits_both_ways(
    tmp_path: Path, run_peer: RunPeer, plan_name: str, configuration: str
) -> None:
    plan = small_plan(plan_name, configuration)
    network = randomised_network(plan, configuration)
    data = torch.randn(2, NUM_INPUTS, *plan.configuration(configuration).architecture.total_stride) * 2
    data = data.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    write_request(tmp_path, plan, configuration, network, data)
    answer = run_peer("forward", tmp_path)
    facts = json.loads((tmp_path / "answer.json").read_text())

    assert list(to_nnunet_state_dict(network)) == facts["keys"]
    assert [name for name, _ in network.named_parameters()] == facts["optimizer_order"]
    compare_outputs(network, data, answer, "ours")
    load_state_dict(network, torch.load(tmp_path / "theirs.pth", weights_only=True), where="theirs.pth")
    compare_outputs(network, data, answer, "theirs")
    compare_optimizers(network, data, torch.load(tmp_path / "optimizer.pth", weights_only=True))


@torch.no_grad()
def compare_outputs(network: Any, data: torch.Tensor, answer: dict[str, Any], name: str) -> None:
    outputs = network(data)
    assert len(outputs) == sum(key.startswith(name) for key in answer)
    for index, output in enumerate(outputs):
        np.testing.assert_allclose(output.numpy(), answer[f"{name}_{index}"], rtol=0, atol=1e-4)


def compare_optimizers(network: Any, data: torch.Tensor, theirs: dict[str, Any]) -> None:
    """One step from the same weights leaves the same momentum under the same number."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    sum(output.square().sum() for output in network(data)).backward()
    optimizer.step()
    ours = optimizer.state_dict()["state"]
    assert ours.keys() == theirs["state"].keys()
    expected = {number: state["momentum_buffer"] for number, state in theirs["state"].items()}
    # The gradient of a bias in front of a norm is 0 but for rounding, so the largest gradient sets the scale.
    rounding = 1e-5 * max(buffer.abs().max().item() for buffer in expected.values())
    for number, state in ours.items():
        tolerance = rounding + 1e-3 * expected[number].abs().max().item()
        torch.testing.assert_close(state["momentum_buffer"], expected[number], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("configuration", "size_in_patches", "mirror_axes"),
    [("3d_fullres", (1.6, 0.8, 1.3), (0, 1, 2)), ("2d", (3, 1.4, 0.9), (0, 1))],
)
def test_sliding_windows_agree(
    tmp_path: Path,
    run_peer: RunPeer,
    configuration: str,
    size_in_patches: tuple[float, ...],
    mirror_axes: tuple[int, ...],
) -> None:
    plan = small_plan(PLAIN, configuration)
    patch_size = [2 * stride for stride in plan.configuration(configuration).architecture.total_stride]
    plan = plan.with_configuration(configuration, {"patch_size": patch_size})
    sizes = [1, *patch_size] if len(patch_size) == 2 else patch_size
    data = torch.randn(NUM_INPUTS, *(round(size * factor) for size, factor in zip(sizes, size_in_patches, strict=True)))
    network = randomised_network(plan, configuration)
    write_request(
        tmp_path,
        plan,
        configuration,
        network,
        data,
        plans=plan.raw,
        dataset_json=DATASET_JSON,
        mirror_axes=mirror_axes,
    )
    expected = run_peer("window", tmp_path)["logits"]
    found = predict_logits(
        [network], data, patch_size=patch_size, num_outputs=NUM_OUTPUTS, mirror_axes=mirror_axes
    ).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.array_equal(found.argmax(0), expected.argmax(0))


CLASSES = {"background": 0, "one": 1, "two": 2}
REGIONS = {"background": 0, "whole": [1, 2, 3], "part": [2, 3], "core": 3}


@pytest.mark.parametrize(
    ("plan_name", "configuration", "spacing", "labels", "regions_class_order"),
    [
        (PLAIN, "3d_fullres", [1.6, 1.1, 1.3], CLASSES, None),
        (PLAIN, "3d_fullres", [1.6, 1.1, 1.3], REGIONS, [1, 2, 3]),
        (PLAIN, "2d", [1.6, 1.1, 1.3], CLASSES, None),
        ("Dataset906_Prostate__nnUNetPlans", "3d_fullres", [3.1, 0.7, 0.6], CLASSES, None),
        ("Dataset907_SagSpine__nnUNetPlans", "3d_fullres", [0.6, 0.7, 4.1], CLASSES, None),
    ],
)
def test_label_maps_on_the_original_grid_agree(
    tmp_path: Path,
    run_peer: RunPeer,
    plan_name: str,
    configuration: str,
    spacing: list[float],
    labels: Any,
    regions_class_order: Any,
) -> None:
    plan = Plan.read(GOLDEN_PLANS / f"{plan_name}.json")
    box = [[2, 20], [0, 31], [1, 27]]
    properties = {
        "spacing": spacing,
        "shape_before_cropping": [23, 31, 29],
        "bbox_used_for_cropping": box,
        "shape_after_cropping_and_before_resampling": [end - first for first, end in box],
    }
    torch.manual_seed(0)
    size = (18, 25, 33) if configuration == "2d" else (14, 25, 33)
    logits = torch.nn.functional.interpolate(torch.randn(1, 3, 6, 6, 6), size=size, mode="trilinear")[0]
    dataset_json = {**DATASET_JSON, "labels": labels, "regions_class_order": regions_class_order}
    request = {
        "plans": plan.raw,
        "configuration": configuration,
        "dataset_json": {key: value for key, value in dataset_json.items() if value is not None},
        "properties": properties,
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    np.save(tmp_path / "data.npy", logits.numpy())
    expected = run_peer("export", tmp_path)["label_map"]
    found = logits_to_label_map(
        logits.numpy(),
        properties=properties,
        task=task_of(plan, configuration, Labels.from_json(labels, regions_class_order)),
    )
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert len(np.unique(expected)) >= 3
    assert (found != expected).mean() < 1e-4
