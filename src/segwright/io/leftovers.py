"""Folders of unfinished files: named after the process that writes them, and removed once that is gone."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = re.compile(r"\.segwright-(?:(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-(?P<start>\d+)-)?[a-z0-9_]{8}")
# Whether a process of another machine, which may share the disk, still lives cannot be seen; no file takes this long.
_SECONDS_TO_WRITE = 24 * 3600


def temporary_prefix() -> str:
    """What the name of this process's temporary folders begins with."""
    return f".segwright-{_machine()}-{os.getpid()}-{_start_of(os.getpid())}-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder among the system's temporary ones, where it also removes those that killed processes left.

    Raises:
        OSError: there is no place for temporary files, or it cannot be written to.
    """
    place = Path(tempfile.gettempdir())
    sweep_once(place)
    folder = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def sweep_once(folder: Path) -> None:
    """Remove from `folder` what killed processes left unfinished; looks once in the life of this process."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            if match is not None and entry.is_dir(follow_symlinks=False):
                _remove_if_abandoned(Path(entry.path), match)


def _remove_if_abandoned(folder: Path, name: re.Match[str]) -> None:
    """Remove a folder that holds plain files and nothing else, unless a process writes to it. Others may do so too."""
    with suppress(OSError):
        if os.name == "posix" and folder.lstat().st_uid != os.geteuid():
            return  # where all may write, its owner could put a link in its place while it is emptied
        entries = list(os.scandir(folder))
        if not all(entry.is_file(follow_symlinks=False) for entry in entries):
            return
        if sys.platform == "linux" and name["machine"] == _machine():
            abandoned = _start_of(int(name["process"])) != int(name["start"])
        else:
            newest = max(os.stat(path).st_mtime for path in (folder, *entries))
            abandoned = time.time() - newest > _SECONDS_TO_WRITE
        if abandoned:
            for entry in entries:
                os.unlink(entry)
            folder.rmdir()


@functools.cache
def _machine() -> str:
    """Eight digits for this machine since it started, and the container: process numbers mean something within it."""
    parts = [sys.platform]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


def _start_of(process: int) -> int:
    """When Linux started a process, in its ticks; 0 if there is none."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
