"""Run in the peer's environment: apply its transforms with fixed parameters to the arrays of an .npz file."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size


def spatial(image, seg, case):
    angles = [float(np.deg2rad(angle)) for angle in case["angles_degrees"]]
    patch_size = case["patch_size"][1:] if case["dummy_2d"] else case["patch_size"]
    sampling = SpatialTransform(
        patch_size,
        0,
        False,
        p_rotation=float(bool(angles)),
        rotation=lambda image, dim: angles[dim] if len(angles) > 1 else angles[0],
        p_scaling=float(case["scale"] != 1),
        scaling=case["scale"],
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    data = {"image": torch.from_numpy(image.copy()), "segmentation": torch.from_numpy(seg.copy())}
    steps = [Convert3DTo2DTransform(), sampling, Convert2DTo3DTransform()] if case["dummy_2d"] else [sampling]
    for step in steps:
        data = step(**data)
    mirror = MirrorTransform(tuple(range(image.ndim - 1)))
    data = mirror.apply(data, axes=case["mirrored_axes"])
    return data["image"].numpy(), data["segmentation"].numpy()


def intensity(channel, case):
    image = torch.from_numpy(channel.copy())[None]
    name, value = case["name"], case["value"]
    first = torch.tensor([0])
    if name == "blur":
        transform = GaussianBlurTransform((0.5, 1.0), False, False, 1)
        return transform._apply_to_image(image, apply_to_channel=torch.tensor([True]), sigmas=[value])[0].numpy()
    if name == "contrast":
        transform = ContrastTransform((1, 1), True, False, 1)
        return transform._apply_to_image(image, apply_to_channel=first, multipliers=torch.tensor([value]))[0].numpy()
    if name == "low_resolution":
        transform = SimulateLowResolutionTransform((0.5, 1), False, True, None)
        return transform._apply_to_image(image, apply_to_channel=first, scales=torch.tensor([value]))[0].numpy()
    transform = GammaTransform((1, 1), 0, False, 1, 1)
    return transform._apply_to_image(
        image,
        apply_to_channel=first,
        retain_stats=torch.tensor([True]),
        invert_image=torch.tensor([name == "gamma_inverted"]),
        gamma=torch.tensor([value]),
    )[0].numpy()


def main(arrays_path, cases_path, out_path):
    arrays = np.load(arrays_path)
    with open(cases_path, encoding="utf-8") as file:
        cases = json.load(file)
    out = {}
    for case in cases["spatial"]:
        key = case["key"]
        out[f"{key}_image"], out[f"{key}_seg"] = spatial(arrays[f"{key}_image"], arrays[f"{key}_seg"], case)
    for case in cases["intensity"]:
        out[case["key"]] = intensity(arrays[case["key"]], case)
    for case in cases["downsampling"]:
        transform = DownsampleSegForDSTransform(case["scales"])
        for i, seg in enumerate(transform._apply_to_segmentation(torch.from_numpy(arrays[case["key"]]))):
            out[f"{case['key']}_{i}"] = seg.numpy()
    for i, case in enumerate(cases["geometry"]):
        limit = np.deg2rad(case["limit_degrees"])
        out[f"geometry_{i}"] = get_patch_size(case["patch_size"], *[(-limit, limit)] * 3, (0.85, 1.25))
    np.savez(out_path, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
