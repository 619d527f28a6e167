"""Raise for failed cases: `CasesFailedError` if others are done, otherwise the user's own error.

The command line exits with 1 for the first and 2 for the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segwright.errors import CasesFailedError, DatasetError

if TYPE_CHECKING:
    from segwright.parallel import CaseFailure


def describe(error: CasesFailedError) -> str:
    """The error and every failed case, one line each."""
    summary = str(error)
    lines = [f"  {case_id}: {text}" for case_id, text in error.failures.items() if f"{case_id}:" not in summary]
    return "\n".join([summary, *lines])


def require_all_done(failures: Sequence[CaseFailure], num_cases: int, what: str) -> None:
    """Raise if any case failed.

    Raises:
        DatasetError: all did, and all by an error that the user can fix.
        CasesFailedError: some did; the others are done.
    """
    if not failures:
        return
    error = CasesFailedError(
        f"{len(failures)} of {num_cases} cases could not be {what}:",
        {failure.case_id: failure.message for failure in failures},
    )
    if len(failures) == num_cases and all(failure.expected for failure in failures):
        raise DatasetError(describe(error))
    raise error


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Turn failed cases into a user error where there is no result without them."""
    try:
        yield
    except CasesFailedError as error:
        raise DatasetError(describe(error)) from error
