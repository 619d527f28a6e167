"""Read typed values out of a JSON object, with errors that name the file and the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from segwright.errors import MissingFileError, PlanError, message
from segwright.io.json_file import read_json
from segwright.names import parse_name

# No image has spacings in mm or sizes in voxels beyond these; `io.image` refuses them too.
SMALLEST_NUMBER, LARGEST_NUMBER = 1e-9, 1e9


@dataclass(frozen=True)
class Fields:
    """A JSON object and its location, such as ``plans.json, configuration '2d'``.

    Every method reads one key and raises `PlanError` where the key is missing or holds something else.
    """

    values: Mapping[str, Any]
    where: str

    def error(self, key: str, *, expected: str, got: object, remedy: str) -> PlanError:
        """Make the error for a key, without raising it."""
        return PlanError(message(f"{self.where}, key '{key}'", expected=expected, got=got, remedy=remedy))

    def required(self, key: str) -> Any:
        """Return the value as it is in the file."""
        if key not in self.values:
            raise PlanError(
                message(
                    self.where,
                    expected=f"the key '{key}'",
                    got=f"only the keys {', '.join(map(str, self.values)) or '(none)'}",
                    remedy="Add it, or let the planner write the file again.",
                )
            )
        return self.values[key]

    def text(self, key: str, *, known: Sequence[str] | None = None) -> str:
        """Read a string, one of `known` where that is given."""
        value = self.required(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, expected="a text", got=repr(value), remedy="Write it in quotes.")
        self._check_known(key, value, known)
        return value

    def name(self, key: str) -> str:
        """Read a string that becomes a part of a path."""
        return parse_name(self.required(key), where=f"{self.where}, key '{key}'", error=PlanError)

    def optional_text(self, key: str) -> str | None:
        """Read a string, null or nothing."""
        return None if self.values.get(key) is None else self.text(key)

    def texts(self, key: str, *, known: Sequence[str] | None = None) -> tuple[str, ...]:
        """Read a list of strings, each one of `known` where that is given."""
        value = self._list(key, "a list of texts")
        if not all(isinstance(entry, str) for entry in value):
            raise self.error(key, expected="a list of texts", got=repr(value), remedy="Write each entry in quotes.")
        for entry in value:
            self._check_known(key, entry, known)
        return tuple(value)

    def flag(self, key: str) -> bool:
        """Read true or false."""
        value = self.required(key)
        if not isinstance(value, bool):
            raise self.error(key, expected="true or false", got=repr(value), remedy="Write it without quotes.")
        return value

    def flags(self, key: str) -> tuple[bool, ...]:
        """Read a list of true and false."""
        value = self._list(key, "a list of true and false")
        if not all(isinstance(entry, bool) for entry in value):
            raise self.error(key, expected="a list of true and false", got=repr(value), remedy="Correct the entries.")
        return tuple(value)

    def whole_number(self, key: str, *, minimum: int, maximum: int | None = None, remedy: str) -> int:
        """Read a whole number from `minimum` to `maximum`."""
        value = self.required(key)
        if not is_whole_within(value, minimum, maximum):
            expected = f"a whole number {in_words(minimum, maximum)}"
            raise self.error(key, expected=expected, got=repr(value), remedy=remedy)
        return int(value)

    def whole_numbers(self, key: str, *, minimum: int = 1, maximum: int | None = None) -> tuple[int, ...]:
        """Read a list of whole numbers from `minimum` to `maximum`."""
        expected = f"a list of whole numbers {in_words(minimum, maximum)}"
        value = self._list(key, expected)
        if not all(is_whole_within(entry, minimum, maximum) for entry in value):
            raise self.error(key, expected=expected, got=repr(value), remedy="Correct the entries.")
        return tuple(int(entry) for entry in value)

    def positive_numbers(self, key: str) -> tuple[float, ...]:
        """Read a list of numbers above 0, none so small or large that no image has it."""
        expected = f"a list of numbers above 0 and up to {LARGEST_NUMBER:g}"
        value = self._list(key, expected)
        if not all(is_number(entry) and SMALLEST_NUMBER <= entry <= LARGEST_NUMBER for entry in value):
            raise self.error(key, expected=expected, got=repr(value), remedy="Correct the entries, without quotes.")
        return tuple(value)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Read an object."""
        value = self.required(key)
        if not isinstance(value, Mapping):
            raise self.error(key, expected="an object in braces", got=repr(value), remedy="Write it as {...}.")
        return value

    def optional_mapping(self, key: str) -> Mapping[str, Any] | None:
        """Read an object, null or nothing."""
        return None if self.values.get(key) is None else self.mapping(key)

    def inner(self, key: str) -> Fields:
        """Read an object as `Fields`, with the key in its location."""
        return Fields(self.mapping(key), f"{self.where}, key '{key}'")

    def check_length(self, key: str, got: int, wanted: int, of_what: str) -> None:
        """Raise where a list has not one entry for each of `of_what`."""
        if got != wanted:
            raise self.error(
                key,
                expected=f"{wanted} entries, one for each of {of_what}",
                got=f"{got}: {self.values.get(key)!r}",
                remedy="Make the lengths agree.",
            )

    def _list(self, key: str, expected: str) -> Sequence[Any]:
        value = self.required(key)
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise self.error(key, expected=expected, got=repr(value), remedy="Write it as [..., ...].")
        return value

    def _check_known(self, key: str, value: str, known: Sequence[str] | None) -> None:
        if known is not None and value not in known:
            raise self.error(
                key,
                expected=f"one of {', '.join(known)}",
                got=repr(value),
                remedy="Correct the spelling or choose another.",
            )


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_whole_within(value: object, minimum: int, maximum: int | None) -> TypeGuard[int]:
    """Whether a JSON value is a whole number from `minimum` to `maximum`, or from `minimum` on where that is None."""
    return is_whole(value) and value >= minimum and (maximum is None or value <= maximum)


def in_words(minimum: int, maximum: int | None) -> str:
    """The range of a number for a message."""
    return f"of {minimum} or more" if maximum is None else f"from {minimum} to {maximum}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object, key order kept.

    Raises:
        MissingFileError: where there is no such file.
        PlanError: where the file is not JSON, or not an object.
    """
    if not path.is_file():
        raise MissingFileError(
            message(path, expected="a JSON file", got="no such file", remedy="Correct the path, or make a plan first.")
        )
    return as_object(read_json(path, error=PlanError), str(path))


def as_object(value: object, where: str) -> dict[str, Any]:
    """Return a JSON value that must be an object."""
    if not isinstance(value, Mapping):
        raise PlanError(
            message(where, expected="an object in braces", got=type(value).__name__, remedy="Write it as {...}.")
        )
    return dict(value)
