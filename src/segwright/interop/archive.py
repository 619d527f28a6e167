"""Verify the archive of a checkpoint: torch loads its zip without checking the checksums.

The digest, an additional entry, covers name, size and checksum of every other entry, and so the directory of the
archive as well, without reading the weights twice. It detects damage, not forgery: only the restricted pickle protects
against a forged file.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from segwright.errors import CheckpointError, message

DIGEST_NAME = "segwright_digest"
_ZIP_START = b"PK\x03\x04"
_CHUNK_BYTES = 1 << 20


def seal(path: Path) -> None:
    """Add the digest to an archive written by torch; torch and nnunetv2 ignore it."""
    with zipfile.ZipFile(path, "a") as archive:
        entries = archive.infolist()
        root = entries[0].filename.split("/", 1)[0]
        archive.writestr(f"{root}/{DIGEST_NAME}", _digest(entries))


def verify(file: IO[bytes], where: Path) -> str:
    """Verify every entry by its checksum and all of them by the digest, in bounded memory; return the digest.

    A file in torch's older format is not an archive and cannot be verified; its digest is that of its bytes.

    Raises:
        CheckpointError: the contents have changed, or are compressed, which torch never does.
        zipfile.BadZipFile, and others: the archive cannot be read.
    """
    start = file.read(len(_ZIP_START))
    file.seek(0)
    if start != _ZIP_START:
        return _digest_of_bytes(file)
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _refuse_what_torch_does_not_write(entries, size, where)
        for entry in entries:
            with archive.open(entry) as content:
                while content.read(_CHUNK_BYTES):
                    pass
        own = [entry for entry in entries if _is_digest(entry)]
        digest = _digest([entry for entry in entries if not _is_digest(entry)])
        if own and archive.read(own[0]) != digest.encode():
            raise _damaged(where, "entries that differ from those written")
    return digest


def _refuse_what_torch_does_not_write(entries: Sequence[zipfile.ZipInfo], size: int, where: Path) -> None:
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise _damaged(where, "two entries with the same name")
    compressed = next(
        (e for e in entries if e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size), None
    )
    unpacked = sum(entry.file_size for entry in entries)
    if compressed is not None or unpacked > size:
        what = f"entry {compressed.filename!r} compressed" if compressed is not None else f"{unpacked} bytes unpacked"
        raise CheckpointError(
            message(
                where,
                expected=f"at most its own {size} bytes when unpacked, as torch never compresses",
                got=what,
                remedy="Do not use this file; obtain the original as written by torch or nnU-Net.",
            )
        )


def _damaged(where: Path, got: str) -> CheckpointError:
    return CheckpointError(
        message(
            where,
            expected="a complete PyTorch file, as it was written",
            got=got,
            remedy="The file is damaged; copy it again or use another checkpoint.",
        )
    )


def _is_digest(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.rsplit("/", 1)[-1] == DIGEST_NAME


def _digest(entries: Sequence[zipfile.ZipInfo]) -> str:
    lines = (f"{entry.filename} {entry.file_size} {entry.CRC:08x}\n" for entry in entries)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _digest_of_bytes(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
