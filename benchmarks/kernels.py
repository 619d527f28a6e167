"""Time resampling on one thread, and measure its peak memory and that of preprocessing a CT.

    python benchmarks/kernels.py --peer /path/to/nnunetv2/python [--pairs 3] [--only speed|memory]

Times are those of the functions alone, in processes that stay alive and have run each function before. Peaks are those
of new processes that do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from measuring import ONE_THREAD, Comparison, Cost, compare, run_command, show
from pipeline import our_command, run_peer

HERE = Path(__file__).parent
OURS = (Path(sys.executable), "own.worker")
CT_DATASET = "Dataset990_LargeCT"
CT_TARGET_MM = ("1.5", "1.5", "1.5")


@dataclass(frozen=True)
class Job:
    """What both sides are asked for, in the words of their workers."""

    name: str
    task: str
    file: str
    new_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    new_spacing_mm: tuple[float, float, float]
    force_separate_z: bool | None

    def request(self, folder: Path) -> dict[str, Any]:
        return {
            "task": self.task,
            "arguments": {
                "path": str(folder / self.file),
                "new_shape": self.new_shape,
                "current_spacing_mm": self.spacing_mm,
                "new_spacing_mm": self.new_spacing_mm,
                "force_separate_z": self.force_separate_z,
            },
        }


_SMALL_GRID = ((96, 200, 200), (1.0, 1.0, 1.0), (1.25, 1.28, 1.28), None)
_CT_GRID = ((400, 273, 273), (3.0, 0.8, 0.8), (1.5, 1.5, 1.5))
IMAGE = Job("image, 120x256x256 to 96x200x200", "image", "image.npy", *_SMALL_GRID)
LABELS = [Job(f"{n} labels, 120x256x256 to 96x200x200", "labels", f"labels_{n}.npy", *_SMALL_GRID) for n in (3, 60)]
CT_TOGETHER = Job("CT, 200x512x512 to 400x273x273, axes together", "image", "ct.npy", *_CT_GRID, False)
CT_APART = Job("CT, 200x512x512 to 400x273x273, slice by slice as planned", "image", "ct.npy", *_CT_GRID, None)
CT_LABELS = Job("CT, 11 labels, slice by slice as planned", "labels", "ct_labels.npy", *_CT_GRID, None)


class Worker:
    """A process of one side that answers requests: see `serving`."""

    def __init__(self, python: Path, module: str) -> None:
        self._process = subprocess.Popen(
            [python, "-m", module],
            cwd=HERE,
            env={**os.environ, **ONE_THREAD},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a task and return what it took.

        Raises:
            RuntimeError: the worker has ended; what it said is on stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{request['task']}: a worker ended without an answer.")
        result: dict[str, Any] = json.loads(answer)
        return result


def compare_speed(
    peer: Path, folder: Path, jobs: Sequence[tuple[Job, float | None]], *, pairs: int
) -> Iterator[Comparison]:
    """Time both sides on each job, after one run that does not count and shows that they do the same."""
    with Worker(*OURS) as ours, Worker(peer, "peer.worker") as peers:
        for job, wanted in jobs:
            request = job.request(folder)
            _require_same(ours.ask(request), peers.ask(request), job.name)
            yield compare(
                job.name,
                lambda request=request: _time(ours.ask(request)),
                lambda request=request: _time(peers.ask(request)),
                pairs=pairs,
                wanted_speed=wanted,
            )


def compare_memory(peer: Path, folder: Path, jobs: Sequence[Job], *, pairs: int) -> Iterator[Comparison]:
    """Peak memory of new processes that load an array and resample it once."""
    for job in jobs:
        request = job.request(folder)
        yield compare(
            f"{job.name}: memory",
            lambda request=request: _in_new_process(*OURS, request),
            lambda request=request: _in_new_process(peer, "peer.worker", request),
            pairs=pairs,
            wanted_memory=2,
        )


def compare_ct_preprocessing(peer: Path, folder: Path, *, pairs: int) -> Comparison:
    """Preprocess the CT case from the command line, with one process and the same plan, which we make."""
    run_command(
        our_command("plan", CT_DATASET, folder, "--overwrite-target-spacing", *CT_TARGET_MM, workers=1), ONE_THREAD
    )
    preprocess = our_command("preprocess", CT_DATASET, folder, "--configuration", "3d_fullres", workers=1)
    results = folder / "preprocessed" / CT_DATASET
    arguments = ["-d", "990", "-c", "3d_fullres", "-np", "1"]

    def without_arrays(run: Callable[[], Cost]) -> Cost:
        shutil.rmtree(results / "nnUNetPlans_3d_fullres", ignore_errors=True)
        return run()

    return compare(
        "preprocess the CT, from the command line",
        lambda: without_arrays(lambda: run_command(preprocess, ONE_THREAD)),
        lambda: without_arrays(lambda: run_peer(peer, folder, "nnUNetv2_preprocess", arguments)),
        pairs=pairs,
        wanted_memory=2,
    )


def compare_fingerprints(peer: Path, dataset: Path, *, processes: int, pairs: int) -> Comparison:
    """Measure a data set, as planning does first, in processes that are started anew each time."""
    request = {"task": "fingerprint", "arguments": {"dataset": str(dataset.resolve()), "processes": processes}}
    with Worker(*OURS) as ours, Worker(peer, "peer.worker") as peers:
        return compare(
            f"fingerprint, {dataset.name}",
            lambda: _time(ours.ask(request)),
            lambda: _time(peers.ask(request)),
            pairs=pairs,
        )


def make_inputs(folder: Path) -> None:
    """In a process of its own, because the memory of this one would count as that of the commands it starts."""
    subprocess.run([sys.executable, "-m", "own.inputs", folder], cwd=HERE, check=True)


def compare_label_counts(folder: Path, *, pairs: int) -> Comparison:
    """Time our 60 labels against our 3: the number of labels must not matter by more than a factor of 1.5."""
    few, many = (job.request(folder) for job in LABELS)
    with Worker(*OURS) as ours:
        for request in (few, many):
            ours.ask(request)
        return compare(
            "60 labels (first column) against 3 (second), both ours",
            lambda: _time(ours.ask(many)),
            lambda: _time(ours.ask(few)),
            pairs=10 * pairs,  # they take hundredths of a second
            wanted_speed=1 / 1.5,
        )


def compare_kernels(peer: Path, *, pairs: int, only: str | None = None) -> Iterator[Comparison]:
    """Everything of this module but fingerprints; `only` "speed" or "memory"."""
    with tempfile.TemporaryDirectory(prefix="segwright-bench-") as name:
        folder = Path(name)
        make_inputs(folder)
        if only != "memory":
            jobs = [(IMAGE, 10), (CT_TOGETHER, 10), (CT_APART, 10), *((job, 10) for job in LABELS), (CT_LABELS, None)]
            yield from compare_speed(peer, folder, jobs, pairs=pairs)
            yield compare_label_counts(folder, pairs=pairs)
        if only != "speed":
            yield from compare_memory(peer, folder, [CT_TOGETHER, CT_APART], pairs=pairs)
            yield compare_ct_preprocessing(peer, folder, pairs=pairs)


def _in_new_process(python: Path, module: str, request: dict[str, Any]) -> Cost:
    with Worker(python, module) as worker:
        answer = worker.ask(request)
    return Cost(answer["seconds"], answer["cpu_seconds"], answer["process_peak_bytes"])


def _time(answer: dict[str, Any]) -> Cost:
    return Cost(answer["seconds"], answer["cpu_seconds"])


def _require_same(ours: dict[str, Any], peers: dict[str, Any], name: str) -> None:
    close = abs(ours["mean"] - peers["mean"]) <= 1e-4 * max(1, abs(peers["mean"]))
    if ours["shape"] != peers["shape"] or not close:
        raise RuntimeError(f"{name}: expected the peer's result, {peers}, got {ours}. Run the parity tests.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "memory"])
    arguments = parser.parse_args()
    show(compare_kernels(arguments.peer, pairs=arguments.pairs, only=arguments.only))


if __name__ == "__main__":
    main()
