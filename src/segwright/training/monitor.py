"""Events of a training, and the files that record them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from segwright.io.atomic import not_through_a_link
from segwright.io.kept_folder import refuse_lost_folder

LOG_FILE = "training_log.jsonl"
KEPT_EVENTS = frozenset({"damaged_checkpoint", "start", "resume", "epoch", "interrupted", "message", "end"})


class Monitor(Protocol):
    """Receives the events of a training.

    Events: `damaged_checkpoint`, `start`, `resume`, `iteration`, `epoch`, `message`, `checkpoint`, `validation`,
    `interrupted`, `end`.
    """

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        """Receive one event; `values` is plain data."""
        ...


class SilentMonitor:
    """Ignores every event."""

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        """Do nothing."""


class JsonLinesMonitor:
    """Appends the events that describe a run to a file, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        """Append the event, if it is of a recorded kind.

        Raises:
            MissingFileError: the training's folder is gone, whatever the event.
        """
        refuse_lost_folder(self.path)
        if name not in KEPT_EVENTS:
            return
        line = json.dumps({"event": name, **values, "time": datetime.now(timezone.utc).isoformat(timespec="seconds")})
        with open(self.path, "a", encoding="utf-8", opener=not_through_a_link) as file:
            file.write(line + "\n")


class MonitorGroup:
    """Passes every event to several monitors."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = tuple(monitors)

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        """Pass the event on."""
        for monitor in self.monitors:
            monitor.event(name, values)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the events of a training_log.jsonl; invalid lines are skipped, such as one truncated by a kill."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
