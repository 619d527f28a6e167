"""Make the arrays and the CT case that both sides work on: smooth random organs in a body, the same in every run.

Run with `-m own.inputs FOLDER` in the folder of benchmarks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

CT_DATASET = "Dataset990_LargeCT"
SMALL = (120, 256, 256)
CT = (200, 512, 512)
CT_SPACING_MM = (3.0, 0.8, 0.8)
_VOXELS_PER_KNOT = 16


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random values that vary over some sixteen voxels."""
    knots = rng.normal(size=[size // _VOXELS_PER_KNOT + 3 for size in shape]).astype(np.float32)
    scale = [size / knot for size, knot in zip(shape, knots.shape, strict=True)]
    return np.asarray(ndimage.zoom(knots, scale, order=1), dtype=np.float32)


def body(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """An ellipse in every slice."""
    y, x = (np.linspace(-1, 1, size) for size in shape[1:])
    inside = (y[:, None] / 0.7) ** 2 + (x / 0.95) ** 2 < 1
    return np.broadcast_to(inside, shape)


def label_map(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Labels 0 to `count` - 1, all of about the same size; 0 is also what lies outside the body."""
    largest = np.full(shape, -np.inf, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.int16)
    for label in range(count):
        field = smooth_field(shape, rng)
        labels[field > largest] = label
        np.maximum(largest, field, out=largest)
    labels[~body(shape)] = 0
    return labels


def image_of(labels: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """Hounsfield units: air around a body of organs that differ in density, with noise."""
    density = rng.integers(-100, 300, labels.max() + 1)
    image = density[labels] + rng.normal(scale=20, size=labels.shape).astype(np.float32)
    image[~body(labels.shape)] = -1000
    return image.astype(np.int16)


def write_ct_dataset(folder: Path, image: NDArray[np.int16], labels: NDArray[np.int16]) -> None:
    """A raw data set of one case."""
    for name, array in (("imagesTr/ct_0000", image), ("labelsTr/ct", labels.astype(np.uint8))):
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        itk_image = SimpleITK.GetImageFromArray(array)
        itk_image.SetSpacing(CT_SPACING_MM[::-1])
        SimpleITK.WriteImage(itk_image, path)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"organ {label}": label for label in range(1, int(labels.max()) + 1)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for count in (3, 60):
        labels = label_map(SMALL, count, rng)
        np.save(folder / f"labels_{count}.npy", labels[np.newaxis])
    np.save(folder / "image.npy", image_of(labels, rng)[np.newaxis].astype(np.float32))
    labels = label_map(CT, 11, rng)
    image = image_of(labels, rng)
    np.save(folder / "ct.npy", image[np.newaxis].astype(np.float32))
    np.save(folder / "ct_labels.npy", labels[np.newaxis])
    write_ct_dataset(folder / "raw" / CT_DATASET, image, labels)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
