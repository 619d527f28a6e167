"""Which files a case was read from, to know later whether what was made of it is still what they would give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segwright.dataset.cases import Case

Sources = list[list[Any]]
"""Name, size in bytes and time of the last change in whole seconds of each file of a case."""


def sources_of(case: Case) -> Sources:
    """Look at the files of a case as they are now.

    The time alone would not do: a file may be replaced by one that is older. Finer than seconds it does not survive
    every way of copying a data set.

    Raises:
        OSError: a file is not there.
    """
    paths = [path for path in (*case.image_paths, case.label_path) if path is not None]
    return [[path.name, stat.st_size, int(stat.st_mtime)] for path in paths for stat in (path.stat(),)]


def note_sources(path: Path, case_id: str, sources: Sources) -> None:
    """Add a line for a case that is done. The last line of a case counts."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([case_id, sources]) + "\n")


def noted_sources(path: Path) -> dict[str, Sources]:
    """What was noted, by the case's id; nothing where there is no such file, and without lines that were torn."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    noted: dict[str, Sources] = {}
    for line in lines:
        try:
            case_id, sources = json.loads(line)
        except ValueError:
            continue
        noted[str(case_id)] = sources
    return noted
