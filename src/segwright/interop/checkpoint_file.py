"""Checkpoint files, in nnU-Net v2's layout, read without executing code in them, and only if undamaged.

A checkpoint is a pickle, and an ordinary pickle runs code when it is opened. Models are shared, so only tensors, plain
containers and numpy's scalars and arrays are accepted.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segwright.errors import CheckpointError, MissingFileError, WriteError, message
from segwright.interop.archive import seal, verify
from segwright.io.atomic import atomic_path
from segwright.io.safe_pickle import checked_array_state, plain_dtype, plain_scalar, with_byte_order

WEIGHTS_KEY = "network_weights"
_REFUSED_GLOBAL = re.compile(r"\bGLOBAL (\S+)")
# Files written with numpy 1 and with numpy 2 name the same functions differently.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint written by Segwright or by nnU-Net v2 into memory, running no code from it.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is damaged, not such a checkpoint, or contains something that could run code.
    """
    return read_with_digest(path)[0]


def read_with_digest(path: Path) -> tuple[dict[str, Any], str]:
    """Read a checkpoint, and the digest that identifies its contents."""
    if not path.is_file():
        raise MissingFileError(
            message(path, expected="a checkpoint", got="no such file", remedy="Train the model, or correct the path.")
        )
    value, digest = _load_safely(path)
    if not isinstance(value, dict) or not isinstance(value.get(WEIGHTS_KEY), Mapping):
        raise CheckpointError(
            message(
                path,
                expected=f"a dictionary with the key {WEIGHTS_KEY!r}",
                got=f"keys {sorted(map(str, value))}" if isinstance(value, dict) else type(value).__name__,
                remedy="Give a checkpoint_*.pth of Segwright or nnU-Net v2; nnU-Net v1's models have another layout.",
            )
        )
    return value, digest


def write_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: an existing file stays until the new one is complete.

    Raises:
        WriteError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        try:
            torch.save(dict(checkpoint), temporary)
            seal(temporary)
        except RuntimeError as error:  # torch's own writer hides the system's error
            raise WriteError(
                message(
                    path,
                    expected="to write the checkpoint",
                    got=_first_line(error),
                    remedy="Free some space or choose another folder; the previous checkpoint is intact.",
                )
            ) from error


def _load_safely(path: Path) -> tuple[Any, str]:
    try:
        # one open file for both, so that what is loaded is what was verified
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(_allowed_globals()):
            # torch warns about TorchScript archives before it refuses them; the refusal is enough.
            warnings.simplefilter("ignore", UserWarning)
            digest = verify(file, path)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True), digest
    except CheckpointError:
        raise
    except PermissionError as error:
        raise CheckpointError(
            message(path, expected="a readable file", got=str(error), remedy="Change the file's permissions.")
        ) from error
    except Exception as error:  # a truncated pickle can raise anything
        refused = _REFUSED_GLOBAL.search(str(error))
        if refused is not None:
            raise CheckpointError(
                message(
                    path,
                    expected="tensors, numbers, text and plain containers only",
                    got=f"a reference to {refused.group(1)}, which could run code when opened",
                    remedy="Do not open this file with other programs unless you trust who made it.",
                )
            ) from error
        raise CheckpointError(
            message(
                path,
                expected="a complete PyTorch file",
                got=_without_advice(error),
                remedy="The file is damaged or of another kind; copy it again or use another checkpoint.",
            )
        ) from error


def _without_advice(error: Exception) -> str:
    """Type and first line of an error; for torch's refusals only the type, as they advise loading without the check."""
    line = "" if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error) else _first_line(error)
    return f"{type(error).__name__} ({line})" if line else type(error).__name__


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


class _Dtype:
    """Stands for a pickled numpy dtype, whose own `__setstate__` takes flags that crash the interpreter."""

    def __init__(self, name: Any, *options: Any) -> None:
        self.dtype = plain_dtype(name, *options)

    def __setstate__(self, state: Any) -> None:
        self.dtype = with_byte_order(self.dtype, state)


class _Array(np.ndarray[Any, Any]):
    """Stands for a pickled numpy array, whose own `__setstate__` trusts its dtype; it is pickled as numpy's own."""

    def __new__(cls, *_: Any) -> _Array:
        empty: _Array = super().__new__(cls, 0)
        return empty

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, is_fortran, data = state
        super().__setstate__(checked_array_state((version, shape, dtype.dtype, is_fortran, data)))

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def _scalar(dtype: Any, data: bytes) -> Any:
    return plain_scalar(dtype.dtype, data)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _allowed_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    return [
        (_Dtype, "numpy.dtype"),
        (_Array, "numpy.ndarray"),
        *((_scalar, f"{module}.scalar") for module in _NUMPY_MODULES),
        *((_reconstruct, f"{module}._reconstruct") for module in _NUMPY_MODULES),
    ]
