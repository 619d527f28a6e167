"""Files that are either whole or not there: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segwright.errors import WriteError, message
from segwright.io.kept_folder import refuse_lost_folder
from segwright.io.leftovers import sweep_once, temporary_prefix

NOT_WRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENAMETOOLONG, errno.ENOTDIR}
)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path, on the same disk and with the same name, that becomes `path` if the block succeeds.

    The temporary file lies in a hidden folder beside `path`, so no listing takes it for a finished one and writers
    that choose the format by the name choose the right one. Missing parent folders are made, but none that
    `kept_folder` keeps. After an error nothing is left behind and an older file stays as it was; what a killed process
    left in the folder is removed.

    Raises:
        WriteError: the disk is full, or the folder cannot be written to.
        MissingFileError: the kept folder is gone.
    """
    path = Path(path)
    refuse_lost_folder(path)
    with write_errors_explained(path):
        folder = _folder_beside(path)
        try:
            temporary = folder / path.name
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
        except FileNotFoundError as error:
            refuse_lost_folder(path)
            if folder.exists():
                raise
            raise _not_written(path, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        _flush_to_disk(path.parent)


@contextmanager
def write_errors_explained(path: Path) -> Iterator[None]:
    """Report a full disk and a folder that cannot be written to with the name of the file.

    Raises:
        WriteError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise _not_written(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it; where that fails in whatever way, as in /proc, nothing can be written.

    Raises:
        WriteError
        MissingFileError: the kept folder is gone.
    """
    refuse_lost_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(path, error) from error


def _folder_beside(path: Path) -> Path:
    make_folder(path.parent)
    try:
        sweep_once(path.parent.absolute())
        return Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=path.parent))
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> WriteError:
    return WriteError(
        message(
            path,
            expected="to write this file",
            got=error.strerror,
            remedy="Free some space or choose another folder; nothing was changed.",
        )
    )


def not_through_a_link(path: str, flags: int) -> int:
    """Open a file that is added to, for `open(..., opener=...)`: a link that others left there leads elsewhere.

    Raises:
        OSError: it is a link.
    """
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def flush_folders(folders: Sequence[Path]) -> None:
    """Have every file of these folders, which lie on one disk, on it: on Linux at one stroke for the whole disk."""
    import ctypes

    flush_disk = getattr(ctypes.CDLL(None), "syncfs", None) if os.name == "posix" else None
    if flush_disk is not None and folders:
        descriptor = os.open(folders[0], os.O_RDONLY)
        try:
            if flush_disk(descriptor) == 0:
                return
        finally:
            os.close(descriptor)
    for folder in folders:
        for path in folder.iterdir():
            if path.is_file():
                _flush_to_disk(path)
        _flush_to_disk(folder)


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json_atomic(path: Path, value: Any) -> None:
    """Write `value` as JSON with the keys in their own order, indented by 4; numpy numbers and arrays are allowed."""
    write_text_atomic(path, json.dumps(value, indent=4, sort_keys=False, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"Expected a value that JSON knows, got {type(value).__name__}.")


def _flush_to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
