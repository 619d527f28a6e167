"""The preprocessed cases of one configuration in a folder: nnU-Net v2's `.b2nd` files, and its older `.npz`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, MissingFileError, message
from segwright.io.atomic import atomic_path
from segwright.io.safe_pickle import dump_pickle, load_pickle

MAX_BLOCK_BYTES = 128 * 1024
MAX_CHUNK_BYTES = 6 * 1024 * 1024
CHUNK_TO_PATCH = 1.5


@dataclass(frozen=True)
class StoredCase:
    """A case opened for reading: `data` (c, z, y, x) float32 and `seg` (1, z, y, x), read only where sliced."""

    data: Any
    seg: Any


class PreprocessedStore:
    """Reads and writes the cases of a `<data_identifier>` folder. A case is complete once its `.pkl` stands there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def case_ids(self) -> tuple[str, ...]:
        """Ids of the complete cases, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.pkl") if self.is_complete(path.stem)))

    def is_complete(self, case_id: str) -> bool:
        """Whether arrays and properties of a case are all there."""
        if not self._path(case_id, ".pkl").is_file():
            return False
        blosc = self._path(case_id, ".b2nd").is_file() and self._path(case_id, "_seg.b2nd").is_file()
        numpy = self._path(case_id, ".npy").is_file() and self._path(case_id, "_seg.npy").is_file()
        return blosc or numpy or self._path(case_id, ".npz").is_file()

    def open(self, case_id: str) -> StoredCase:
        """Open a case.

        Raises:
            MissingFileError: it is not there.
            ImageError: its files are damaged.
        """
        try:
            if self._path(case_id, ".b2nd").is_file():
                return StoredCase(self._open_b2nd(case_id, ".b2nd"), self._open_b2nd(case_id, "_seg.b2nd"))
            if self._path(case_id, ".npy").is_file():
                return StoredCase(*(np.load(self._path(case_id, end), mmap_mode="r") for end in (".npy", "_seg.npy")))
            if self._path(case_id, ".npz").is_file():
                with np.load(self._path(case_id, ".npz")) as arrays:
                    return StoredCase(arrays["data"], arrays["seg"])
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise ImageError(
                message(
                    self._path(case_id, ""),
                    expected="a preprocessed case",
                    got=f"files that cannot be read ({error})",
                    remedy="Delete the files of this case and run `segwright preprocess` again.",
                )
            ) from error
        raise MissingFileError(
            message(
                self.folder,
                expected=f"the preprocessed case '{case_id}'",
                got="no such files",
                remedy="Run `segwright preprocess` for this configuration.",
            )
        )

    def read_properties(self, case_id: str) -> dict[str, Any]:
        """Read the properties of a case: nnU-Net's keys, `class_locations` among them."""
        properties: dict[str, Any] = load_pickle(self._path(case_id, ".pkl"))
        return properties

    def write(
        self,
        case_id: str,
        data: NDArray[np.float32],
        seg: NDArray[np.integer[Any]],
        properties: Mapping[str, Any],
        *,
        patch_size: Sequence[int],
    ) -> None:
        """Write a case, its properties last, each file atomically; chunks suit patches of `patch_size`."""
        self._write_b2nd(case_id, ".b2nd", data, patch_size)
        self._write_b2nd(case_id, "_seg.b2nd", seg, patch_size)
        dump_pickle(dict(properties), self._path(case_id, ".pkl"))

    def remove(self, case_id: str) -> None:
        """Delete the files of a case, its properties first."""
        for end in (".pkl", ".b2nd", "_seg.b2nd", ".npz", ".npy", "_seg.npy"):
            self._path(case_id, end).unlink(missing_ok=True)

    def _path(self, case_id: str, end: str) -> Path:
        return self.folder / f"{case_id}{end}"

    def _open_b2nd(self, case_id: str, end: str) -> Any:
        import blosc2

        mapping = {} if os.name == "nt" else {"mmap_mode": "r"}
        return blosc2.open(urlpath=str(self._path(case_id, end)), mode="r", dparams={"nthreads": 1}, **mapping)

    def _write_b2nd(self, case_id: str, end: str, array: NDArray[Any], patch_size: Sequence[int]) -> None:
        import blosc2

        blocks, chunks = block_and_chunk_shape(array.shape, patch_size, itemsize=array.itemsize)
        array = np.ascontiguousarray(array)
        with atomic_path(self._path(case_id, end)) as temporary:
            blosc2.asarray(
                array,
                urlpath=str(temporary),
                mode="w",
                chunks=chunks,
                blocks=blocks,
                cparams=_compression([_smaller_filter(array, blocks, chunks)]),
            )


def _compression(filters: list[Any]) -> dict[str, Any]:
    import blosc2

    return {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1, "filters": filters}


def _smaller_filter(array: NDArray[Any], blocks: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
    """The filter, none or shuffle, that makes the middle chunk smaller (nnU-Net 2.8's choice)."""
    import blosc2

    slab_shape = tuple(min(chunk, size) for chunk, size in zip(chunks, array.shape, strict=True))
    corner = [(size - part) // 2 for size, part in zip(array.shape, slab_shape, strict=True)]
    slab = np.ascontiguousarray(
        array[tuple(slice(start, start + part) for start, part in zip(corner, slab_shape, strict=True))]
    )
    inner = tuple(max(1, min(block, part)) for block, part in zip(blocks, slab_shape, strict=True))
    sizes = {
        choice: blosc2.asarray(slab, chunks=slab_shape, blocks=inner, cparams=_compression([choice])).schunk.cbytes
        for choice in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE)
    }
    return min(sizes, key=lambda choice: sizes[choice])


def block_and_chunk_shape(
    shape: Sequence[int], patch_size: Sequence[int], *, itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Block and chunk shape (1, z, y, x) for an array (c, z, y, x) that is read in patches.

    Source: nnU-Net 2.8, `comp_blosc2_params`: blocks of at most 128 KiB grow out of the patch, chunks of at most 6 MiB
    towards one and a half patches.
    """
    sizes = [int(size) for size in shape[1:]]
    flat = len(patch_size) == 2
    patch = [1, *patch_size] if flat else list(patch_size)
    target = [max(1, min(size, math.floor(CHUNK_TO_PATCH * edge))) for size, edge in zip(sizes, patch, strict=True)]
    block = [min(1 << (edge - 1).bit_length(), size) for size, edge in zip(sizes, patch, strict=True)]
    while math.prod(block) * itemsize > MAX_BLOCK_BYTES:
        axis = max((a for a in range(3) if block[a] > 1), key=lambda a: (block[a] / target[a], a))
        block[axis] = 1 << ((block[axis] - 1).bit_length() - 1)
    chunk = list(block)
    while True:
        grown = []
        for axis in range(3):
            limit = min(sizes[axis], target[axis])
            if patch[axis] == 1 or chunk[axis] >= limit:
                continue
            candidate = list(chunk)
            candidate[axis] = min(chunk[axis] + block[axis], limit)
            if math.prod(candidate) * itemsize <= MAX_CHUNK_BYTES:
                grown.append(((chunk[axis] / target[axis], -sizes[axis], axis), candidate))
        if not grown:
            return (1, *block), (1, *chunk)
        chunk = min(grown)[1]
