"""Write tests/golden/preprocessing with nnunetv2: run this in its environment, from the root of the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

PLANS = Path("tests/golden/plans")
TARGET = Path("tests/golden/preprocessing")
# name, plans, configuration, shape, spacing, spacing of the configuration, changes to the labels
CASES: list[tuple[str, str, str, tuple[int, ...], list[float], list[float], dict[str, int]]] = [
    ("sagittal", "Dataset907_SagSpine", "3d_fullres", (22, 24, 9), [0.8, 0.7, 4.0], [3.1, 0.6, 0.9], {}),
    ("regions", "Dataset902_BrainReg", "3d_fullres", (14, 16, 15), [1.0, 1.0, 1.0], [0.8, 1.3, 1.1], {"ignore": 4}),
    ("ct_slices", "Dataset901_CTAniso", "2d", (6, 26, 20), [5.0, 0.9, 0.9], [1.2, 0.7], {}),
    ("flat", "Dataset905_Roads", "2d", (1, 40, 36), [999.0, 1.0, 1.0], [0.8, 1.1], {}),
]


def head(shape: tuple[int, ...], channels: int, rng: np.random.Generator) -> np.ndarray:
    """A bright body with a hole of zeros, off the centre, in a field of zeros."""
    grid = np.meshgrid(*[np.linspace(-1, 1, size) if size > 1 else [0] for size in shape], indexing="ij")
    body = sum((axis - 0.15) ** 2 for axis in grid) < 0.7
    body[tuple(slice(size // 2, size // 2 + 2) for size in shape)] = False
    texture = [80 + 40 * gaussian_filter(rng.normal(size=shape), 1) for _ in range(channels)]
    return (np.stack(texture) * body).astype(np.float32)


def labels_of(shape: tuple[int, ...], values: int, rng: np.random.Generator) -> np.ndarray:
    fields = np.stack([gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(values)])
    return fields.argmax(axis=0)[None].astype(np.float32)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {}
    for seed, (name, plans_name, configuration, shape, spacing, target, extra) in enumerate(CASES):
        rng = np.random.default_rng(seed)
        plans = json.loads((PLANS / f"{plans_name}__nnUNetPlans.json").read_text())
        plans["configurations"][configuration]["spacing"] = target
        dataset = json.loads((PLANS / f"{plans_name}__dataset.json").read_text())
        dataset["labels"] = {**dataset["labels"], **extra}
        values = {v for value in dataset["labels"].values() for v in (value if isinstance(value, list) else [value])}
        image = head(shape, len(dataset["channel_names"]), rng)
        labels = labels_of(shape, max(values) + 1, rng)
        manager = PlansManager(plans)
        data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            image, labels, {"spacing": spacing}, manager, manager.get_configuration(configuration), dataset
        )
        locations = properties.pop("class_locations")
        arrays = {f"locations_{number}": np.asarray(voxels) for number, voxels in enumerate(locations.values())}
        np.savez_compressed(
            TARGET / f"{name}.npz", image=image, labels=labels.astype(np.int8), data=data, seg=seg, **arrays
        )
        settings[name] = {
            "plans": plans_name,
            "configuration": configuration,
            "spacing": spacing,
            "target_spacing": target,
            "labels": dataset["labels"],
            "regions_class_order": dataset.get("regions_class_order"),
            "properties": properties,
            "located": [list(key) if isinstance(key, tuple) else int(key) for key in locations],
        }
    (TARGET / "cases.json").write_text(
        json.dumps(settings, indent=1, default=lambda value: getattr(value, "tolist", lambda: list(value))())
    )


if __name__ == "__main__":
    main()
