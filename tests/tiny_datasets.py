"""Raw data sets so small that a network trains on them in seconds: a bright blob with a brighter core on noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

NUM_TRAINING = 6
NUM_TEST = 2
# Options of `segwright train` that make an epoch short.
TRAIN = ("--iterations-per-epoch", "2", "--val-iterations-per-epoch", "1", "--workers", "0", "--device", "cpu")


def case_ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}_{number:03d}" for number in range(count)]


def blob(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Label map with a ball of 1 around a smaller ball of 2."""
    center = np.array(shape) / 2 + rng.uniform(-2, 2, len(shape))
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid - center, axis=-1)
    return (distance < min(shape) / 3).astype(np.uint8) + (distance < min(shape) / 6)


def write_volume(path: Path, array: NDArray[Any], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
    """Write a volume (z, y, x); the spacing is (x, y, z), as SimpleITK has it."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_mm)
    sitk.WriteImage(image, str(path), useCompression=True)


def write_description(folder: Path, **entries: Any) -> None:
    path = folder / "dataset.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**before, **entries}))


def make_3d(folder: Path) -> Path:
    """Six training cases and two labelled test cases of 20 x 24 x 22 voxels, NIfTI."""
    rng = np.random.default_rng(3)
    for split, count in (("Tr", NUM_TRAINING), ("Ts", NUM_TEST)):
        for kind in ("images", "labels"):
            (folder / f"{kind}{split}").mkdir(parents=True)
        for case_id in case_ids(f"ball{split}", count):
            label_map = blob((20, 24, 22), rng)
            image = (100 * label_map + rng.normal(50, 10, label_map.shape)).astype(np.float32)
            write_volume(folder / f"images{split}" / f"{case_id}_0000.nii.gz", image)
            write_volume(folder / f"labels{split}" / f"{case_id}.nii.gz", label_map)
    write_description(
        folder,
        channel_names={"0": "MRI"},
        labels={"background": 0, "shell": 1, "core": 2},
        numTraining=NUM_TRAINING,
        file_ending=".nii.gz",
    )
    return folder


def make_rgb(folder: Path) -> Path:
    """Six training cases and two labelled test cases of 40 x 48 pixels, RGB png."""
    rng = np.random.default_rng(4)
    for split, count in (("Tr", NUM_TRAINING), ("Ts", NUM_TEST)):
        for kind in ("images", "labels"):
            (folder / f"{kind}{split}").mkdir(parents=True)
        for case_id in case_ids(f"disc{split}", count):
            label_map = blob((40, 48), rng).astype(np.uint8)
            noise = rng.integers(0, 60, (*label_map.shape, 3))
            image = (noise + label_map[..., None] * np.array([90, 60, 30])).astype(np.uint8)
            imageio.imwrite(folder / f"images{split}" / f"{case_id}_0000.png", image)
            imageio.imwrite(folder / f"labels{split}" / f"{case_id}.png", label_map)
    write_description(
        folder,
        channel_names={"0": "R", "1": "G", "2": "B"},
        labels={"background": 0, "ring": 1, "disc": 2},
        numTraining=NUM_TRAINING,
        file_ending=".png",
    )
    return folder
