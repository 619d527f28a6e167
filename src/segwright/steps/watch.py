"""How a long step reports its progress to the caller."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from segwright.doctor.check import CheckReport
    from segwright.parallel import Progress
    from segwright.training.monitor import Monitor


class Watch(Protocol):
    """Receives the progress of a long step. Inherit `Quiet`, which does nothing, and override what you need."""

    def note(self, text: str) -> None:
        """Receive a sentence about what was done."""
        ...

    def progress(self) -> AbstractContextManager[Progress | None]:
        """Return the callback that counts the cases of one step."""
        ...

    def checked(self, report: CheckReport) -> None:
        """Receive the findings of a check, before errors stop the work."""
        ...

    def training(self, class_names: Sequence[str]) -> AbstractContextManager[Monitor | None]:
        """Return the monitor that receives the events of a training."""
        ...

    def step(self, name: str) -> None:
        """Called when the next step of `run_dataset` starts."""
        ...


class Quiet:
    """A `Watch` that shows nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def progress(self) -> AbstractContextManager[Progress | None]:
        """Do nothing."""
        return nullcontext()

    def checked(self, report: CheckReport) -> None:
        """Do nothing."""

    def training(self, class_names: Sequence[str]) -> AbstractContextManager[Monitor | None]:
        """Do nothing."""
        return nullcontext()

    def step(self, name: str) -> None:
        """Do nothing."""


QUIET = Quiet()
