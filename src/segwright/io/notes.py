"""A file that notes, a JSON line a case, what was done: safe to add to at any moment, by several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def add_note(path: Path, case_id: str, value: Any) -> None:
    """Add a line for a case. The last line of a case counts."""
    # A line begins with its newline, so that one torn by a kill does not take the next with it.
    with path.open("ab", buffering=0) as file:
        file.write(b"\n" + json.dumps([case_id, value]).encode())


def read_notes(path: Path) -> dict[str, Any]:
    """What was noted, by the case's id; nothing where there is no such file, and without lines that were torn."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    noted: dict[str, Any] = {}
    for line in lines:
        try:
            case_id, value = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        noted[str(case_id)] = value
    return noted
