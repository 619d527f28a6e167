"""Folders that must stay the same while something writes to them: a deleted one is not made again in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segwright.errors import MissingFileError, message

_kept: list[tuple[Path, tuple[int, int]]] = []  # one folder may be kept by several threads


@contextmanager
def kept_folder(folder: Path) -> Iterator[None]:
    """Have `refuse_lost_folder`, and with it every atomic write below `folder`, see to it that it is still the same."""
    place = folder.absolute()
    # While it is open, no folder that is made in its place gets its number.
    descriptor = os.open(place, os.O_RDONLY) if os.name == "posix" else None
    kept = (place, _identity(place))
    _kept.append(kept)
    try:
        yield
    finally:
        _kept.remove(kept)
        if descriptor is not None:
            os.close(descriptor)


def refuse_lost_folder(path: Path) -> None:
    """Refuse to write to `path` if it lies in a kept folder that is gone, or another by now.

    Raises:
        MissingFileError
    """
    absolute = path.absolute()
    for folder, identity in [kept for kept in _kept if absolute.is_relative_to(kept[0])]:
        try:
            if _identity(folder) == identity:
                continue
        except FileNotFoundError:
            pass
        raise MissingFileError(
            message(
                folder,
                expected="the folder that was there when this began",
                got="that it was deleted, moved or replaced meanwhile",
                remedy="Its contents cannot be written again. Restore it and continue, or start again.",
            )
        )


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
