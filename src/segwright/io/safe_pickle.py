"""Pickles read with an allow-list, because models and preprocessed data are shared and a free pickle runs code."""

from __future__ import annotations

import collections
import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from segwright.errors import CheckpointError, MissingFileError, message
from segwright.io.atomic import atomic_path

PROTOCOL = 4


class UnsafePickleError(CheckpointError):
    """The pickle asks for something that is not plain data."""


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain data: Python's containers and scalars, numpy arrays, dtypes and scalars, OrderedDict.

    Nothing else is ever imported or called.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is torn, or asks for anything else, which is named.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(
            message(path, expected="this file", got="no such file", remedy="Check the path.")
        ) from error
    return loads_pickle(data, where=path)


def loads_pickle(data: bytes, *, where: object) -> Any:
    """Read a pickle from memory, as `load_pickle` does."""
    try:
        return _PlainUnpickler(io.BytesIO(data), where).load()
    except CheckpointError:
        raise
    except Exception as error:  # a torn pickle raises almost anything
        raise CheckpointError(
            message(
                where,
                expected="a whole pickle of plain data",
                got=f"{type(error).__name__}: {error}",
                remedy="The file is damaged; make it again.",
            )
        ) from error


def dump_pickle(value: Any, path: Path) -> None:
    """Write `value` as a pickle, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(value, protocol=PROTOCOL))


class _PlainUnpickler(pickle._Unpickler):  # in Python: the one in C can be made to crash
    stack: list[Any]
    memo: dict[int, Any]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BytesIO, where: object) -> None:
        super().__init__(file)
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        # numpy 1 says numpy.core where numpy 2 says numpy._core; protocols below 3 have Python 2's names.
        known = module.replace("numpy._core.", "numpy.core.").replace("__builtin__", "builtins")
        allowed = _ALLOWED.get((known, name))
        if allowed is None:
            raise UnsafePickleError(
                message(
                    self._where,
                    expected="plain data (numbers, text, lists, numpy arrays)",
                    got=f"a pickle that calls {module}.{name}",
                    remedy="It was refused, because loading it would run foreign code. Ask its maker for another form.",
                )
            )
        return allowed

    def load_build(self) -> None:
        """Give an array or a dtype its content, which numpy believes unseen and may crash on."""
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, np.ndarray):
            built.__setstate__(checked_array_state(state))
        elif isinstance(built, np.dtype):
            self.stack[-1] = with_byte_order(built, state)
            self.memo.update({key: self.stack[-1] for key, known in self.memo.items() if known is built})
        else:
            raise ValueError(f"Expected an array or a dtype to fill, got {type(built).__name__}.")

    def load_bytearray8(self) -> None:
        """Read before memory is taken: the size may be a damaged one."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(size)))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def plain_dtype(name: Any, *options: Any) -> np.dtype[Any]:
    """Make the dtype of a pickled name, which is of numbers or text."""
    if not isinstance(name, str) or not re.fullmatch(r"[biufc][0-9]{1,2}|[SU][0-9]{1,6}|\?", name):
        raise ValueError(f"Expected the dtype of numbers or text, got {name!r}.")
    return np.dtype(name)


def with_byte_order(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """Return the dtype in the byte order of its pickled state, which must have nothing else to say."""
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    if order not in ("<", ">", "|", "="):
        raise ValueError(f"Expected a byte order, got {order!r}.")
    ordered: np.dtype[Any] = dtype.newbyteorder(order)
    if state[1:] != ordered.__reduce__()[2][1:]:
        raise ValueError(f"Expected the state of {dtype}, got {state!r}.")
    return ordered


def checked_array_state(state: Any) -> Any:
    """Return the pickled state of an array whose bytes are as many as its shape says."""
    _, shape, dtype, is_fortran, data = state
    sizes_known = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
    if not sizes_known or not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise ValueError(f"Expected shape, dtype and bytes of an array, got {type(data).__name__}.")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"Expected the bytes of an array of shape {shape}, got {len(data)}.")
    return 1, shape, dtype, bool(is_fortran), data


def _empty_array(subtype: Any, shape: Any, dtype: Any) -> NDArray[Any]:
    return np.empty(0)


def plain_scalar(dtype: Any, data: bytes) -> Any:
    """Make a number of its bytes."""
    if not isinstance(dtype, np.dtype) or len(data) != dtype.itemsize:
        raise ValueError(f"Expected one number of {dtype}, got {len(data)} bytes.")
    return np.frombuffer(data, dtype)[0]


def _array_from_buffer(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Any:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"Expected latin1 text, got {encoding!r}.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("numpy", "ndarray"): "numpy.ndarray",  # named, never called
    ("numpy", "dtype"): plain_dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): plain_scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
    ("_codecs", "encode"): _encode_latin1,  # how protocols below 3 write bytes,
    ("builtins", "bytes"): _no_bytes,  # and how they write none
}
