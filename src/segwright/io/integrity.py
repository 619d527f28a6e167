"""Whether a file holds as many voxels as its header says.

ITK fills what is missing in a truncated or damaged NIfTI, MetaImage, NRRD or GIPL file with zeros or noise and mostly
reports no error, so this is asked before it reads the voxels. Decompressing once more costs about as long as ITK's own
reading.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from segwright.errors import ImageError, MissingFileError, message
from segwright.names import printable
from segwright.parallel import available_memory_bytes

CHUNK_BYTES = 1 << 16
# DEFLATE packs at most 1032 bytes into one.
MAX_COMPRESSION = 1032
SMALL_FILE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
# What some programs put behind the voxels: a block of a tape. More means that the header is not this file's.
LARGEST_SURPLUS_BYTES = 1 << 16
FLOAT32_BYTES = 4
MUCH_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class VoxelLayout:
    """Where a header says that the voxels are: `shape` is in the file's order, x first.

    The content is what follows byte `begin` of `file`, `length` bytes where that is known; if `packed`, a zlib stream
    or members of gzip. In it the voxels come after `skipped` bytes. Where only the format's own reader knows how they
    are written, `is_plain` is False. `number_type` is numpy's name of the voxels' type where the numbers mean what they
    are, without a scale; `beginning` is the content's first bytes, unpacked, for a header that lies there.
    """

    file: Path
    shape: tuple[int, ...]
    voxel_bytes: int
    begin: int = 0
    length: int | None = None
    packed: bool = False
    skipped: int = 0
    is_plain: bool = True
    number_type: str | None = None
    beginning: bytes = b""

    @property
    def num_voxels(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of all voxels, unpacked."""
        return self.num_voxels * self.voxel_bytes


def require_image_file(path: Path) -> None:
    """Refuse a path that is not a file with something in it, or whose name ITK cannot take.

    Raises:
        MissingFileError, ImageError
    """
    require_utf8(path)
    if not path.exists():
        got = "a link to a missing file" if path.is_symlink() else "no such file"
        raise MissingFileError(message(path, expected="an image file", got=got, remedy="Check the path and the name."))
    if not path.is_file():
        raise ImageError(message(path, expected="an image file", got="a folder or device", remedy="Name a file."))
    if path.stat().st_size == 0:
        raise ImageError(message(path, expected="an image file", got="an empty file", remedy="Copy it again."))


def require_utf8(path: Path) -> None:
    """Refuse a path that is not UTF-8, such as a name in Latin-1 out of an archive: ITK ends the process.

    Raises:
        ImageError
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ImageError(
            message(
                printable(path),
                expected="names of files and folders in UTF-8",
                got="bytes of another encoding",
                remedy="Rename it.",
            )
        ) from None


def require_voxels(layout: VoxelLayout, *, look_at: Callable[[bytes], None] | None = None) -> int:
    """Refuse a file with fewer voxels than its header claims, far more, or damaged ones, before memory is taken.

    `look_at` is given the content, unpacked, in pieces. Returns how many bytes there are after the voxels.

    Raises:
        ImageError
    """
    if layout.is_plain:
        require_plausible_size(layout)
    require_memory(layout)
    if not layout.is_plain:
        return 0
    path, wanted = layout.file, layout.skipped + layout.num_bytes
    there = path.stat().st_size - layout.begin
    if layout.length is not None and layout.length > there:
        raise damaged(path, f"{layout.length} bytes, as the header says", f"{max(there, 0)}")
    with path.open("rb") as file:
        file.seek(layout.begin)
        if layout.packed:
            available = _count_compressed(path, _chunks(file, layout.length), wanted, look_at)
        else:
            available = there
            if look_at is not None:
                for chunk in _chunks(file, layout.length):
                    look_at(chunk)
    if available < wanted:
        raise damaged(path, f"{wanted} bytes of content", f"{max(available, 0)}")
    if available > wanted + LARGEST_SURPLUS_BYTES:
        raise damaged(path, f"{wanted} bytes of content, as the header says", f"{available} or more")
    return available - wanted


def require_plausible_size(layout: VoxelLayout) -> None:
    """Refuse a header that claims more voxels than the file could hold, even if packed by DEFLATE as well as can be.

    Raises:
        ImageError
    """
    available = layout.file.stat().st_size
    if layout.num_bytes > available * MAX_COMPRESSION + SMALL_FILE_BYTES:
        raise damaged(
            layout.file, f"a header that fits a file of {available} bytes", f"one that claims {layout.shape} voxels"
        )


def require_memory(layout: VoxelLayout) -> None:
    """Refuse an image whose voxels, as they are in the file and as float32, do not fit into the memory there is.

    Raises:
        ImageError
    """
    wanted = layout.num_bytes + layout.num_voxels * FLOAT32_BYTES
    if wanted < MUCH_MEMORY_BYTES:
        return
    available = available_memory_bytes()
    if wanted > available:
        raise ImageError(
            message(
                layout.file,
                expected=f"an image that fits into the {available / 1e9:.1f} GB of free memory",
                got=f"{layout.shape} voxels, which take {wanted / 1e9:.1f} GB",
                remedy="If the image is meant to be so large, cut it into parts or use a machine with more memory.",
            )
        )


def _count_compressed(
    path: Path, chunks: Iterator[bytes], wanted_bytes: int, look_at: Callable[[bytes], None] | None
) -> int:
    """Bytes that a zlib stream, or gzip's members, unpack to, counted up to far too many; checksums are verified."""
    total = 0
    try:
        decompressor = zlib.decompressobj(wbits=47)
        for chunk in chunks:
            while chunk:
                if decompressor.eof:
                    if not chunk.startswith(GZIP_MAGIC):  # padding after the last member, which gzip allows
                        return total
                    decompressor = zlib.decompressobj(wbits=47)
                piece = decompressor.decompress(chunk)
                total += len(piece)
                if total > wanted_bytes + LARGEST_SURPLUS_BYTES:
                    return total
                if look_at is not None:
                    look_at(piece)
                chunk = decompressor.unused_data
    except zlib.error as error:
        raise damaged(path, "whole compressed data", f"{error} after {total} bytes") from error
    if not decompressor.eof:
        raise damaged(path, "whole compressed data", f"an end in the middle, after {total} bytes")
    return total


def _chunks(file: BinaryIO, length: int | None = None) -> Iterator[bytes]:
    left = length
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        left = None if left is None else left - len(chunk)
        yield chunk


def damaged(path: Path, expected: str, got: str) -> ImageError:
    """The error for a file whose content is not whole."""
    return ImageError(
        message(path, expected=expected, got=got, remedy="The file is truncated or damaged; copy or export it again.")
    )
