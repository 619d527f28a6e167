"""Small untrained models in nnU-Net's layout, and images for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch

from segwright.interop import to_nnunet_state_dict, write_checkpoint
from segwright.networks import build_network
from segwright.planning.plan import Plan

GOLDEN_PLANS = Path(__file__).parent / "golden" / "plans"
DATASET_JSON = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "anterior": 1, "posterior": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def small_plan() -> Plan:
    """The golden plan of a hippocampus set, with a network of two stages and few features."""
    raw = json.loads((GOLDEN_PLANS / "Dataset903_Hippo__nnUNetPlans.json").read_text())
    for name, dims in (("2d", 2), ("3d_fullres", 3)):
        entry = raw["configurations"][name]
        entry["patch_size"] = [16] * dims
        entry["architecture"]["arch_kwargs"].update(
            n_stages=2,
            features_per_stage=[4, 8],
            kernel_sizes=[[3] * dims] * 2,
            strides=[[1] * dims, [2] * dims],
            n_conv_per_stage=[1, 1],
            n_conv_per_stage_decoder=[1],
        )
    return Plan.from_json(raw)


def write_model(folder: Path, *, folds: tuple[Any, ...] = (0,), configuration: str = "3d_fullres", **keys: Any) -> Path:
    """Write a model folder with random weights, other ones in each fold; `keys` replace keys of the checkpoints."""
    plan = small_plan()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plan.raw))
    (folder / "dataset.json").write_text(json.dumps(DATASET_JSON))
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        network = build_network(plan.configuration(configuration).architecture, num_input_channels=1, num_outputs=3)
        checkpoint = {
            "network_weights": to_nnunet_state_dict(network),
            "init_args": {"configuration": configuration, "fold": fold},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2) if configuration == "3d_fullres" else (0, 1),
            **keys,
        }
        write_checkpoint(folder / f"fold_{fold}" / "checkpoint_final.pth", checkpoint)
    return folder


def write_image(path: Path, *, seed: int = 0, shape: tuple[int, ...] = (14, 20, 18)) -> None:
    """Write smooth random intensities at a spacing of 1.2 x 1 x 1 mm (z, y, x)."""
    rng = np.random.default_rng(seed)
    array = np.kron(rng.normal(100, 20, [size // 2 for size in shape]), np.ones((2, 2, 2))).astype(np.float32)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 1.2))
    image.SetOrigin((3.0, -4.0, 5.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
