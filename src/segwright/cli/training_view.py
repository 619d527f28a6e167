"""Show a training on the terminal: a table at the start, a live line, and one line per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from segwright.cli.console import SECONDS_BETWEEN_LINES, Terminal, in_words


class TrainingView:
    """Show the events of a training. Use it as a context manager: it owns the live line."""

    def __init__(self, terminal: Terminal, class_names: Sequence[str]) -> None:
        self.terminal = terminal
        self.class_names = tuple(class_names)
        self.live: Any = None
        self.task: Any = None
        self.last_line = 0.0
        self.end_shown = False
        self.validating_since: tuple[float, int] | None = None

    def __enter__(self) -> TrainingView:
        if self.terminal.err.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            self.live = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), console=self.terminal.err, transient=True
            )
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        """Show an event of the training."""
        show = getattr(self, f"_{name}", None)
        if show is not None:
            show(values)

    def _start(self, values: Mapping[str, Any]) -> None:
        totals = values["totals"]
        rows = [list(row) for row in values["rows"]]
        rows += [
            ["total iterations", f"{totals['iterations']:,}", "epochs x iterations per epoch"],
            ["total patches", f"{totals['samples']:,}", "iterations x batch size"],
            [
                "passes over the cases",
                f"{totals['passes_over_training_cases']:,}",
                f"patches / {totals['training_cases']} training cases",
            ],
        ]
        title = f"Training {values['configuration']}, fold {values['fold']}, on {values['device']}"
        self.terminal.table(["setting", "value", "from"], rows, title=title)
        if values["earlier_training_moved_to"]:
            self.terminal.note(f"An earlier training of this fold was moved to {values['earlier_training_moved_to']}.")

        for change in values["accepted_plan_changes"]:
            self.terminal.note(f"Accepted, although the weights were trained with another plan: {change}.")

    def _damaged_checkpoint(self, values: Mapping[str, Any]) -> None:
        self._line(f"{values['problem']} Using an older checkpoint.")

    def _resume(self, values: Mapping[str, Any]) -> None:
        self._start(values)
        self.terminal.note(
            f"Continuing from {values['from_checkpoint']}: epoch {values['epoch']}, iteration {values['step']}."
        )

    def _iteration(self, values: Mapping[str, Any]) -> None:
        left = values["seconds_left"]
        if left is not None and not self.end_shown:
            self.end_shown = True
            end = datetime.now() + timedelta(seconds=left)
            self.terminal.note(f"Expected end of training: {end:%Y-%m-%d %H:%M:%S}, in {in_words(left)}.")
        text = (
            f"epoch {values['epoch']}, iteration {values['step']}: {values['done']:,} of {values['total']:,} "
            f"({100 * values['done'] // values['total']} %), "
            f"loss {values['loss']:.3f}" + ("" if left is None else f", {in_words(left)} left")
        )
        if self.live is not None:
            self._move(text, values["done"], values["total"])
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self._line(text)

    def _epoch(self, values: Mapping[str, Any]) -> None:
        dice = ", ".join(
            f"{name} {'-' if math.isnan(score) else f'{score:.3f}'}"
            for name, score in zip(self.class_names, values["pseudo_dice"], strict=False)
        )
        waited = values["data_wait_seconds"] / max(values["seconds"], 1e-9)
        self._line(
            f"epoch {values['epoch']}: loss {values['train_loss']:.3f}, validation {values['val_loss']:.3f}, "
            f"pseudo Dice {dice}, learning rate {values['learning_rate']:.2g}, {in_words(values['seconds'])}, "
            f"waited for data {waited:.0%}"
        )

    def _validation(self, values: Mapping[str, Any]) -> None:
        done, total = values["done"], values["total"]
        text = f"final validation: {done} of {total} cases"
        if self.validating_since is None:
            self.validating_since = time.monotonic(), done
        elif done < total:
            start, before = self.validating_since
            left = (time.monotonic() - start) / max(done - before, 1) * (total - done)
            text += f", {in_words(left)} left"
        if self.live is not None:
            self._move(text, done, total)
        elif done == total or time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self._line(text)

    def _message(self, values: Mapping[str, Any]) -> None:
        self._line(values["text"])

    def _move(self, text: str, done: int, total: int) -> None:
        if self.task is None:
            self.task = self.live.add_task(text, total=total)
        self.live.update(self.task, description=text, completed=done, total=total)

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        self.terminal.note(text)
