from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segwright.inference.export import logits_to_label_map
from segwright.labels import Labels
from segwright.planning.plan import Plan
from segwright.preprocessing.resampling import resample_logits
from tasks import task_of

GOLDEN_PLANS = Path(__file__).parents[1] / "golden" / "plans"
CLASSES = Labels.from_json({"background": 0, "a": 1, "b": 2})


def plan(name: str = "Dataset904_Cardiac", **changes: Any) -> Plan:
    raw = json.loads((GOLDEN_PLANS / f"{name}__nnUNetPlans.json").read_text())
    return Plan.from_json({**raw, **changes})


def properties(spacing: list[float], whole: tuple[int, ...], box: list[list[int]]) -> dict[str, Any]:
    """As preprocessing leaves them: spacing in the file's order of axes, shapes in the plan's."""
    cropped = tuple(end - first for first, end in box)
    return {
        "spacing": spacing,
        "shape_before_cropping": whole,
        "bbox_used_for_cropping": box,
        "shape_after_cropping_and_before_resampling": cropped,
    }


def smooth_logits(channels: int, shape: tuple[int, ...]) -> torch.Tensor:
    torch.manual_seed(0)
    coarse = torch.randn(1, channels, 3, 3, 3)
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]


@pytest.mark.parametrize(
    ("configuration", "spacing"),
    [("3d_fullres", [2.0, 1.5, 1.5]), ("3d_fullres", [9.0, 1.5, 1.5]), ("2d", [5.0, 1, 1])],
)
def test_equals_resampling_every_channel_and_taking_the_largest(configuration: str, spacing: list[float]) -> None:
    used, chosen = plan(), plan().configuration(configuration)
    box = [[1, 10], [2, 22], [0, 17]]
    facts = properties(spacing, (12, 24, 18), box)
    shape = (9, 15, 12) if chosen.is_2d else (11, 15, 12)
    logits = smooth_logits(3, shape)
    found = logits_to_label_map(logits.numpy(), properties=facts, task=task_of(used, chosen.name, CLASSES))

    from_spacing = (spacing[0], *chosen.spacing_mm) if chosen.is_2d else chosen.spacing_mm
    resampled = resample_logits(
        logits.numpy(),
        facts["shape_after_cropping_and_before_resampling"],
        current_spacing_mm=from_spacing,
        new_spacing_mm=spacing,
        resampling=chosen.resampling_probabilities,
    )
    expected = np.zeros((12, 24, 18), dtype=np.uint8)
    expected[1:10, 2:22, 0:17] = resampled.argmax(axis=0)
    assert found.dtype == np.uint8
    assert len(np.unique(expected)) == 3
    assert np.array_equal(found, expected)


def test_the_order_of_axes_is_undone() -> None:
    used = plan(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    chosen = used.configuration("3d_fullres")
    original = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    transposed = original.transpose(2, 0, 1)
    logits = torch.from_numpy(np.stack([transposed == value for value in range(3)]).astype(np.float32))
    z, y, x = chosen.spacing_mm
    facts = properties([y, x, z], transposed.shape, [[0, size] for size in transposed.shape])
    found = logits_to_label_map(logits.numpy(), properties=facts, task=task_of(used, chosen.name, CLASSES))
    assert np.array_equal(found, original)


def test_regions_are_drawn_in_their_order() -> None:
    used, chosen = plan(), plan().configuration("3d_fullres")
    regions = Labels.from_json({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
    logits = torch.full((2, 1, 1, 4), -1.0)
    logits[0, ..., 1:] = 1
    logits[1, ..., 2:3] = 1
    facts = properties(list(chosen.spacing_mm), (1, 1, 4), [[0, 1], [0, 1], [0, 4]])
    found = logits_to_label_map(logits.numpy(), properties=facts, task=task_of(used, chosen.name, regions))
    assert found.tolist() == [[[0, 1, 2, 1]]]


def test_many_labels_need_two_bytes() -> None:
    used, chosen = plan(), plan().configuration("3d_fullres")
    many = Labels.from_json({"background": 0, **{f"label {value}": value for value in range(1, 301)}})
    logits = torch.zeros(301, 1, 1, 2)
    logits[300] = 1
    facts = properties(list(chosen.spacing_mm), (1, 1, 2), [[0, 1], [0, 1], [0, 2]])
    found = logits_to_label_map(logits.numpy(), properties=facts, task=task_of(used, chosen.name, many))
    assert found.dtype == np.uint16
    assert found.tolist() == [[[300, 300]]]
