"""The reference's side of the kernel timings, run in nnunetv2's environment. Talks JSON lines with `compare.py`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def resample(task: dict[str, object]) -> float:
    """Resample an image or a label map once, as the planner's default arguments say."""
    array = np.load(task["input"])[None]
    is_labels = task["kind"] == "labels"
    start = time.perf_counter()
    resample_data_or_seg_to_shape(
        array,
        task["shape"],
        task["spacing"],
        task["new_spacing"],
        is_seg=is_labels,
        order=1 if is_labels else 3,
        order_z=0,
        force_separate_z=None,
    )
    return time.perf_counter() - start


def preprocess(task: dict[str, object]) -> float:
    """Preprocess and store one case."""
    plans = PlansManager(task["plans"])
    folder = Path(task["output"])
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    DefaultPreprocessor(verbose=False).run_case_save(
        str(folder / "case"),
        task["images"],
        task["labels"],
        plans,
        plans.get_configuration("3d_fullres"),
        json.loads(Path(task["dataset_json"]).read_text()),
    )
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    for request in sys.stdin:
        work = json.loads(request)
        seconds = preprocess(work) if work["kind"] == "case" else resample(work)
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)
