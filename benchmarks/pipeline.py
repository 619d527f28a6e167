"""Time checking, planning and preprocessing of whole data sets, from the command line to the last file.

    python benchmarks/pipeline.py --peer /path/to/nnunetv2/python --data DATA [--pairs 3] [--dataset hippocampus]
    python benchmarks/pipeline.py --data DATA --only ours    # without nnunetv2

Each run starts with empty output folders and cold processes. Both sides have two worker processes of one thread each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import ONE_THREAD, Comparison, Cost, compare, run_command, show

PROCESSES = 2
CONFIGURATIONS = ("2d", "3d_fullres")


@dataclass(frozen=True)
class Job:
    """A data set to plan and preprocess, and how many times as fast as the peer that has to be."""

    dataset: str
    wanted_speed: float

    @property
    def number(self) -> str:
        return str(int(self.dataset[7:10]))


JOBS = {"hippocampus": Job("Dataset004_Hippocampus", 8), "acdc": Job("Dataset027_ACDC", 5)}


def our_command(
    verb: str, dataset: str, workspace: Path, *arguments: str, workers: int = PROCESSES
) -> list[str | Path]:
    segwright = Path(sys.executable).with_name("segwright")
    return [segwright, verb, dataset, "--workspace", workspace, "--workers", str(workers), *arguments]


def run_peer(peer: Path, folder: Path, command: str, arguments: Sequence[str]) -> Cost:
    """Run one of nnunetv2's commands in a workspace laid out as ours."""
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    return run_command([peer.with_name(command), *arguments], {**ONE_THREAD, **places})


def plan_and_preprocess(data: Path, job: Job, place: Path) -> Cost:
    """Our `preprocess` in a new folder: a data set without plans is checked and planned first."""
    folder = new_workspace(place, data / job.dataset)
    cost = run_command(our_command("preprocess", job.number, folder, "--configuration", *CONFIGURATIONS), ONE_THREAD)
    require_all_cases(folder, job.dataset)
    return cost


def peers_plan_and_preprocess(peer: Path, data: Path, job: Job, place: Path) -> Cost:
    arguments = ["-d", job.number, "-c", *CONFIGURATIONS, "-np", str(PROCESSES), "-npfp", str(PROCESSES)]
    folder = new_workspace(place, data / job.dataset)
    cost = run_peer(
        peer, folder, "nnUNetv2_plan_and_preprocess", [*arguments, "--verify_dataset_integrity", "--no_pbar"]
    )
    require_all_cases(folder, job.dataset)
    return cost


def new_place() -> tempfile.TemporaryDirectory[str]:
    """Folder for all workspaces of a benchmark, which goes when all is done.

    Not after each run: for half a minute ext4 steps around each file that was deleted when it makes a new one, and the
    next run would take half a millisecond more for every file.
    """
    return tempfile.TemporaryDirectory(prefix="segwright-bench-")


def new_workspace(place: Path, dataset: Path) -> Path:
    """Empty folder in `place` with a link to a raw data set."""
    folder = Path(tempfile.mkdtemp(dir=place))
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir()
    (folder / "raw" / dataset.name).symlink_to(dataset.resolve())
    return folder


def require_all_cases(folder: Path, dataset: str) -> None:
    """A run that left something undone is no measurement.

    Raises:
        RuntimeError: a configuration lacks cases.
    """
    expected = json.loads((folder / "raw" / dataset / "dataset.json").read_text())["numTraining"]
    plans = json.loads((folder / "preprocessed" / dataset / "nnUNetPlans.json").read_text())
    for name in CONFIGURATIONS:
        store = folder / "preprocessed" / dataset / plans["configurations"][name]["data_identifier"]
        found = len(list(store.glob("*.pkl")))
        if found != expected:
            raise RuntimeError(f"{store}: expected {expected} cases, got {found}.")


def compare_pipelines(
    peer: Path, data: Path, *, pairs: int, names: Sequence[str] = tuple(JOBS)
) -> Iterator[Comparison]:
    """Compare both sides on each data set, after a run of ours and a start of the peer's that do not count."""
    run_command([peer.with_name("nnUNetv2_plan_and_preprocess"), "--help"], ONE_THREAD)
    with new_place() as name:
        place = Path(name)
        for job in map(JOBS.__getitem__, names):
            plan_and_preprocess(data, job, place)
            yield compare(
                f"plan and preprocess, {job.dataset}",
                lambda job=job: plan_and_preprocess(data, job, place),
                lambda job=job: peers_plan_and_preprocess(peer, data, job, place),
                pairs=pairs,
                wanted_speed=job.wanted_speed,
            )


def show_ours(data: Path, names: Sequence[str], times: int) -> None:
    """Print what our command takes."""
    with new_place() as place:
        for name in names:
            for _ in range(times):
                cost = plan_and_preprocess(data, JOBS[name], Path(place))
                print(
                    f"{name:12} {cost.seconds:6.2f} s wall, {cost.cpu_seconds:6.2f} s CPU, "
                    f"{(cost.process_peak_bytes or 0) / 1e6:5.0f} MB the largest process, "
                    f"{(cost.together_peak_bytes or 0) / 1e6:5.0f} MB together",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--only", choices=["ours"])
    parser.add_argument("--dataset", choices=list(JOBS), nargs="+", default=list(JOBS))
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.only:
        show_ours(arguments.data, arguments.dataset, arguments.pairs)
    elif arguments.peer is None:
        parser.error("--peer is needed unless --only ours")
    else:
        show(compare_pipelines(arguments.peer, arguments.data, pairs=arguments.pairs, names=arguments.dataset))


if __name__ == "__main__":
    main()
