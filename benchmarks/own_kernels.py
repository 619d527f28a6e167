"""Segwright's side of the kernel timings. Talks JSON lines with `compare.py`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from segwright.dataset import DatasetDescription, read_case_image
from segwright.dataset.cases import Case
from segwright.io import reader_named
from segwright.planning.configuration import Resampling
from segwright.planning.plan import Plan
from segwright.preprocessing.label_resampling import resample_labels
from segwright.preprocessing.pipeline import preprocess_case
from segwright.preprocessing.resampling import SPLINE, resample_image
from segwright.preprocessing.store import PreprocessedStore

IMAGES = Resampling(SPLINE, order=3, order_z=0, force_separate_z=None, kwargs={"is_seg": False})
LABELS = Resampling(SPLINE, order=1, order_z=0, force_separate_z=None, kwargs={"is_seg": True})


def resample(task: dict[str, Any]) -> float:
    """Resample an image or a label map once, as the planner's default arguments say."""
    array = np.load(task["input"])[None]
    spacings = {"current_spacing_mm": task["spacing"], "new_spacing_mm": task["new_spacing"]}
    start = time.perf_counter()
    if task["kind"] == "labels":
        resample_labels(array, task["shape"], **spacings, resampling=LABELS)
    else:
        resample_image(array, task["shape"], **spacings, resampling=IMAGES)
    return time.perf_counter() - start


def preprocess(task: dict[str, Any]) -> float:
    """Preprocess and store one case."""
    plan, description = Plan.read(Path(task["plans"])), DatasetDescription.read(Path(task["dataset_json"]))
    configuration, reader = plan.configuration("3d_fullres"), reader_named(plan.image_reader_writer)
    case = Case("case", tuple(map(Path, task["images"])), Path(task["labels"]))
    start = time.perf_counter()
    preprocessed = preprocess_case(
        read_case_image(reader, case, len(case.image_paths)),
        reader.read_labels(Path(task["labels"])),
        plan=plan,
        configuration=configuration,
        labels=description.labels,
        where="case",
    )
    PreprocessedStore(Path(task["output"])).write("case", preprocessed, configuration.patch_size)
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    for request in sys.stdin:
        work = json.loads(request)
        seconds = preprocess(work) if work["kind"] == "case" else resample(work)
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)
