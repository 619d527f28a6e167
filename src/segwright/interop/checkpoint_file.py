"""Checkpoint files, in nnU-Net v2's layout, read without running what is in them.

A checkpoint is a pickle, and an ordinary pickle runs code when it is opened. Models are shared, so only tensors, plain
containers and numpy's scalars and arrays are accepted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segwright.errors import CheckpointError, MissingFileError, WriteError, message
from segwright.io.atomic import atomic_path

WEIGHTS_KEY = "network_weights"
_REFUSED_GLOBAL = re.compile(r"\bGLOBAL (\S+)")
# Files written with numpy 1 and with numpy 2 name the same functions differently.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


def read_checkpoint(path: Path, *, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint written by Segwright or by nnU-Net v2, running no code from it.

    Its tensors are put on `map_location`. See `load_state_dict` for its `network_weights`.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is torn, is no checkpoint of this kind, or holds what could run code.
    """
    if not path.is_file():
        raise MissingFileError(
            message(path, expected="a checkpoint", got="no such file", remedy="Train the model, or correct the path.")
        )
    value = _load_safely(path, map_location)
    if not isinstance(value, dict) or not isinstance(value.get(WEIGHTS_KEY), Mapping):
        raise CheckpointError(
            message(
                path,
                expected=f"a dictionary with the key {WEIGHTS_KEY!r}",
                got=f"keys {sorted(map(str, value))}" if isinstance(value, dict) else type(value).__name__,
                remedy="Give a checkpoint_*.pth of Segwright or nnU-Net v2; nnU-Net v1's models have another layout.",
            )
        )
    return value


def write_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all: a file that is there already stays until the new one is complete.

    Raises:
        WriteError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        try:
            torch.save(dict(checkpoint), temporary)
        except RuntimeError as error:  # torch's own writer hides the system's error
            raise WriteError(
                message(
                    path,
                    expected="to write the checkpoint",
                    got=_first_line(error),
                    remedy="Free some space or choose another folder; the checkpoint before it is still there.",
                )
            ) from error


def _load_safely(path: Path, map_location: str | torch.device) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_allowed_globals()):
            # torch warns about TorchScript archives before it refuses them; the refusal is enough.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location=map_location, weights_only=True)
    except PermissionError as error:
        raise CheckpointError(
            message(path, expected="a readable file", got=str(error), remedy="Change the file's permissions.")
        ) from error
    except Exception as error:  # a torn pickle can raise anything
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
                got=f"{type(error).__name__} ({_first_line(error)})",
                remedy="The file is torn or of another kind; copy it again or use another checkpoint.",
            )
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _allowed_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    multiarray = getattr(np, "_core", None) or np.core
    scalar = multiarray.multiarray.scalar
    reconstruct = multiarray.multiarray._reconstruct
    return [
        np.dtype,
        np.ndarray,
        *(type(np.dtype(name)) for name in _DTYPES),
        *((scalar, f"{module}.scalar") for module in _NUMPY_MODULES),
        *((reconstruct, f"{module}._reconstruct") for module in _NUMPY_MODULES),
    ]
