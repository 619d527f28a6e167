"""Whether a file holds as many voxels as its header says.

ITK fills what is missing in a truncated or damaged NIfTI, MetaImage or GIPL file with zeros or noise and reports no
error, so this is asked before it reads the voxels. Decompressing once more costs about as long as ITK's own reading.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from segwright.errors import ImageError, MissingFileError, message

CHUNK_BYTES = 1 << 16
# DEFLATE packs at most 1032 bytes into one.
MAX_COMPRESSION = 1032
SMALL_FILE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


def require_image_file(path: Path) -> None:
    """Refuse a path that is not a file with something in it.

    Raises:
        MissingFileError, ImageError
    """
    if not path.exists():
        got = "a link to a file that is not there" if path.is_symlink() else "nothing there"
        raise MissingFileError(message(path, expected="an image file", got=got, remedy="Check the path and the name."))
    if not path.is_file():
        raise ImageError(message(path, expected="an image file", got="a folder or device", remedy="Name a file."))
    if path.stat().st_size == 0:
        raise ImageError(message(path, expected="an image file", got="an empty file", remedy="Copy it again."))


def require_plausible_size(path: Path, shape: tuple[int, ...], voxel_bytes: int) -> None:
    """Refuse a header that claims more voxels than the file could hold however well it were compressed.

    Raises:
        ImageError
    """
    claimed = voxel_bytes
    for size in shape:
        claimed *= size
    available = path.stat().st_size
    if claimed > available * MAX_COMPRESSION + SMALL_FILE_BYTES:
        raise _damaged(path, f"a header that fits a file of {available} bytes", f"one that claims {shape} voxels")


def require_whole_file(path: Path, wanted_bytes: int, *, look_at: Callable[[bytes], None] | None = None) -> None:
    """Refuse a NIfTI, MetaImage or GIPL file with damaged content or fewer than `wanted_bytes` bytes of it.

    The content is what a header of fixed size and the voxels take, unpacked; a MetaImage's is its voxels alone.
    Other formats are left to their own readers, which notice. `look_at` is given a NIfTI file's content in pieces.

    Raises:
        ImageError
    """
    name = path.name.lower()
    with path.open("rb") as file:
        if name.endswith(".gz") and file.peek(2).startswith(GZIP_MAGIC):
            _require_bytes(path, _count_compressed(path, file, look_at), wanted_bytes)
        elif name.endswith((".nii", ".gipl", ".gz")):
            _require_bytes(path, path.stat().st_size, wanted_bytes)
            if look_at is not None:
                for chunk in _chunks(file):
                    look_at(chunk)
        elif name.endswith(".mha"):
            compressed = _skip_metaimage_header(file)
            available = _count_compressed(path, file) if compressed else path.stat().st_size - file.tell()
            _require_bytes(path, available, wanted_bytes)


def _require_bytes(path: Path, available: int, wanted: int) -> None:
    if available < wanted:
        raise _damaged(path, f"{wanted} bytes of content", f"{available}")


def _count_compressed(path: Path, file: BinaryIO, look_at: Callable[[bytes], None] | None = None) -> int:
    """Bytes that a zlib stream, or the members of a gzip file, unpack to; every checksum is verified."""
    total = 0
    try:
        decompressor = zlib.decompressobj(wbits=47)
        for chunk in _chunks(file):
            while chunk:
                if decompressor.eof:
                    if not chunk.startswith(GZIP_MAGIC):  # padding after the last member, which gzip allows
                        return total
                    decompressor = zlib.decompressobj(wbits=47)
                piece = decompressor.decompress(chunk)
                total += len(piece)
                if look_at is not None:
                    look_at(piece)
                chunk = decompressor.unused_data
    except zlib.error as error:
        raise _damaged(path, "whole compressed data", f"{error} after {total} bytes") from error
    if not decompressor.eof:
        raise _damaged(path, "whole compressed data", f"an end in the middle, after {total} bytes")
    return total


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _skip_metaimage_header(file: BinaryIO) -> bool:
    compressed = False
    for _ in range(1000):
        key, _, value = file.readline(4096).partition(b"=")
        if key.strip() == b"CompressedData":
            compressed = value.strip().lower() == b"true"
        if key.strip() == b"ElementDataFile":
            break
    return compressed


def _damaged(path: Path, expected: str, got: str) -> ImageError:
    return ImageError(
        message(path, expected=expected, got=got, remedy="The file is truncated or damaged; copy or export it again.")
    )
