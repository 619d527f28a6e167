"""Which processes a process has started, as Linux tells it."""

from __future__ import annotations

import time
from pathlib import Path


def descendants(process: int) -> set[int]:
    """Ids of the living processes that descend from `process`."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(folder.name))
    found, waiting = set[int](), [process]
    while waiting:
        waiting.extend(own := children.get(waiting.pop(), []))
        found.update(own)
    return found


def is_alive(process: int) -> bool:
    """Whether it runs; one that has ended and waits for its parent to take note does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(processes: set[int], seconds: float = 20) -> set[int]:
    """Wait for processes to end. Returns those that have not."""
    end = time.monotonic() + seconds
    while (left := {process for process in processes if is_alive(process)}) and time.monotonic() < end:
        time.sleep(0.02)
    return left
