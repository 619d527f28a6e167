"""Networks against ones that nnunetv2's environment built (tests/parity/peer_networks.py wrote the files)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segwright.interop.weights import load_state_dict, to_nnunet_state_dict
from segwright.networks import build_network
from segwright.planning.architecture import parse_architecture
from segwright.planning.fields import Fields

GOLDEN = Path(__file__).parents[1] / "golden" / "networks"
WEIGHTS = "weights/"


@pytest.fixture(params=["plain_2d", "plain_3d", "residual_2d", "residual_3d"])
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    with np.load(GOLDEN / f"{request.param}.npz") as content:
        return dict(content)


def build(golden: dict[str, Any]) -> Any:
    data = golden["input"]
    architecture = parse_architecture(
        Fields(json.loads(str(golden["architecture"])), "golden"), spatial_dims=data.ndim - 2
    )
    return build_network(architecture, num_input_channels=data.shape[1], num_outputs=3)


def test_parameters_have_nnunets_names_in_its_order(golden: dict[str, Any]) -> None:
    assert [name for name, _ in build(golden).named_parameters()] == json.loads(str(golden["parameters"]))


def test_state_has_nnunets_keys_in_its_order(golden: dict[str, Any]) -> None:
    assert list(to_nnunet_state_dict(build(golden))) == json.loads(str(golden["keys"]))


@torch.no_grad()
def test_every_output_equals_nnunets(golden: dict[str, Any]) -> None:
    network = build(golden).eval()
    weights = {
        key.removeprefix(WEIGHTS): torch.from_numpy(value) for key, value in golden.items() if key.startswith(WEIGHTS)
    }
    load_state_dict(network, weights, where="golden")
    outputs = network(torch.from_numpy(golden["input"]))
    assert len(outputs) == 2
    for index, output in enumerate(outputs):
        np.testing.assert_allclose(output.numpy(), golden[f"output_{index}"], rtol=0, atol=1e-4)
