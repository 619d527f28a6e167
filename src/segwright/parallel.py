"""Work on many cases at once, in a few long-lived processes, any of which may die without stopping the rest.

A worker holds one case at a time, so a process that is killed (mostly by the system, out of memory) identifies the
case. Workers inherit none of the caller's threads or locks: they are started from scratch (`spawn`), or on Linux
forked from a clean process that has imported what they need (`forkserver`).
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker, util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from segwright.errors import SegwrightError, SettingsError, message
from segwright.processes import end_with_parent, signal_name

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[str, int, int], None]
"""Called with the name of the work, the number of finished cases, and the total."""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
    "NUMEXPR_MAX_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_SECONDS_TO_CLEAN_UP = 3.0
_SECONDS_TO_END = 0.1
_ATTEMPTS_TO_START = 3
LAUNCHER = "segwright"
# Linux allows 107 bytes, of which the socket's own name takes 18.
_LONGEST_SOCKET_FOLDER = 89
_SHARE_OF_MEMORY_TO_USE = 0.8
_MOST_WORKERS_A_CORE = 8
_ALWAYS_ALLOWED_WORKERS = 32  # numbers chosen for a larger machine


@dataclass(frozen=True)
class CaseFailure:
    """Why a case failed. `expected` is True for a `SegwrightError`, which the user can fix."""

    case_id: str
    error: str
    message: str
    expected: bool

    @classmethod
    def of(cls, case_id: str, error: Exception) -> CaseFailure:
        """Describe `error`; if Segwright did not raise it itself, with the line that raised it."""
        expected = isinstance(error, SegwrightError)
        text = str(error) or ("out of memory" if isinstance(error, MemoryError) else "no message")
        if not expected:
            frames = traceback.extract_tb(error.__traceback__)
            place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
            text = f"{type(error).__name__}: {text}{place}"
        return cls(case_id=case_id, error=type(error).__name__, message=text, expected=expected)


@dataclass
class _Worker(Generic[T]):
    process: BaseProcess
    ready: bool = False
    held: list[T] = field(default_factory=list)


def run_cases(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    case_id: Callable[[T], str],
    what: str,
    progress: Progress | None = None,
) -> Iterator[tuple[T, R | CaseFailure]]:
    """Apply `function` to every item and yield (item, result) as they finish, in any order.

    A case that raises, or whose worker is killed, yields a `CaseFailure` and the rest goes on. At most one result per
    worker waits to be consumed. With `workers` of 1 or less everything runs in this process. `function` is a function
    of a module, or a `functools.partial` of one. Leaving the iteration early, and Ctrl-C, end the workers.

    Raises:
        SettingsError: if no worker process can be started, or far more are requested than there are cores.
    """
    refuse_too_many_workers(workers)
    if progress is not None:
        progress(what, 0, len(items))
    workers = min(workers, len(items))
    if workers > 1:
        results = _run_in_workers(function, items, workers, case_id)
    else:
        results = ((item, _attempt(function, item, case_id(item))) for item in items)
    with contextlib.closing(results):
        for done, result in enumerate(results, start=1):
            if progress is not None:
                progress(what, done, len(items))
            yield result


def refuse_too_many_workers(workers: int) -> None:
    """Refuse a number of processes that can only be a typo: above 32 and above 8 per core.

    Raises:
        SettingsError
    """
    cores = available_cores()
    most = max(_ALWAYS_ALLOWED_WORKERS, _MOST_WORKERS_A_CORE * cores)
    if workers > most:
        raise SettingsError(
            message(
                "workers",
                expected=f"at most {most} processes on this machine with {cores} usable cores",
                got=workers,
                remedy="Leave the number out to use as many as cores and memory allow.",
            )
        )


def prepare_workers(modules: Sequence[str]) -> None:
    """Start importing what workers need, in the process that they are forked from, in the background.

    Call it early, before work that takes a while. It only saves time: workers import whatever is missing. Does nothing
    if workers are not forked, if that process exists already, or on a single core.
    """
    if available_cores() == 1 or not _can_fork():
        return
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(list(modules))
    with _interrupts_held_back(), _one_thread_each():
        forkserver.ensure_running()
    atexit.unregister(_end_preparing)
    atexit.register(_end_preparing)


def _can_fork() -> bool:
    """Whether there is a process to fork workers from; it listens on a socket in the temporary folder."""
    if sys.platform != "linux":
        return False
    try:
        return len(os.fsencode(util.get_temp_dir())) <= _LONGEST_SOCKET_FOLDER
    except OSError:  # there is no such folder
        return False


def _end_preparing() -> None:
    """End the process that workers are forked from, so that it does not outlive this one.

    It has nothing to clean up; exiting by itself it would take a quarter of a second to free what it imported.
    """
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # no traceback on a second Ctrl-C
    try:
        if server._forkserver_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server._forkserver_pid, signal.SIGTERM)
        server._stop()
    finally:
        signal.signal(signal.SIGINT, on_interrupt or signal.SIG_DFL)  # None: it was not Python's


def _modules_of(function: Callable[..., Any]) -> list[str]:
    name = getattr(getattr(function, "func", function), "__module__", None)
    return [name] if name and name != "__main__" else []


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start a new process with the settings for one thread: libraries read them when they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _attempt(function: Callable[[T], R], item: T, case_id: str) -> R | CaseFailure:
    try:
        return function(item)
    except Exception as error:
        return CaseFailure.of(case_id, error)


def _run_in_workers(
    function: Callable[[T], R], items: Sequence[T], workers: int, case_id: Callable[[T], str]
) -> Generator[tuple[T, R | CaseFailure], None, None]:
    waiting = deque(items)
    missing = len(items)
    team: dict[Connection, _Worker[T]] = {}
    finished = False
    prepare_workers(_modules_of(function))
    try:
        for _ in range(workers):
            _start_worker(team, function)
        while missing:
            if not team:
                raise _no_worker_starts()
            for ready in wait(list(team)):
                connection = cast("Connection", ready)
                worker = team[connection]
                held = worker.held
                answer = _receive(connection)
                if answer is None:
                    _remove_worker(team, connection)
                    if held:
                        answer = (CaseFailure(case_id(held[0]), "WorkerDied", _why_it_died(worker.process), True),)
                    if worker.ready and len(waiting) > len(team):
                        _start_worker(team, function)
                else:
                    worker.ready = True
                    worker.held = []
                    for failed in _hand_out(connection, worker, waiting, case_id):
                        missing -= 1
                        yield failed
                if held and answer is not None:
                    missing -= 1
                    yield held[0], answer[0]
        finished = True
    finally:
        _end_workers(team, at_once=not finished)


def _receive(connection: Connection) -> tuple[Any, ...] | None:
    """A worker's answer as a tuple: empty if it has just become ready; None if it is dead."""
    try:
        answer: tuple[Any, ...] = connection.recv()
    except (EOFError, OSError):
        return None
    return answer


def _hand_out(
    connection: Connection, worker: _Worker[T], waiting: deque[T], case_id: Callable[[T], str]
) -> Iterator[tuple[T, CaseFailure]]:
    """Give the worker the next case. Yields the cases that cannot be sent to another process."""
    while waiting:
        item = waiting.popleft()
        try:
            connection.send((item, case_id(item)))
        except OSError:  # it died while idle: its end of the pipe is closed, and the loop will notice
            waiting.appendleft(item)
            return
        except Exception as error:
            yield item, CaseFailure.of(case_id(item), error)
        else:
            worker.held = [item]
            return


def _start_worker(team: dict[Connection, _Worker[T]], function: Callable[[T], Any]) -> None:
    context = multiprocessing.get_context("forkserver") if _can_fork() else multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
    with _interrupts_held_back(), _launcher_hidden():
        started = _begins(process)
    theirs.close()
    if not started:
        ours.close()
        return
    team[ours] = _Worker(process)
    with contextlib.suppress(BrokenPipeError):
        ours.send((function, dict(os.environ)))


def _begins(process: BaseProcess) -> bool:
    """Start a process. False if the process it is forked from dies while importing, and its successor too."""
    for _ in range(_ATTEMPTS_TO_START):
        try:
            process.start()
        except (EOFError, ConnectionError):
            time.sleep(_SECONDS_TO_END)  # it must end before another is started
        else:
            return True
    return False


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start a new process with Ctrl-C blocked, so that pressing it during start-up prints no traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it unblocks Ctrl-C itself once it runs
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _launcher_hidden() -> Iterator[None]:
    """Keep a new process from importing the script `segwright`, and with it the command line, as its main module."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or Path(file).name != LAUNCHER:
        yield
        return
    main.__file__ = None
    try:
        yield
    finally:
        main.__file__ = file


def _remove_worker(team: dict[Connection, _Worker[T]], connection: Connection) -> None:
    worker = team.pop(connection)
    connection.close()
    worker.process.join(_SECONDS_TO_CLEAN_UP)


def _end_workers(team: dict[Connection, _Worker[T]], *, at_once: bool) -> None:
    for connection, worker in team.items():
        if at_once:
            worker.process.terminate()
        connection.close()
    for worker in team.values():
        worker.process.join(_SECONDS_TO_CLEAN_UP)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _why_it_died(process: BaseProcess) -> str:
    name = signal_name(process.exitcode)
    if name is None:
        return f"the worker process exited with code {process.exitcode} before the case was finished."
    if name == "SIGKILL":
        return (
            "the worker process was killed by the system (SIGKILL), probably because it ran out of memory. "
            "Use fewer workers, or a machine with more memory."
        )
    return f"the worker process crashed ({name}), most likely in a library that reads or computes this case."


def _no_worker_starts() -> SettingsError:
    return SettingsError(
        message(
            "worker processes",
            expected="processes that start",
            got="processes that ended before their first case",
            remedy="In your own script, put the call under `if __name__ == '__main__':`, or use one worker, "
            "which needs no extra process. If memory is short, use fewer.",
        )
    )


def _serve(connection: Connection, parent: int) -> None:
    """Work in a worker process: receive the function, then cases until the pipe closes."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent(parent)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        function, environment = connection.recv()
        os.environ.clear()
        os.environ.update({**environment, **dict.fromkeys(_THREAD_VARIABLES, "1")})
        _limit_loaded_libraries()
        connection.send(())
        while True:
            item, case_id = connection.recv()
            _answer(connection, _attempt(function, item, case_id), case_id)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(connection: Connection, result: object, case_id: str) -> None:
    try:
        connection.send((result,))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a result that cannot be pickled; nothing was written yet
        connection.send((CaseFailure.of(case_id, error),))


def _leave(signal_number: int, frame: object) -> None:
    raise SystemExit(128 + signal_number)


def _limit_loaded_libraries() -> None:
    """Limit libraries that were loaded before the environment variables were set to one thread."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def available_cores() -> int:
    """Count the CPU cores that this process may use: its affinity and the quota of its control groups."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    return max(1, min(cores, int(_cgroup_cores(Path("/")))))


def available_memory_bytes() -> int:
    """Bytes of memory that this process can still use: free memory, within its control groups' limits."""
    return max(0, min(_system_memory_bytes(Path("/")), _cgroup_memory_bytes(Path("/"))))


def workers_for(tasks: int, memory_per_worker_bytes: int) -> int:
    """Number of workers for `tasks` cases that need this much memory each; at least 1.

    Leaves a fifth of the available memory free.
    """
    fitting = int(available_memory_bytes() * _SHARE_OF_MEMORY_TO_USE) // max(1, memory_per_worker_bytes)
    return max(1, min(tasks, available_cores(), fitting))


_NO_LIMIT = 1 << 62


def _cgroup_cores(root: Path) -> float:
    cores = float(_NO_LIMIT)
    for folder in _cgroup_folders(root, ""):
        quota, _, period = _first_line(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, int(quota) / int(period))
    for folder in _cgroup_folders(root, "cpu"):
        quota = _first_line(folder / "cpu.cfs_quota_us")
        period = _first_line(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) / int(period))
    return cores


def _cgroup_memory_bytes(root: Path) -> int:
    free = _NO_LIMIT
    for controller, limit_name, usage_name in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in _cgroup_folders(root, controller):
            limit, usage = _first_line(folder / limit_name), _first_line(folder / usage_name)
            if limit.isdigit() and usage.isdigit():
                free = min(free, int(limit) - int(usage) + _reclaimable_bytes(folder / "memory.stat"))
    return free


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and all above it: version 2 for controller "", otherwise version 1."""
    base = root / "sys/fs/cgroup" / controller
    own = "/"
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "/")
        if (controller in controllers.split(",")) if controller else number == "0":
            own = path
    folder = base / own.strip("/")
    while True:
        yield folder
        if folder == base or base not in folder.parents:
            return
        folder = folder.parent


def _reclaimable_bytes(path: Path) -> int:
    """Bytes of file cache that the system can reclaim."""
    values = dict(line.split(" ", 1) for line in _lines(path) if " " in line)
    value = values.get("total_inactive_file", values.get("inactive_file", "0"))
    return int(value) if value.isdigit() else 0


def _system_memory_bytes(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _first_line(path: Path) -> str:
    return next(iter(_lines(path)), "").strip()
