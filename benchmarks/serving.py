"""A process that stays alive and runs tasks when asked, so that imports and compilation are not timed.

Runs in either side's Python: only the standard library is imported.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

Task = Callable[..., Callable[[], Any]]
"""Called with a request's arguments, prepares; what it returns is timed, and returns an array or None."""


def serve(tasks: Mapping[str, Task]) -> None:
    """Answer each line of stdin, a task's name and arguments as JSON, with what the task took."""
    answers = sys.stdout
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # what a library prints is no answer
        for line in sys.stdin:
            request = json.loads(line)
            answer = _measured(tasks[request["task"]](**request["arguments"]))
            print(json.dumps(answer), file=answers, flush=True)


def _measured(work: Callable[[], Any]) -> dict[str, Any]:
    seconds, cpu_seconds = time.perf_counter(), _cpu_seconds()
    result = work()
    return {
        "seconds": time.perf_counter() - seconds,
        "cpu_seconds": _cpu_seconds() - cpu_seconds,
        "process_peak_bytes": peak_bytes(),
        "mean": None if result is None else float(result.mean(dtype=float)),
        "shape": None if result is None else result.shape,
    }


def _cpu_seconds() -> float:
    """Of this process and of those it started that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> int:
    """Peak resident memory of this process. The kernel's other figure, ru_maxrss, may be the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("Peak memory is read from /proc/self/status, expected a line with VmHWM. Try Linux.")
