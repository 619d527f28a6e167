"""Segwright's side: see `serving`. Run with `-m own.worker` in the folder of benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.dataset import RawDataset
from segwright.fingerprint import fingerprint_dataset
from segwright.planning.configuration import Resampling
from segwright.preprocessing.label_resampling import resample_labels
from segwright.preprocessing.resampling import resample_image
from serving import serve


@cache
def _load(path: str, dtype: str) -> NDArray[Any]:
    return np.load(path).astype(dtype, copy=False)


def resample_an_image(path: str, force_separate_z: bool | None, **grid: Any) -> Callable[[], NDArray[Any]]:
    resampling = Resampling("resample_data_or_seg_to_shape", 3, 0, force_separate_z, {})
    array = _load(path, "float32")
    return lambda: resample_image(array, resampling=resampling, **grid)


def resample_a_label_map(path: str, force_separate_z: bool | None, **grid: Any) -> Callable[[], NDArray[Any]]:
    resampling = Resampling("resample_data_or_seg_to_shape", 1, 0, force_separate_z, {"is_seg": True})
    array = _load(path, "int16")
    return lambda: resample_labels(array, resampling=resampling, **grid)


def fingerprint(dataset: str, processes: int) -> Callable[[], None]:
    raw = RawDataset.open(Path(dataset))

    def measure() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fingerprint_dataset(raw, workers=processes).write(Path(folder) / "dataset_fingerprint.json")

    return measure


if __name__ == "__main__":
    serve({"image": resample_an_image, "labels": resample_a_label_map, "fingerprint": fingerprint})
