"""Voxels taken from the unpacked content of a file as it passes by, without a library and without a second copy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class PlainVoxels:
    """Collects the numbers of a file as float32 (n), in the file's order. NaN and infinity stay what they are."""

    def __init__(self, *, number_type: str, header_bytes: int, num_voxels: int) -> None:
        self._dtype = np.dtype(number_type)
        self._header_left = header_bytes
        self._num_voxels = num_voxels
        self._count = 0
        self._begun = b""
        self._array: NDArray[np.float32] | None = None

    def take(self, piece: bytes) -> None:
        """Take what is in the next piece; a number may begin in one and end in the next."""
        data = self._begun + piece if self._begun else piece
        skipped = min(self._header_left, len(data))
        self._header_left -= skipped
        count = min((len(data) - skipped) // self._dtype.itemsize, self._num_voxels - self._count)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which is reported for every voxel
            self.array[self._count : self._count + count] = np.frombuffer(data, self._dtype, count, offset=skipped)
        self._count += count
        self._begun = data[skipped + count * self._dtype.itemsize :] if self._count < self._num_voxels else b""

    @property
    def array(self) -> NDArray[np.float32]:
        """The voxels; what has not come is not set. The memory is asked for when the first piece comes."""
        if self._array is None:
            self._array = np.empty(self._num_voxels, dtype=np.float32)
        return self._array
