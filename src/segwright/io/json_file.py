"""Reading JSON with errors that name the file and the line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segwright.errors import DatasetError, MissingFileError, SegwrightError, message

# No file of nnU-Net's or ours goes beyond these; Python's arithmetic and its recursion would.
MOST_DIGITS = 18
DEEPEST_NESTING = 50


class _UnusableError(Exception):
    """Text that is JSON but nothing to work with."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got


def read_json(path: Path, *, error: type[SegwrightError] = DatasetError) -> Any:
    """Read a JSON file, keeping the order of its keys.

    Raises:
        MissingFileError: there is no such file.
        SegwrightError: the class `error`, naming line and column, where the text is not JSON; also for an object with
            a key twice, a whole number of more than 18 digits, and values nested more than 50 deep.
    """
    path = Path(path)
    if os.path.exists(path) and not path.is_file():  # unlike Path.exists, never an error
        got = "a folder" if path.is_dir() else "a pipe or device"
        raise error(message(path, expected="a JSON file", got=got, remedy="Put the file in this place."))
    try:
        return _parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as cause:
        raise MissingFileError(
            message(path, expected="this file", got="no such file", remedy="Check the path.")
        ) from cause
    except json.JSONDecodeError as cause:
        raise error(
            message(
                f"{path}, line {cause.lineno}, column {cause.colno}",
                expected="valid JSON",
                got=cause.msg,
                remedy="Correct the file at this place.",
            )
        ) from cause
    except _UnusableError as cause:
        raise error(message(path, expected=cause.expected, got=cause.got, remedy="Correct the file.")) from cause
    except (UnicodeDecodeError, OSError) as cause:
        raise error(
            message(
                path, expected="a readable JSON file in UTF-8", got=str(cause), remedy="Write the file again, as UTF-8."
            )
        ) from cause


def _parse(text: str) -> Any:
    too_deep = _UnusableError(f"values nested at most {DEEPEST_NESTING} deep", "deeper ones")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_whole_number)
    except RecursionError:
        raise too_deep from None
    level = [value]
    for _ in range(DEEPEST_NESTING):
        level = [inner for outer in level for inner in _values(outer)]
    if level:
        raise too_deep
    return value


def _values(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _UnusableError("every key of an object once", f"{twice!r} {keys.count(twice)} times")
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise _UnusableError(f"numbers of at most {MOST_DIGITS} digits", f"one of {len(digits)}")
    return int(digits)
