"""Pickles read with an allow-list, because models and preprocessed data are shared and a free pickle runs code."""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
            message(path, expected="this file", got="nothing there", remedy="Check the path.")
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


class _PlainUnpickler(pickle.Unpickler):
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


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"Expected latin1 text, got {encoding!r}.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _array_from_buffer(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Any:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _numpy_reconstructors() -> tuple[Callable[..., Any], Callable[..., Any]]:
    array_callable = np.empty(0).__reduce__()[0]
    scalar_callable = np.float64(0).__reduce__()[0]
    return array_callable, scalar_callable  # type: ignore[return-value]


_RECONSTRUCT_ARRAY, _RECONSTRUCT_SCALAR = _numpy_reconstructors()
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT_ARRAY,
    ("numpy.core.multiarray", "scalar"): _RECONSTRUCT_SCALAR,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
    ("_codecs", "encode"): _encode_latin1,  # how protocols below 3 write bytes,
    ("builtins", "bytes"): _no_bytes,  # and how they write none
}
