"""The only place that prints: results on stdout, everything else on stderr, progress with the time left.

The text may come from other people's files, so control characters are escaped.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segwright.names import printable

if TYPE_CHECKING:
    from rich.console import Console

    from segwright.parallel import Progress

SECONDS_BETWEEN_LINES = 5.0
MIN_WIDTH = 100


@dataclass(frozen=True)
class Terminal:
    """Standard output for answers and standard error for everything else."""

    out: Console
    err: Console

    @classmethod
    def open(cls) -> Terminal:
        """Open the two streams as they are now."""
        from rich.console import Console

        streams = []
        for stream in (sys.stdout, sys.stderr):
            console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
            if not console.is_terminal:
                console.width = max(console.width, MIN_WIDTH)
            streams.append(console)
        return cls(*streams)

    def answer(self, text: str) -> None:
        """Print an answer on stdout."""
        self.out.print(printable(text))

    def json(self, value: Any) -> None:
        """Print an answer for a program: JSON and nothing else on stdout; NaN and infinity become null."""
        self.out.file.write(json.dumps(_strict(value), indent=2) + "\n")

    def note(self, text: str) -> None:
        """Print a note on stderr."""
        self.err.print(printable(text))

    def error(self, text: str) -> None:
        """Print an error on stderr."""
        self.note(f"Error: {text}")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", answer: bool = False
    ) -> None:
        """Print a table, on stderr unless it is an answer. Columns after the first are aligned right if numbers."""
        from rich import box
        from rich.table import Table

        table = Table(title=printable(title) or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for number, column in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[number]) for row in rows)
            table.add_column(printable(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(printable, row))
        (self.out if answer else self.err).print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a callback that shows the progress and the time left."""
        if not self.err.is_terminal:
            yield PlainProgress(self)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self.err, transient=True) as bars:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(printable(what), total=total)
                elif done <= 1:  # the same kind of work starts again, such as the tiles of the next image
                    bars.reset(tasks[what], total=total)
                bars.update(tasks[what], completed=done, total=total, visible=done < total)

            yield show


class PlainProgress:
    """Progress as occasional lines, for logs and pipes."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.started: dict[str, float] = {}
        self.last_line = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Print a line if the last one is some seconds old, or the work is done."""
        now = time.monotonic()
        start = self.started.setdefault(what, now)
        spent = now - start
        finished = done >= total
        if finished:
            del self.started[what]  # the same kind of work may start again
        wait = 1.0 if finished else SECONDS_BETWEEN_LINES
        if done == 0 or spent < wait or now - self.last_line < wait:
            return
        self.last_line = now
        rest = f"in {in_words(spent)}" if finished else f"{in_words(spent / done * (total - done))} left"
        self.terminal.note(f"{what}: {done} of {total} ({100 * done // total} %), {rest}")


def in_words(seconds: float) -> str:
    """Format a duration for people: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
