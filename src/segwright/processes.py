"""Child processes that never outlive their parent, and the signal that ended a process."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

_SIGNAL_AT_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def end_with_parent(parent: int) -> None:
    """Exit as soon as the process `parent` is gone, however it ended.

    Call it in the child. Linux does it if `parent` forked this process itself; otherwise a thread waits for it.
    """
    python_parent = multiprocessing.parent_process()
    if sys.platform == "linux" and (python_parent is None or os.getppid() == parent):
        ctypes.CDLL(None).prctl(_SIGNAL_AT_DEATH_OF_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it has just ended
            os._exit(1)
    elif python_parent is not None:
        threading.Thread(target=_end_after, args=(python_parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def signal_name(exit_code: int | None) -> str | None:
    """Name of the signal that ended a process; None if it ended by itself."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal, which has no name
        return f"signal {-exit_code}"
