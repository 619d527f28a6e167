"""A finding about a data set, and how it becomes an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segwright.errors import DatasetError

_MAX_NAMES = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong ("error") or doubtful ("warning") with a data set, its case and its file."""

    severity: Literal["error", "warning"]
    case_id: str | None
    file: str | None
    what: str
    remedy: str

    @property
    def text(self) -> str:
        """The finding on one line."""
        case = f"case {self.case_id}" if self.case_id is not None else None
        where = ", ".join(part for part in (case, self.file) if part)
        return " ".join(part for part in (f"{where}:" if where else "", f"{self.what}.", self.remedy) if part)

    def as_error(self) -> DatasetError:
        """The finding as an error to raise."""
        return DatasetError(self.text)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first few of many names, and how many more there are."""
    rest = len(names) - _MAX_NAMES
    return separator.join(names[:_MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
