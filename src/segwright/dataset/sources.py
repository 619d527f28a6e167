"""Which files a case was read from, to know later whether what was made of it is still what they would give."""

from __future__ import annotations

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
