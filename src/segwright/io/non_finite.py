"""Find NaN and infinite voxels in a NIfTI file: ITK's reader silently turns them into 0."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

# NIfTI-1's codes of the types that have NaN and infinity.
FLOAT_TYPES = {"16": "f4", "64": "f8"}


class NonFiniteVoxels:
    """Collects the places of NaN and infinite voxels while the unpacked content of a file passes by in pieces."""

    def __init__(self, *, datatype: str, header_bytes: int, num_voxels: int) -> None:
        self._dtype = np.dtype(FLOAT_TYPES[datatype])
        self._header_left = header_bytes
        self._num_voxels = num_voxels
        self._position = 0
        self._begun = b""
        self._byte_order_known = False
        self._found: list[NDArray[np.int64]] = []

    def take(self, piece: bytes) -> None:
        """Look through the next piece."""
        data = self._begun + piece
        if not self._byte_order_known:
            if len(data) < 4:
                self._begun = data
                return
            self._learn_byte_order(data[:4])
        skipped = min(self._header_left, len(data))
        self._header_left -= skipped
        count = min((len(data) - skipped) // self._dtype.itemsize, self._num_voxels - self._position)
        finite = np.isfinite(np.frombuffer(data, self._dtype, count, offset=skipped))
        if not finite.all():
            self._found.append(self._position + np.flatnonzero(~finite))
        self._position += count
        self._begun = data[skipped + count * self._dtype.itemsize :] if self._position < self._num_voxels else b""

    @property
    def places(self) -> NDArray[np.int64]:
        """Indices into the voxels in the file's order, which is that of a flattened array (t, z, y, x)."""
        return np.concatenate([np.empty(0, np.int64), *self._found])

    def _learn_byte_order(self, header_size: bytes) -> None:
        # The header begins with its own size, 348, which is above 65535 where it is read in the wrong order.
        if int.from_bytes(header_size, sys.byteorder) > 0xFFFF:
            self._dtype = self._dtype.newbyteorder()
        self._byte_order_known = True
