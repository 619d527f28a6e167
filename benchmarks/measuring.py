"""Measure two sides turn by turn, and tell the result as a table and as JSON lines."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "BLOSC_NTHREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    ),
    "1",
)
_SECONDS_BETWEEN_SAMPLES = 0.2


@dataclass(frozen=True)
class Cost:
    """What one run took. Peaks: of the largest process, and of all together; None where nobody looked."""

    seconds: float
    cpu_seconds: float
    process_peak_bytes: int | None = None
    together_peak_bytes: int | None = None


Run = Callable[[], Cost]


@dataclass(frozen=True)
class Comparison:
    """Runs of both sides in pairs. Targets are ratios, the peer's value by ours; None where nothing is wanted."""

    name: str
    ours: tuple[Cost, ...]
    peers: tuple[Cost, ...]
    wanted_speed: float | None = None
    wanted_memory: float | None = None

    @property
    def speed_ratios(self) -> list[float]:
        return [peer.seconds / own.seconds for own, peer in zip(self.ours, self.peers, strict=True)]

    @property
    def cpu_ratios(self) -> list[float]:
        return [peer.cpu_seconds / own.cpu_seconds for own, peer in zip(self.ours, self.peers, strict=True)]

    @property
    def memory_ratios(self) -> list[float]:
        pairs = zip(self.ours, self.peers, strict=True)
        return [
            peer.process_peak_bytes / own.process_peak_bytes
            for own, peer in pairs
            if own.process_peak_bytes and peer.process_peak_bytes
        ]

    def misses(self) -> bool:
        """Whether a median ratio is below the target."""
        return any(
            wanted is not None and statistics.median(ratios) < wanted
            for ratios, wanted in ((self.speed_ratios, self.wanted_speed), (self.memory_ratios, self.wanted_memory))
        )


def compare(
    name: str,
    ours: Run,
    peers: Run,
    *,
    pairs: int,
    wanted_speed: float | None = None,
    wanted_memory: float | None = None,
) -> Comparison:
    """Run both sides in turn, `pairs` times."""
    own_costs, peer_costs = [], []
    for _ in range(pairs):
        own_costs.append(ours())
        peer_costs.append(peers())
    return Comparison(name, tuple(own_costs), tuple(peer_costs), wanted_speed, wanted_memory)


def run_command(command: Sequence[str | Path], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end and measure it with all processes that it starts.

    The peak of the largest process is the kernel's own figure. All together is sampled five times a second; memory
    that processes share counts once.

    Raises:
        RuntimeError: the command fails.
    """
    _adopt_orphans()
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _watched(process.pid) as largest_sum:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            usages = [usage, *_wait_for_rest(process.pid)]
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{text}")
    return Cost(
        seconds,
        sum(usage.ru_utime + usage.ru_stime for usage in usages),
        max(usage.ru_maxrss for usage in usages) * 1024,
        max(largest_sum),
    )


def _wait_for_rest(group: int) -> Iterator[resource.struct_rusage]:
    """What processes took that the command started and did not wait for; `_adopt_orphans` made them ours."""
    while True:
        try:
            _, _, usage = os.wait4(-group, 0)
        except ChildProcessError:
            return
        yield usage


def _adopt_orphans() -> None:
    """Make this process the parent of descendants that outlive theirs, so that it can count what they took."""
    set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed; these benchmarks need Linux")


@contextmanager
def _watched(session: int) -> Iterator[list[int]]:
    """Sample the memory of a session's processes; they are ended if what happens inside does not end well."""
    sums = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SECONDS_BETWEEN_SAMPLES):
            sums.append(_bytes_of_session(session))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sums
    except BaseException:
        os.killpg(session, signal.SIGTERM)
        raise
    finally:
        over.set()
        watcher.join()


def _bytes_of_session(session: int) -> int:
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if os.getsid(int(folder.name)) == session:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):  # it has ended meanwhile
            continue
    return total


def machine() -> dict[str, str | int | float]:
    """Say where this runs."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": platform.platform(),
        "load_before": os.getloadavg()[0],
    }


def versions(peer: Path) -> dict[str, str]:
    """Versions of both sides and their Pythons."""
    from importlib.metadata import version

    code = (
        "import platform; from importlib.metadata import version; print(version('nnunetv2'), platform.python_version())"
    )
    nnunet, python = subprocess.run([peer, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return {
        "segwright": version("segwright"),
        "python": platform.python_version(),
        "nnunetv2": nnunet,
        "nnunetv2_python": python,
    }


def show(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Print a table in Markdown, line by line."""
    print(
        "| what | ours | nnunetv2 | ratio (range) | wanted | of CPU | memory: ours, nnunetv2 | ratio | wanted |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    shown = []
    for comparison in comparisons:
        print(_row(comparison), flush=True)
        shown.append(comparison)
    return shown


def _row(comparison: Comparison) -> str:
    """Medians, and the ratio's range."""
    cells = [
        comparison.name,
        _seconds(comparison.ours),
        _seconds(comparison.peers),
        _ratio(comparison.speed_ratios, with_range=True),
        _wanted(comparison.wanted_speed),
        _ratio(comparison.cpu_ratios, with_range=False),
    ]
    if comparison.memory_ratios:
        cells.append(f"{_megabytes(comparison.ours)}, {_megabytes(comparison.peers)}")
        cells.append(_ratio(comparison.memory_ratios, with_range=False))
        cells.append(_wanted(comparison.wanted_memory))
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


def _seconds(costs: Sequence[Cost]) -> str:
    return f"{statistics.median(cost.seconds for cost in costs):.3g} s"


def _megabytes(costs: Sequence[Cost]) -> str:
    return f"{statistics.median(cost.process_peak_bytes or 0 for cost in costs) / 1e6:.0f} MB"


def _ratio(ratios: Sequence[float], *, with_range: bool) -> str:
    middle, *ends = (
        f"{ratio:.3g}" if ratio < 100 else f"{ratio:.0f}"
        for ratio in (statistics.median(ratios), min(ratios), max(ratios))
    )
    return f"{middle} ({' to '.join(ends)})" if with_range else middle


def _wanted(target: float | None) -> str:
    return "" if target is None else f"{target:.2g}"


def record(
    comparisons: Iterable[Comparison], where: Mapping[str, str | int | float], which: Mapping[str, str]
) -> Iterator[Comparison]:
    """Pass comparisons on, and write each as a JSON line to a file of this moment as soon as it is there."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with (RESULTS / f"against_nnunetv2_{now.replace(':', '')}.jsonl").open("a", encoding="utf-8") as file:
        for comparison in comparisons:
            line = {"time": now, "machine": where, "versions": which, **asdict(comparison)}
            line["speed_ratio"] = statistics.median(comparison.speed_ratios)
            line["cpu_ratio"] = statistics.median(comparison.cpu_ratios)
            if comparison.memory_ratios:
                line["memory_ratio"] = statistics.median(comparison.memory_ratios)
            print(json.dumps(line), file=file, flush=True)
            yield comparison
