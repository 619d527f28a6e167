"""Names that become parts of paths: from a plan, a data set, a checkpoint or the command line."""

from __future__ import annotations

import re

from segwright.errors import SegwrightError, message

A_NAME = "a name for files and folders, without '/', '\\' and control characters"
# Leaves room for what is added to a name in a file name; most file systems allow 255 bytes.
LONGEST_NAME_BYTES = 200
# Control characters, line separators, changes of the writing direction, and invalid UTF-8.
_UNPRINTABLE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE_CHARACTER = re.compile(f"[{_UNPRINTABLE}]")
_NOT_FOR_TERMINALS = re.compile(f"(?![\n\t])[{_UNPRINTABLE}]")


def parse_name(value: object, *, where: str, error: type[SegwrightError], remedy: str = "Rename it.") -> str:
    """Return a name that is a single path component on every file system and leads to no other folder.

    Raises:
        SegwrightError: the class `error`, for anything else.
    """
    fault = name_fault(value)
    if fault is None:
        return str(value)
    raise error(message(where, expected=A_NAME, got=f"{value!r}, {fault}", remedy=remedy))


def name_fault(value: object) -> str | None:
    """What is wrong with a value that `parse_name` refuses; None if it is valid."""
    if not isinstance(value, str):
        return "which is not text"
    if not value:
        return "which is empty"
    if _UNPRINTABLE_CHARACTER.search(value):
        return "with a control character or invalid UTF-8"
    if "/" in value or "\\" in value or re.match(r"[A-Za-z]:", value):
        return "which is a path"
    if value.startswith("."):
        return "which begins with a dot"
    if value != value.strip():
        return "with leading or trailing white space"
    if len(value.encode()) > LONGEST_NAME_BYTES:
        return f"of more than {LONGEST_NAME_BYTES} bytes"
    return None


def printable(text: object) -> str:
    """The text with control and unprintable characters escaped; newlines and tabs stay."""
    return _NOT_FOR_TERMINALS.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))
