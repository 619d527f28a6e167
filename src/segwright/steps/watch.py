"""How a step that takes a while shows itself to whoever called it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from segwright.doctor.check import CheckReport
    from segwright.parallel import Progress
    from segwright.training.monitor import Monitor


class Watch(Protocol):
    """Sees a long piece of work go by. `Quiet` is the one that does nothing; override what is of interest."""

    def note(self, text: str) -> None:
        """Take a sentence about what was done."""
        ...

    def progress(self) -> AbstractContextManager[Progress | None]:
        """Give the callback that counts the cases of one step."""
        ...

    def checked(self, report: CheckReport) -> None:
        """See what the check of a data set found, before errors stop the work."""
        ...

    def training(self, class_names: Sequence[str]) -> AbstractContextManager[Monitor | None]:
        """Give the monitor that receives the events of a training."""
        ...

    def step(self, name: str) -> None:
        """Hear that the next step of `run_dataset` begins."""
        ...


class Quiet:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def progress(self) -> AbstractContextManager[Progress | None]:
        """Count nothing."""
        return nullcontext()

    def checked(self, report: CheckReport) -> None:
        """Do nothing."""

    def training(self, class_names: Sequence[str]) -> AbstractContextManager[Monitor | None]:
        """Receive no events."""
        return nullcontext()

    def step(self, name: str) -> None:
        """Do nothing."""


QUIET = Quiet()
