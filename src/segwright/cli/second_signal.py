"""A second Ctrl-C or SIGTERM ends the command, even during a long computation that handles no signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

SECONDS_TO_TIDY_UP = 1.0
_SHOW_CURSOR = "\x1b[?25h"


def end_at_once_on_second_signal() -> None:
    """Count SIGINT and SIGTERM in a separate thread: Python's handlers wait for the main thread.

    Child processes exit by themselves (see `segwright.processes`), and half-written files do not exist yet.
    """
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_stop_counting)
    threading.Thread(target=_count, args=(reader,), daemon=True).start()


def _stop_counting() -> None:
    signal.set_wakeup_fd(-1)


def _count(reader: int) -> None:
    asked = 0
    while True:
        for number in os.read(reader, 1):
            if number in (signal.SIGINT, signal.SIGTERM):
                asked += 1
                if asked == 2:
                    _end(number)


def _end(number: int) -> None:
    time.sleep(SECONDS_TO_TIDY_UP)  # the main thread, if it handles the signal
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    os._exit(128 + number)
