"""Write tests/golden/planner_branches.json with nnunetv2: run this in its environment, from the root of the repository.

One small made-up data set for every turn that a planner can take; test_planner_branches.py says which turn each takes.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path("tests/parity").resolve()))

from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
from peer_planner import plan

TARGET = Path("tests/golden/planner_branches.json")
INTENSITIES = {
    "max": 900.0,
    "mean": 55.5,
    "median": 57.25,
    "min": -200.0,
    "percentile_00_5": -90.0,
    "percentile_99_5": 310.0,
    "std": 71.0,
}
Numbers = tuple[float, float, float]


def case(
    *spacings_and_shapes: tuple[Numbers, tuple[int, int, int]],
    planner: str = "ExperimentPlanner",
    training: int = 100,
    channels: tuple[str, ...] = ("CT",),
    labels: dict[str, Any] | None = None,
    regions_class_order: list[int] | None = None,
    relative_size: float = 1.0,
    **arguments: Any,
) -> dict[str, Any]:
    """What to plan: the measured cases, (z, y, x), then what differs from one CT channel, one organ and 100 cases."""
    description: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels or {"background": 0, "organ": 1},
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    if regions_class_order is not None:
        description["regions_class_order"] = regions_class_order
    return {
        "planner": planner,
        "arguments": arguments,
        "dataset": description,
        "fingerprint": {
            "spacings": [list(spacing) for spacing, _ in spacings_and_shapes],
            "shapes_after_crop": [list(shape) for _, shape in spacings_and_shapes],
            "foreground_intensity_properties_per_channel": {str(n): INTENSITIES for n in range(len(channels))},
            "median_relative_size_after_cropping": relative_size,
        },
    }


SMALL = ((1.0, 1.0, 1.0), (36, 50, 35))
LARGE = ((1.0, 1.0, 1.0), (400, 380, 360))
SLICES = ((6.0, 0.8, 0.8), (24, 420, 400))
FLAT = ((999.0, 1.0, 1.0), (1, 1500, 1400))
SAGITTAL = ((0.7, 0.9, 4.0), (300, 280, 20))

CASES = {
    "two-dimensional": case(((999.0, 1.0, 1.0), (1, 300, 280))),
    "two-dimensional, patch for the smallest batch": case(FLAT),
    "two-dimensional, patch for the batch of the reference": case(FLAT, planner="ResEncUNetPlanner"),
    "a patch holds the image": case(SMALL),
    "network of one stage": case(((1.0, 1.0, 1.0), (5, 7, 6))),
    "an axis too short to halve": case(((1.0, 1.0, 1.0), (3, 200, 180))),
    "an axis alone and too short": case(((1.0, 1.0, 1.0), (4, 4, 11))),
    "a fine axis alone keeps a coarse one from its turn": case(((90.0, 90.0, 1.0), (32, 32, 11))),
    "one voxel along the coarsest axis": case(((4.0, 1.0, 1.0), (1, 300, 280))),
    "one voxel along another axis": case(((4.0, 1.0, 1.0), (40, 1, 280))),
    "low resolution": case(LARGE),
    "low resolution, fine axes first": case(((5.0, 0.5, 0.5), (200, 900, 900))),
    "low resolution dropped": case(((1.0, 1.0, 1.0), (210, 200, 200))),
    "median of many slices": case(((4.0, 1.0, 1.0), (150, 300, 300))),
    "tenth percentile of few slices": case(*(((z, 0.8, 0.8), (24, 420, 400)) for z in (3.0, 5, 6, 6, 8, 8, 10))),
    "tenth percentile held above the pixels": case(*(((z, 1.5, 1.5), (24, 420, 400)) for z in (1.0, 1, 6, 6, 8))),
    "half a voxel in the median": case(
        ((1.0, 1.0, 1.0), (35, 50, 41)), ((1.0, 1.0, 1.2), (36, 51, 40)), ((1.0, 1.0, 1.0), (20, 30, 20)), SMALL
    ),
    "batch by memory": case(SMALL, training=5000),
    "batch by data set": case(SMALL, training=60),
    "batch at its smallest": case(SMALL, training=5),
    "little memory": case(SLICES, gpu_memory_target_in_gb=4),
    "much memory": case(SLICES, gpu_memory_target_in_gb=80, training=2000),
    "given spacing": case(SAGITTAL, overwrite_target_spacing=[1.0, 1.5, 3.0]),
    "transposed": case(SAGITTAL),
    "transpose suppressed": case(SAGITTAL, suppress_transpose=True),
    "given name": case(LARGE, planner="nnUNetPlannerResEncM", plans_name="mine"),
    "many labels": case(LARGE, labels={"background": 0, **{f"organ {n}": n for n in range(1, 120)}}),
    "regions and ignore": case(
        SMALL,
        labels={"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
        regions_class_order=[1, 2],
        channels=("T1", "nonorm", "CT", "rescale_to_0_1", "rgb_to_0_1", "zscore"),
        relative_size=0.7,
    ),
    "ResEncUNetPlanner": case(SLICES, planner="ResEncUNetPlanner"),
    "nnUNetPlannerResEncM": case(LARGE, planner="nnUNetPlannerResEncM"),
    "nnUNetPlannerResEncL": case(LARGE, planner="nnUNetPlannerResEncL"),
    "nnUNetPlannerResEncXL": case(LARGE, planner="nnUNetPlannerResEncXL"),
    "nnUNetPlanner_torchres": case(LARGE, planner="nnUNetPlanner_torchres"),
    "nnUNetPlannerResEncL_torchres": case(SLICES, planner="nnUNetPlannerResEncL_torchres"),
    "nnUNetPlannerResEncL_torchres_sepz": case(LARGE, planner="nnUNetPlannerResEncL_torchres_sepz"),
    "nnUNetPlannerResEncL_noResampling": case(LARGE, planner="nnUNetPlannerResEncL_noResampling"),
}


def planned_again() -> dict[str, Any]:
    """A plan with a low resolution, two configurations made by hand and an edit, planned anew without the former."""
    existing = plan(CASES["low resolution"])
    configurations = existing["configurations"]
    configurations["2d"]["batch_size"] = 99
    configurations["3d_mine"] = {"inherits_from": "3d_base", "batch_size": 7}
    configurations["3d_base"] = {"inherits_from": "3d_fullres", "patch_size": [32, 32, 32]}
    return {**CASES["a patch holds the image"], "existing": existing}


def main() -> None:
    default_experiment_planner.maybe_convert_to_dataset_name = lambda name: name
    default_experiment_planner.get_filenames_of_train_images_and_targets = lambda *_: {}
    cases = {**CASES, "planned again": planned_again()}
    lines = [f"{json.dumps(name)}: {json.dumps({**one, 'plan': plan(one)})}" for name, one in cases.items()]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
