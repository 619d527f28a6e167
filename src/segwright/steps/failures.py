"""What failed cases mean: an error of their own where the others are done, a mistake where nothing is.

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
    """The error and every case that it names, a line each."""
    told = str(error)
    lines = [f"  {case_id}: {text}" for case_id, text in error.failures.items() if f"{case_id}:" not in told]
    return "\n".join([told, *lines])


def require_all_done(failures: Sequence[CaseFailure], num_cases: int, what: str) -> None:
    """Raise if any case failed.

    Raises:
        DatasetError: all did, and all by a mistake that can be mended.
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
    """Turn failed cases into a mistake of the user's where the work gives no answer without them."""
    try:
        yield
    except CasesFailedError as error:
        raise DatasetError(describe(error)) from error
