"""Show the steps of the library on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from segwright.cli.console import Terminal

if TYPE_CHECKING:
    from segwright.doctor.check import CheckReport
    from segwright.parallel import Progress
    from segwright.training.monitor import Monitor


class TerminalWatch:
    """Shows steps, progress, warnings and the training: the `Watch` of the command line."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    def note(self, text: str) -> None:
        """Print a sentence."""
        self.terminal.note(text)

    def progress(self) -> AbstractContextManager[Progress]:
        """Show the number of finished cases."""
        return self.terminal.progress()

    def checked(self, report: CheckReport) -> None:
        """Show the warnings of a check; its errors are shown by the exception that follows."""
        from segwright.dataset.problems import in_brief

        for problem in in_brief(report.warnings):
            self.terminal.note(f"Warning: {problem.text}")
        if report.ok:
            self.terminal.note(f"{report.num_cases} cases, no errors.")

    def training(self, class_names: Sequence[str]) -> AbstractContextManager[Monitor]:
        """Show the training's table, its live line, and one line per epoch."""
        from segwright.cli.training_view import TrainingView

        return TrainingView(self.terminal, class_names)

    def step(self, name: str) -> None:
        """Announce a step."""
        self.terminal.note(f"-- {name}")
