"""Compile loops with numba, everywhere in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, **options: Any) -> Function:
    """Compile for the arguments as they come, release the GIL, and keep the result on disk where that is possible.

    `options` are numba's.
    """
    try:
        return cast(Function, numba.njit(nogil=True, cache=True, **options)(function))
    except RuntimeError:  # neither the package's folder nor the user's own can be written to
        return cast(Function, numba.njit(nogil=True, **options)(function))
