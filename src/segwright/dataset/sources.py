"""The files that a case was read from, to detect later whether results made from them are out of date."""

from __future__ import annotations

from typing import Any

from segwright.dataset.cases import Case

Sources = list[list[Any]]
"""Name, size in bytes and time of the last change in whole seconds of each file of a case."""


def sources_of(case: Case) -> Sources:
    """Return the current state of a case's files.

    The time alone is not enough: a file may be replaced by an older one. Fractions of a second do not survive every
    way of copying a data set.

    Raises:
        OSError: a file does not exist.
    """
    paths = [path for path in (*case.image_paths, case.label_path) if path is not None]
    return [[path.name, stat.st_size, int(stat.st_mtime)] for path in paths for stat in (path.stat(),)]
