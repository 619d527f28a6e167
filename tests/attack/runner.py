"""Run the command line in a process of its own and see what it did: in a fork of this one, or started afresh."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# What the script `segwright` does, and a file that shows that Python itself has started.
_SCRIPT = (
    "import os, sys; open(os.environ['ATTACK_BEGUN'], 'w').close(); "
    "from segwright.__main__ import main; sys.exit(main())"
)
PROGRAM = (sys.executable, "-c", _SCRIPT)
ADDRESS_SPACE = 12 << 30
WALL_SECONDS = 120.0
CPU_SECONDS = 40
_SECONDS_FOR_CHILDREN_TO_END = 20.0  # a process that is importing notices late that its parent has gone
_POLL_SECONDS = 0.01

Main = Callable[[list[str]], int]
Drive = Callable[[subprocess.Popen[bytes]], None]


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `code` is negative for a signal; `peak_bytes` is of the largest of its processes."""

    code: int
    out: str
    err: str
    hung: bool
    peak_bytes: int
    survivors: tuple[str, ...]

    @property
    def text(self) -> str:
        """All that was said."""
        return self.out + self.err


def segwright_main(words: list[str]) -> int:
    """The command line itself."""
    from segwright.cli.main import main

    return main(words)


def preload() -> None:
    """Import once what every command needs; the processes that are forked share it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    for name in (
        "cli.main",
        "doctor.check",
        "doctor.fix",
        "inference",
        "preprocessing.cohort",
        "training.run",
        "report",
    ):
        importlib.import_module(f"segwright.{name}")
    # what is imported where it is used, by libraries and by ourselves
    for name in ("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg", "scipy.ndimage", "blosc2"):
        importlib.import_module(name)
    for name in ("rich.table", "rich.progress", "SimpleITK", "nibabel", "numba", "jinja2"):
        importlib.import_module(name)


def run_forked(
    words: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    cpu_seconds: int = CPU_SECONDS,
    wall_seconds: float = WALL_SECONDS,
    main: Main = segwright_main,
) -> Outcome:
    """Run a command in a fork of this process, which has its modules imported already."""
    with _captured() as streams:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which here hold nothing that is needed
            process_id = os.fork()
        if process_id == 0:
            _be_command(words, streams, environ, cpu_seconds, main)
        return _wait(process_id, streams, wall_seconds)


def run_started(
    words: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    drive: Drive,
    cpu_seconds: int = CPU_SECONDS,
    wall_seconds: float = WALL_SECONDS,
    program: Sequence[str] = PROGRAM,
) -> Outcome:
    """Start the program as a shell would, and let `drive` do something to it."""

    def limit() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _limit(cpu_seconds)

    with _captured() as streams:
        process = subprocess.Popen(
            [*program, *words],
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            cwd=environ["PWD"],
            env={**os.environ, **environ},
            start_new_session=True,
            preexec_fn=limit,
        )
        drive(process)
        outcome = _wait(process.pid, streams, wall_seconds)
        process.returncode = outcome.code  # waited for already
        return outcome


@contextlib.contextmanager
def _captured():  # type: ignore[no-untyped-def]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        yield out, err


def _be_command(words, streams, environ, cpu_seconds, main) -> NoReturn:  # type: ignore[no-untyped-def]
    code = 70
    try:
        os.setsid()
        for number, stream in enumerate(streams, start=1):
            os.dup2(stream.fileno(), number)
        # whatever captures the output of this process, such as pytest, does not reach into the command
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(environ)
        tempfile.tempdir = None
        os.chdir(environ["PWD"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _limit(cpu_seconds)
        code = main(list(words))
        atexit._run_exitfuncs()
    except SystemExit as left:  # as Python does at its end
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:
            code = 120  # as Python ends that cannot write what is left
        os._exit(code)


def _limit(cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limit = int(used) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))


def _wait(process_id: int, streams, wall_seconds: float) -> Outcome:  # type: ignore[no-untyped-def]
    end = time.monotonic() + wall_seconds
    timed_out = False
    while True:
        ended, status, usage = os.wait4(process_id, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > end and not timed_out:
            timed_out = True
            os.kill(process_id, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    survivors = () if timed_out else _survivors(process_id)
    for process in _members(process_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    texts = []
    for stream in streams:
        stream.seek(0)
        texts.append(stream.read().decode(errors="backslashreplace"))
    code = os.waitstatus_to_exitcode(status)
    return Outcome(
        code=code,
        out=texts[0],
        err=texts[1],
        hung=timed_out or code == -signal.SIGXCPU,
        peak_bytes=usage.ru_maxrss << 10,
        survivors=survivors,
    )


def _survivors(session: int) -> tuple[str, ...]:
    """Processes of a session whose leader has ended and that do not end by themselves soon."""
    end = time.monotonic() + _SECONDS_FOR_CHILDREN_TO_END
    while (members := _members(session)) and time.monotonic() < end:
        time.sleep(0.1)
    return tuple(_command_of(process) for process in members)


def _members(session: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                # the name, in brackets, may hold blanks and brackets
                fields = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append(int(entry))
    return found


def _command_of(process_id: int) -> str:
    with contextlib.suppress(OSError):
        words = Path("/proc", str(process_id), "cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace")[:200]
    return str(process_id)
