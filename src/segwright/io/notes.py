"""A file that notes, a JSON line a case, what was done: safe to add to at any moment, by several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segwright.io.atomic import not_through_a_link


def add_note(path: Path, case_id: str, value: Any) -> None:
    """Add a line for a case. The last line of a case counts."""
    # A line begins with its newline, so that one torn by a kill does not take the next with it.
    with open(path, "ab", buffering=0, opener=not_through_a_link) as file:
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
