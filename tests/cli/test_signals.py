"""Ctrl-C and SIGTERM at any moment of a command: an exit code and no traceback, and nothing lives on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import segwright
from process_tree import descendants, wait_until_gone
from tiny_datasets import TRAIN

# what the script `segwright` does, and a sign that Python itself has started
ENTRY = "import os, sys; from segwright.__main__ import main; os.write(1, b'begins\\n'); sys.exit(main())"
STUCK = """
import ctypes, os
from segwright import Trainer

class Stuck(Trainer):
    def train_step(self, batch):
        lock = ctypes.create_string_buffer(256)
        os.write(1, b"stuck\\n")
        for _ in range(2):  # the second waits for ever, outside Python, and heeds no signal
            ctypes.CDLL(None).pthread_mutex_lock(lock)
"""


def start(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", ENTRY, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.2, 0.3])
def test_ctrl_c_while_the_command_starts_leaves_no_traceback(tmp_path: Path, delay: float) -> None:
    with start("check", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert b"Traceback" not in complaints
    assert process.returncode in ({130} if delay == 0 else {130, 2})  # 2: there is no data set, and it was faster


def test_nothing_slow_is_imported_before_ctrl_c_is_heeded() -> None:
    source = Path(segwright.__file__).parents[1]
    program = f"import sys; sys.path.insert(0, {str(source)!r}); import segwright; print(*sys.modules)"
    # without site, which may have imported all that for reasons of its own
    result = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert not {"typing", "re", "enum", "collections", "importlib.util"} & {*result.stdout.split()}


def test_ctrl_c_that_was_ignored_at_the_start_stays_ignored() -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import segwright.__main__ as m; "
    program += "m._leave_on_interrupt(False); assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_step_that_does_not_end(workspace: Path, tmp_path: Path, number: int) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    words = ("--workspace", workspace, "--trainer", tmp_path / "stuck.py:Stuck", *TRAIN, "--workers", 2)
    with start("train", 1, "3d_fullres", 0, *words) as process:
        assert process.stdout is not None
        while process.stdout.readline() != b"stuck\n":
            assert process.poll() is None
        children = descendants(process.pid)
        assert len(children) >= 2
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)  # the first waits for the step to end
        process.send_signal(number)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"Traceback" not in complaints
    assert wait_until_gone(children) == set()
