"""Reads the files named on its standard input, one JSON object a line, and tells what came of each.

A program of its own, so that a crash, a hang or a memory blow-up ends it and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from segwright.errors import SegwrightError
from segwright.io import reader_named

SECONDS_PER_FILE = 20
MEMORY_BYTES = 1 << 30


def outcome(path: Path, reader_name: str) -> dict[str, Any]:
    """What the reader makes of a file: an image, a named error, or something that must not be."""
    try:
        image = reader_named(reader_name).read_image([path])
    except SegwrightError as error:
        return {"kind": "refused", "text": str(error)}
    except BaseException:
        return {"kind": "traceback", "text": traceback.format_exc()}
    voxels = np.nan_to_num(image.array.astype(np.float64), nan=0, posinf=0, neginf=0)
    numbers = (*image.geometry.spacing_mm, *image.geometry.origin_mm, *image.geometry.direction)
    return {
        "kind": "image",
        "text": f"{image.array.shape}, {image.geometry}",
        "shape": image.array.shape,
        "sum": float(np.abs(voxels).sum()),
        "sane": image.array.ndim == 4
        and image.array.size > 0
        and all(math.isfinite(number) for number in numbers)
        and all(1e-9 <= value <= 1e9 for value in image.geometry.spacing_mm),
    }


def limit_memory() -> None:
    """Allow this much more address space than is in use with all libraries loaded."""
    import imageio.v3
    import nibabel
    import SimpleITK
    import tifffile

    assert all((imageio.v3, nibabel, SimpleITK, tifffile))
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES,) * 2)


def main() -> None:
    limit_memory()
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile() as terminal:
        os.dup2(terminal.fileno(), 1)
        os.dup2(terminal.fileno(), 2)
        for line in sys.stdin:
            job = json.loads(line)
            terminal.truncate(0)
            signal.alarm(SECONDS_PER_FILE)
            begin = time.perf_counter()
            answer = outcome(Path(job["path"]), job["reader"])
            signal.alarm(0)
            answer["seconds"] = time.perf_counter() - begin
            sys.stdout.flush()
            sys.stderr.flush()
            answer["printed"] = os.pread(terminal.fileno(), 1000, 0).decode(errors="replace").lstrip("\0")
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
