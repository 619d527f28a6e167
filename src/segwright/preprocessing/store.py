"""The folder of preprocessed cases that training reads: nnU-Net v2's `.b2nd`, `_seg.b2nd` and `.pkl` a case.

Folders of older versions with `.npz`, unpacked to `.npy` or not, can be read.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segwright.errors import CheckpointError, ImageError, MissingFileError, WriteError, message
from segwright.io.atomic import write_errors_explained
from segwright.io.safe_pickle import PROTOCOL, load_pickle
from segwright.preprocessing.chunking import blocks_and_chunks
from segwright.preprocessing.pipeline import PreprocessedCase

# For files that are not finished: nnU-Net takes the ending of every file among the cases for that of the arrays.
OWN_FOLDER = "segwright"
FILE_ENDINGS = (".b2nd", ".pkl", ".npz", ".npy")
_LABEL_SUFFIX = "_seg"
# LZ4HC, as nnU-Net writes, reads as fast from any level; level 1 is written 4 times as fast as nnU-Net's 5 and takes
# 3 to 10 % more room.
_COMPRESSION_LEVEL = 1
# Where a blosc2 frame keeps its own length, big-endian.
_FRAME_LENGTH = slice(16, 24)
# blosc2 writes a file in dozens of small steps, which for a small array take as long as the packing.
_PACKED_IN_MEMORY_BYTES = 16 << 20
_CACHED_PROPERTIES_BYTES = 256 << 20

Shape = tuple[int, ...]


class SliceableArray(Protocol):
    """An array of which only what is asked for is read from the disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (c, z, y, x)."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the numbers."""
        ...

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        """Read a part as a numpy array."""
        ...


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A case on the disk: `data` (c, z, y, x) float32 and `seg` (1, z, y, x); `shape` is (z, y, x)."""

    data: SliceableArray
    seg: SliceableArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (z, y, x)."""
        return tuple(self.data.shape[1:])


@dataclass(frozen=True)
class PreprocessedStore:
    """The cases of one `data_identifier`. Cheap to make and to send to another process."""

    folder: Path
    _properties: OrderedDict[str, tuple[tuple[int, int], dict[str, Any]]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "folder", state["folder"])
        object.__setattr__(self, "_properties", OrderedDict())

    def case_ids(self) -> tuple[str, ...]:
        """Ids of the complete cases, sorted."""
        names = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        ids = (name.removesuffix(".pkl") for name in names if name.endswith(".pkl"))
        return tuple(sorted(case_id for case_id in ids if self._is_complete(case_id, names)))

    def is_complete(self, case_id: str) -> bool:
        """Whether a case was written to its end; its `.pkl` is written last."""
        return self._is_complete(case_id, {path.name for path in self.files(case_id)})

    def files(self, case_id: str) -> list[Path]:
        """The files of a case that are there."""
        return [path for path in self._files(case_id) if path.is_file()]

    def is_whole(self, case_id: str) -> bool:
        """Whether the files of a complete case are as long as they were written; after a power cut they may not be."""
        arrays = [self._path(case_id, ".b2nd"), self._path(case_id, f"{_LABEL_SUFFIX}.b2nd")]
        try:
            load_pickle(self._path(case_id, ".pkl"))
            return all(_is_whole_frame(path) for path in arrays if path.exists())
        except CheckpointError:
            return False

    def write(self, case_id: str, case: PreprocessedCase, patch_size: Sequence[int]) -> None:
        """Store a case for reading in patches of `patch_size`, (z, y, x) or (y, x). The label map becomes int16.

        The files are not flushed to the disk; `segwright.io.atomic.flush_folders` does that for all at once.

        Raises:
            WriteError
        """
        data = np.ascontiguousarray(case.data, dtype=np.float32)
        seg = np.ascontiguousarray(case.seg, dtype=np.int16)
        names = [f"{case_id}{ending}" for ending in (".b2nd", f"{_LABEL_SUFFIX}.b2nd", ".pkl")]
        own_folder = self.folder / OWN_FOLDER
        with write_errors_explained(self.folder / names[0]):
            own_folder.mkdir(parents=True, exist_ok=True)
            self._path(case_id, ".pkl").unlink(missing_ok=True)
            _write_array(data, own_folder / names[0], patch_size, _better_filter)
            _write_array(seg, own_folder / names[1], patch_size, _no_filter)
            (own_folder / names[2]).unlink(missing_ok=True)  # were it a link, another file would be written to
            (own_folder / names[2]).write_bytes(pickle.dumps(case.properties, protocol=PROTOCOL))
            for name in names:
                os.replace(own_folder / name, self.folder / name)

    def read_properties(self, case_id: str) -> dict[str, Any]:
        """Properties of a case, class locations among them. Kept in memory while they are small; do not change them.

        Raises:
            MissingFileError, CheckpointError
        """
        path = self._path(case_id, ".pkl")
        try:
            status = path.stat()
        except FileNotFoundError:
            raise self._missing(case_id) from None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._properties.get(case_id)
        if known is not None and known[0] == stamp:
            self._properties.move_to_end(case_id)
            return known[1]
        properties: dict[str, Any] = load_pickle(path)
        self._properties[case_id] = (stamp, properties)
        while len(self._properties) > 1 and self._cached_bytes() > _CACHED_PROPERTIES_BYTES:
            self._properties.popitem(last=False)
        return properties

    def open(self, case_id: str) -> StoredCase:
        """Open a case to read parts of it.

        Raises:
            MissingFileError: there is no such case.
            ImageError: its files are damaged.
        """
        data, seg = self._path(case_id, ".b2nd"), self._path(case_id, f"{_LABEL_SUFFIX}.b2nd")
        if data.is_file() and seg.is_file():
            return _stored_case(_open_array(data), _open_array(seg), data)
        archive = self._path(case_id, ".npz")
        arrays = [
            _open_numpy(self._path(case_id, f"{suffix}.npy"), archive, key)
            for suffix, key in (("", "data"), (_LABEL_SUFFIX, "seg"))
        ]
        if arrays[0] is None or arrays[1] is None:
            raise self._missing(case_id)
        return _stored_case(arrays[0], arrays[1], archive)

    def remove(self, case_id: str) -> None:
        """Delete the files of a case."""
        for path in self._files(case_id):
            path.unlink(missing_ok=True)

    def _path(self, case_id: str, suffix: str) -> Path:
        return self.folder / f"{case_id}{suffix}"

    def _files(self, case_id: str) -> list[Path]:
        endings = (".pkl", ".b2nd", f"{_LABEL_SUFFIX}.b2nd", ".npz", ".npy", f"{_LABEL_SUFFIX}.npy")
        return [self._path(case_id, ending) for ending in endings]

    def _is_complete(self, case_id: str, names: set[str]) -> bool:
        pairs = [(f"{case_id}{ending}", f"{case_id}{_LABEL_SUFFIX}{ending}") for ending in (".b2nd", ".npy")]
        stored = any(data in names and seg in names for data, seg in pairs) or f"{case_id}.npz" in names
        return stored and f"{case_id}.pkl" in names

    def _cached_bytes(self) -> int:
        return sum(stamp[1] for stamp, _ in self._properties.values())

    def _missing(self, case_id: str) -> MissingFileError:
        return MissingFileError(
            message(
                self.folder,
                expected=f"the preprocessed case {case_id!r}",
                got="no files of it",
                remedy="Preprocess the data set.",
            )
        )


def _is_whole_frame(path: Path) -> bool:
    with path.open("rb") as file:
        beginning = file.read(_FRAME_LENGTH.stop)
        return int.from_bytes(beginning[_FRAME_LENGTH], "big") == os.fstat(file.fileno()).st_size > 0


def _write_array(
    array: NDArray[Any], path: Path, patch_size: Sequence[int], choose_filter: Callable[[NDArray[Any], Shape], Any]
) -> None:
    import blosc2

    blocks, chunks = blocks_and_chunks(array.shape, patch_size, array.itemsize)
    in_memory = array.nbytes <= _PACKED_IN_MEMORY_BYTES
    path.unlink(missing_ok=True)  # blosc2 refuses to write over what a killed process left
    try:
        packed = blosc2.asarray(
            array,
            urlpath=None if in_memory else str(path),
            contiguous=True,
            blocks=blocks,
            chunks=chunks,
            cparams=_compression(choose_filter(array, blocks)),
            dparams={"nthreads": 1},
        )
    except RuntimeError as error:  # all that blosc2 says of a file that it cannot write
        raise WriteError(
            message(
                path,
                expected="to write this file",
                got=f"{error}, most likely for lack of space",
                remedy="Free some space or choose another folder.",
            )
        ) from error
    if in_memory:
        path.write_bytes(packed.to_cframe())


def _compression(chosen_filter: Any) -> dict[str, Any]:
    import blosc2

    return {"codec": blosc2.Codec.LZ4HC, "clevel": _COMPRESSION_LEVEL, "nthreads": 1, "filters": [chosen_filter]}


def _better_filter(array: NDArray[Any], blocks: Shape) -> Any:
    """Byte shuffling or none, whichever packs a block from the middle smaller: resampled intensities want it, whole
    numbers do not."""
    import blosc2

    middle = tuple(
        slice((size - part) // 2, (size - part) // 2 + part) for size, part in zip(array.shape, blocks, strict=True)
    )
    sample = np.ascontiguousarray(array[middle])

    def packed_bytes(choice: Any) -> int:
        return len(blosc2.compress2(sample, typesize=sample.itemsize, **_compression(choice)))

    return min((blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE), key=packed_bytes)


def _no_filter(label_map: NDArray[Any], blocks: Shape) -> Any:
    """None: shuffling makes label maps no smaller."""
    import blosc2

    return blosc2.Filter.NOFILTER


@dataclass(frozen=True, eq=False)
class _NamedArray:
    """An array whose file is named when a part of it cannot be unpacked; blosc2 raises RuntimeError for that."""

    array: SliceableArray
    path: Path
    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        try:
            return self.array[index]
        except RuntimeError as error:
            raise _damaged(self.path, error) from error


def _stored_case(data: SliceableArray, seg: SliceableArray, path: Path) -> StoredCase:
    if len(data.shape) != 4 or tuple(seg.shape) != (1, *data.shape[1:]):
        raise _damaged(path, ValueError(f"shapes {tuple(data.shape)} and {tuple(seg.shape)} of image and label map"))
    return StoredCase(data, seg)


def _open_array(path: Path) -> SliceableArray:
    import blosc2

    mapping = {} if os.name == "nt" else {"mmap_mode": "r"}
    try:
        array = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapping)
        return _NamedArray(array, path, tuple(array.shape), array.dtype)
    except Exception as error:  # blosc2 raises RuntimeError, or worse, for a file that is not its array
        raise _damaged(path, error) from error


def _open_numpy(unpacked: Path, archive: Path, key: str) -> NDArray[Any] | None:
    path = unpacked if unpacked.is_file() else archive
    if not path.is_file():
        return None
    try:
        if path == unpacked:
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[key])
    except Exception as error:  # a damaged zip raises almost anything
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ImageError:
    return ImageError(
        message(
            path,
            expected="a preprocessed array",
            got=f"{type(error).__name__}: {error}",
            remedy="The file is damaged; delete the case's files and preprocess again.",
        )
    )
