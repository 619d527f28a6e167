"""Runs in nnunetv2's own environment: its networks, tiles and sliding window, for tests to compare with.

PYTHON peer_networks.py golden FOLDER     write the golden files of tests/golden/networks
PYTHON peer_networks.py forward FOLDER    request.json, ours.pth -> answer.npz, answer.json, theirs.pth
PYTHON peer_networks.py window FOLDER     request.json, ours.pth, data.npy -> answer.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

NUM_INPUTS, NUM_OUTPUTS = 2, 3
GOLDEN_TILES = ((20, 28, 17), (40, 56, 40), (33, 64), (5, 7, 1))
GOLDEN_STEPS = (((110, 64, 300), (64, 64, 128), 0.5), ((51, 77), (17, 32), 0.25), ((100, 100), (30, 64), 1.0))


def build(architecture: dict[str, Any], *, deep_supervision: bool) -> Any:
    return get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        NUM_INPUTS,
        NUM_OUTPUTS,
        deep_supervision=deep_supervision,
    )


def randomise(network: Any) -> None:
    """Give every parameter a value of its own, those that start as 0 or 1 too."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def small_architecture(kind: str, dims: int) -> dict[str, Any]:
    """Three stages with unequal strides and kernels, as for a data set of thick slices."""
    flat = (1,) * (dims - 2)
    plain = kind == "plain"
    network = "PlainConvUNet" if plain else "ResidualEncoderUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [2, 3, 4],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[*flat, 3, 3], [3] * dims, [3] * dims],
            "strides": [[1] * dims, [*flat, 2, 2], [2] * dims],
            **({"n_conv_per_stage": [2, 1, 2]} if plain else {"n_blocks_per_stage": [1, 2, 2]}),
            "n_conv_per_stage_decoder": [2, 1] if plain else [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def write_golden(folder: Path) -> None:
    for kind in ("plain", "residual"):
        for dims in (2, 3):
            torch.manual_seed(dims)
            architecture = small_architecture(kind, dims)
            network = build(architecture, deep_supervision=True).eval()
            randomise(network)
            data = torch.randn(2, NUM_INPUTS, *(8, 12, 16)[-dims:])
            with torch.no_grad():
                outputs = network(data)
            names = [name for name, _ in network.named_parameters()]
            np.savez_compressed(
                folder / f"{kind}_{dims}d.npz",
                architecture=json.dumps(architecture),
                keys=json.dumps(list(network.state_dict())),
                parameters=json.dumps(names),
                input=data.numpy(),
                **{f"output_{index}": output.numpy() for index, output in enumerate(outputs)},
                **{f"weights/{name}": value.detach().numpy() for name, value in network.named_parameters()},
            )
    importances = {f"importance_{'x'.join(map(str, tile))}": importance(tile) for tile in GOLDEN_TILES}
    steps = [
        {"image": image, "tile": tile, "step": step, "starts": compute_steps_for_sliding_window(image, tile, step)}
        for image, tile, step in GOLDEN_STEPS
    ]
    np.savez_compressed(folder / "tiles.npz", steps=json.dumps(steps), **importances)


def importance(tile: tuple[int, ...]) -> Any:
    return compute_gaussian(tile, value_scaling_factor=10, device=torch.device("cpu")).numpy()


def forward(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    network = build(request["architecture"], deep_supervision=True).eval()
    data = torch.from_numpy(np.load(folder / "data.npy"))
    answer: dict[str, Any] = {}
    for name in ("ours", "theirs"):
        if name == "ours":
            network.load_state_dict(torch.load(folder / "ours.pth"), strict=True)
        else:
            randomise(network)
            torch.save(network.state_dict(), folder / "theirs.pth")
        with torch.no_grad():
            answer.update({f"{name}_{index}": output.numpy() for index, output in enumerate(network(data))})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    sum(output.square().sum() for output in network(data)).backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), folder / "optimizer.pth")
    np.savez(folder / "answer.npz", **answer)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    order = [names[id(parameter)] for parameter in optimizer.param_groups[0]["params"]]
    (folder / "answer.json").write_text(json.dumps({"keys": list(network.state_dict()), "optimizer_order": order}))


def window(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    plans = PlansManager(request["plans"])
    configuration = plans.get_configuration(request["configuration"])
    network = build(request["architecture"], deep_supervision=False)
    network.load_state_dict(torch.load(folder / "ours.pth"))
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        network, plans, configuration, None, request["dataset_json"], "nnUNetTrainer", tuple(request["mirror_axes"])
    )
    torch.half = torch.float32  # nnunetv2 sums in half precision, which would hide a difference
    with torch.no_grad():
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.load(folder / "data.npy")))
    np.savez(folder / "answer.npz", logits=logits.float().numpy())


def export(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    plans = PlansManager(request["plans"])
    label_map = convert_predicted_logits_to_segmentation_with_correct_shape(
        np.load(folder / "data.npy"),
        plans,
        plans.get_configuration(request["configuration"]),
        plans.get_label_manager(request["dataset_json"]),
        request["properties"],
        num_threads_torch=1,
    )
    np.savez(folder / "answer.npz", label_map=label_map)


if __name__ == "__main__":
    {"golden": write_golden, "forward": forward, "window": window, "export": export}[sys.argv[1]](Path(sys.argv[2]))
