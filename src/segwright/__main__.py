"""The command `segwright`, also as `python -m segwright`: Ctrl-C ends it without a traceback from its first line on."""

from __future__ import annotations

INTERRUPTED = 130

try:
    import os
    import signal
    import sys
except KeyboardInterrupt:
    raise SystemExit(INTERRUPTED) from None


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)


def _leave_on_interrupt(leave: bool) -> None:
    """Have Ctrl-C end the process, or again raise KeyboardInterrupt; not if the parent process had it ignored."""
    if signal.getsignal(signal.SIGINT) in (_leave, signal.default_int_handler):
        signal.signal(signal.SIGINT, _leave if leave else signal.default_int_handler)


_leave_on_interrupt(True)  # the imports take 0.3 s, in which there is nothing to tidy up


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from segwright.cli.main import main as run
        from segwright.cli.second_signal import end_at_once_on_second_signal

        end_at_once_on_second_signal()
        _leave_on_interrupt(False)
        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    _leave_on_interrupt(True)
    return code


if __name__ == "__main__":
    sys.exit(main())
