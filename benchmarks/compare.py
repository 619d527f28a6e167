"""Time planning and preprocessing against nnunetv2: turn by turn in one run, with as many threads or processes.

    python benchmarks/compare.py --peer /path/to/python --data /path/to/data [--pairs 3] [--only kernels sets memory]

Prints a table of medians and of ratios (of each pair, then their median and range), and adds a line for each row to
results/compare.jsonl. `kernels` are timed within living processes of one thread, after a first call that is not
counted; `sets` from the command line, with two processes, into folders that are new each time; `memory` is the peak
of a fresh process that does one thing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import zoom

from segwright.dataset import RawDataset
from segwright.fingerprint import fingerprint_dataset
from segwright.parallel import available_cores
from segwright.planning.planner import make_plan

HERE = Path(__file__).parent
PROCESSES = 2
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
CT_SHAPE, CT_SPACING_MM, CT_NEW_SPACING_MM = (200, 512, 512), (3.0, 0.8, 0.8), (1.5, 1.5, 1.5)
MRI_SHAPE, MRI_NEW_SHAPE = (120, 256, 256), (96, 200, 200)
SETS = {"Dataset004_Hippocampus": 8.0, "Dataset027_ACDC": 5.0}


@dataclass(frozen=True)
class Row:
    """One comparison: what each side took, pair by pair, and the factor that is aimed at."""

    what: str
    unit: str
    own: list[float]
    peer: list[float]
    goal: float

    @property
    def ratios(self) -> list[float]:
        """The peer's figure over ours, of each pair."""
        return [peer / own for own, peer in zip(self.own, self.peer, strict=True)]

    def line(self) -> str:
        """The row of the printed table."""
        own, peer, ratio = map(statistics.median, (self.own, self.peer, self.ratios))
        spread = f"{min(self.ratios):.1f} to {max(self.ratios):.1f}"
        return (
            f"| {self.what} | {own:.3g} {self.unit} | {peer:.3g} {self.unit} | "
            f"{ratio:.1f} ({spread}) | {self.goal:g} | {'yes' if ratio >= self.goal else 'NO'} |"
        )


@dataclass(frozen=True)
class Sides:
    """How each side's process of kernels is started."""

    own: list[str]
    peer: list[str]


@contextmanager
def kernel_process(command: list[str]) -> Iterator[Callable[[dict[str, Any]], dict[str, float]]]:
    """Start a process of one thread that does tasks, and give the function that has one done."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def do(task: dict[str, Any]) -> dict[str, float]:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            while not (line := process.stdout.readline()).startswith("{"):  # some libraries print
                if not line:
                    raise SystemExit(f"{command[1]} ended before it had answered; its own words are above.")
            answer: dict[str, float] = json.loads(line)
            return answer

        yield do
        process.stdin.close()


def scan(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Make an image with structure at several scales, and noise."""
    random = np.random.default_rng(seed)
    image = np.zeros(shape, dtype=np.float32)
    for cells in (4, 12, 40):
        image += zoomed(random.normal(size=(cells,) * 3), shape) * 400 / cells**0.5
    return image + random.normal(scale=20, size=shape).astype(np.float32)


def label_map(shape: tuple[int, ...], labels: int, seed: int) -> NDArray[np.int16]:
    """Make a label map: each voxel belongs to the highest of as many smooth random fields."""
    random = np.random.default_rng(seed)
    best, winner = np.full(shape, -np.inf, dtype=np.float32), np.zeros(shape, dtype=np.int16)
    for label in range(labels):
        field = zoomed(random.normal(size=(9,) * 3), shape)
        higher = field > best
        best[higher], winner[higher] = field[higher], label
    return winner


def zoomed(field: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate a small field linearly to a shape."""
    factors = [size / cells for size, cells in zip(shape, field.shape, strict=True)]
    return np.asarray(zoom(field.astype(np.float32), factors, order=1))


def resampling_tasks(folder: Path) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Describe each kernel's task, its input saved in `folder`."""
    iso = {"spacing": [1.0, 1.0, 1.0], "new_spacing": [1.25, 1.28, 1.28]}
    ct_shape = [
        round(size * old / new) for size, old, new in zip(CT_SHAPE, CT_SPACING_MM, CT_NEW_SPACING_MM, strict=True)
    ]
    ct = {"spacing": CT_SPACING_MM, "new_spacing": CT_NEW_SPACING_MM}
    sizes = f"{'x'.join(map(str, MRI_SHAPE))} to {'x'.join(map(str, MRI_NEW_SHAPE))}"
    for name, kind, array, shape, spacing in (
        (f"image, {sizes}", "image", scan(MRI_SHAPE, 1), list(MRI_NEW_SHAPE), iso),
        ("image, CT 512x512x200, 0.8x0.8x3 to 1.5 mm", "image", scan(CT_SHAPE, 2), ct_shape, ct),
        (f"3 labels, {sizes}", "labels", label_map(MRI_SHAPE, 3, 3), list(MRI_NEW_SHAPE), iso),
        (f"60 labels, {sizes}", "labels", label_map(MRI_SHAPE, 60, 4), list(MRI_NEW_SHAPE), iso),
    ):
        path = folder / f"input{len(list(folder.glob('input*')))}.npy"
        np.save(path, array)
        yield name, {"kind": kind, "input": str(path), "shape": shape, **spacing}, 10.0


def compare_kernels(sides: Sides, folder: Path, pairs: int) -> Iterator[Row]:
    """Time the kernels on one thread."""
    seconds: dict[str, list[float]] = {}
    with kernel_process(sides.own) as own, kernel_process(sides.peer) as peer:
        for name, task, goal in resampling_tasks(folder):
            own(task)
            times = [(own(task)["seconds"], peer(task)["seconds"]) for _ in range(pairs)]
            seconds[name] = [pair[0] for pair in times]
            yield Row(name, "s", seconds[name], [pair[1] for pair in times], goal)
    few, many = (times for name, times in seconds.items() if "labels" in name)
    print(f"60 labels take {statistics.median(many) / statistics.median(few):.2f} times as long as 3 (aim: 1.5).")


def ct_case(folder: Path) -> dict[str, Any]:
    """Write a CT with 3 labels as a data set of one case, and its plan."""
    dataset = folder / "Dataset001_CT"
    for name, array in (("imagesTr/case_0000", scan(CT_SHAPE, 2)), ("labelsTr/case", label_map(CT_SHAPE, 3, 5))):
        path = dataset / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(array.astype(np.int16))
        image.SetSpacing(CT_SPACING_MM[::-1])
        sitk.WriteImage(image, path)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "one": 1, "two": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    raw = RawDataset.open(dataset)
    plan = make_plan(
        fingerprint_dataset(raw),
        raw.description,
        dataset_name=raw.name,
        image_reader_writer="SimpleITKIO",
        overwrite_target_spacing_mm=CT_NEW_SPACING_MM,
    )
    plan.write(folder / "nnUNetPlans.json")
    return {
        "kind": "case",
        "images": [str(dataset / "imagesTr" / "case_0000.nii.gz")],
        "labels": str(dataset / "labelsTr" / "case.nii.gz"),
        "plans": str(folder / "nnUNetPlans.json"),
        "dataset_json": str(dataset / "dataset.json"),
    }


def compare_memory(sides: Sides, folder: Path, pairs: int) -> Iterator[Row]:
    """Peak memory and time of a fresh process that preprocesses one CT."""
    task = ct_case(folder)
    answers: list[list[dict[str, float]]] = []
    for _ in range(pairs):
        answers.append([])
        for name, command in asdict(sides).items():
            with kernel_process(command) as do:
                answers[-1].append(do({**task, "output": str(folder / name)}))
    for what, unit, key, scale, goal in (
        ("preprocessing the CT, peak memory", "GiB", "peak_bytes", 2**30, 2.0),
        ("preprocessing the CT, time", "s", "seconds", 1, 5.0),
    ):
        own, peer = ([pair[side][key] / scale for pair in answers] for side in (0, 1))
        yield Row(what, unit, own, peer, goal)


def compare_sets(peer_python: Path, data: Path, folder: Path, pairs: int) -> Iterator[Row]:
    """Check, plan and preprocess whole data sets for 2d and 3d_fullres."""
    for name, goal in SETS.items():
        own, peer = [], []
        for _ in range(pairs):
            for times, commands in ((own, own_commands(name)), (peer, peer_commands(peer_python, name))):
                work = Path(tempfile.mkdtemp(dir=folder))
                (work / "raw").mkdir()
                (work / "raw" / name).symlink_to(data / name)
                times.append(wall_seconds(commands, work))
                shutil.rmtree(work)
        yield Row(f"check, plan, preprocess {name}, {PROCESSES} processes", "s", own, peer, goal)


def own_commands(dataset: str) -> list[list[str]]:
    """What a user types: `plan` checks the data set before it measures it."""
    segwright = [sys.executable, "-m", "segwright"]
    workers = ["--workers", str(PROCESSES)]
    return [
        [*segwright, "plan", dataset, *workers],
        [*segwright, "preprocess", dataset, "-c", "2d", "-c", "3d_fullres", *workers],
    ]


def peer_commands(python: Path, dataset: str) -> list[list[str]]:
    """The same with nnunetv2."""
    number, processes = str(int(dataset[7:10])), str(PROCESSES)
    command = [str(python.with_name("nnUNetv2_plan_and_preprocess")), "-d", number, "-c", "2d", "3d_fullres"]
    return [[*command, "-np", processes, processes, "-npfp", processes, "--verify_dataset_integrity"]]


def wall_seconds(commands: list[list[str]], work: Path) -> float:
    """Run the commands one after the other in a workspace; seconds on the clock."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    for path in folders.values():
        Path(path).mkdir(exist_ok=True)
    start = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, env={**os.environ, **folders}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def peer_version(python: Path) -> str:
    """Version of nnunetv2 in that environment."""
    code = "import importlib.metadata as m; print(m.version('nnunetv2'))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def processor() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Run the comparisons that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="Python of an environment with nnunetv2")
    parser.add_argument("--data", type=Path, required=True, help="folder with the raw data sets")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=["kernels", "memory", "sets"], default=["kernels", "memory", "sets"]
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "compare.jsonl")
    arguments = parser.parse_args()
    sides = Sides(
        own=[sys.executable, str(HERE / "own_kernels.py")],
        peer=[str(arguments.peer), str(HERE / "peer" / "kernels.py")],
    )
    about = {"peer": f"nnunetv2 {peer_version(arguments.peer)}", "processor": processor(), "cores": available_cores()}
    print(f"Against {about['peer']} on {about['cores']} cores of {about['processor']}, {arguments.pairs} pairs.\n")
    print("| what | segwright | nnunetv2 | times less, median (range) | aim | reached |")
    print("| --- | --- | --- | --- | --- | --- |")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        comparisons = {
            "kernels": lambda: compare_kernels(sides, folder, arguments.pairs),
            "memory": lambda: compare_memory(sides, folder, arguments.pairs),
            "sets": lambda: compare_sets(arguments.peer, arguments.data.resolve(), folder, arguments.pairs),
        }
        for name in arguments.only:
            for row in comparisons[name]():
                print(row.line(), flush=True)
                with arguments.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**asdict(row), "ratios": row.ratios, **about}) + "\n")


if __name__ == "__main__":
    main()
