"""nnunetv2's side, in its own Python: see `serving`. Run with `-m peer.worker` in the folder of benchmarks."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from serving import serve

_FOLDERS = tempfile.TemporaryDirectory()
for _name in ("raw", "preprocessed", "results"):
    (Path(_FOLDERS.name) / _name).mkdir()
    os.environ[f"nnUNet_{_name}"] = str(Path(_FOLDERS.name) / _name)


@cache
def _load(path):
    return np.load(path).astype(np.float32, copy=False)  # its readers make float32 of label maps too


def resample(path, new_shape, current_spacing_mm, new_spacing_mm, force_separate_z, is_seg):
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    array = _load(path)
    return lambda: resample_data_or_seg_to_shape(
        array,
        new_shape,
        current_spacing_mm,
        new_spacing_mm,
        is_seg=is_seg,
        order=1 if is_seg else 3,
        order_z=0,
        force_separate_z=force_separate_z,
    )


def resample_an_image(**arguments):
    return resample(**arguments, is_seg=False)


def resample_a_label_map(**arguments):
    return resample(**arguments, is_seg=True)


def fingerprint(dataset, processes):
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    raw = Path(_FOLDERS.name) / "raw" / Path(dataset).name
    if not raw.exists():
        raw.symlink_to(dataset)

    def measure():
        extractor = DatasetFingerprintExtractor(raw.name, processes)
        extractor.show_progress_bar = False
        extractor.run(overwrite_existing=True)

    return measure


if __name__ == "__main__":
    serve({"image": resample_an_image, "labels": resample_a_label_map, "fingerprint": fingerprint})
