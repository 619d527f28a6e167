"""Compare the model of a training step's memory with what steps of twelve different plans take on this CPU.

    python benchmarks/step_memory.py [NAME ...]

Prints modelled and measured bytes and their ratio, and what the process takes as training runs, with what the allocator
keeps. The plans are golden ones, some of them edited. Each run adds a line a plan to results/step_memory.jsonl.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segwright.dataset.description import DatasetDescription
from segwright.explain.cost import StepMemory, step_memory
from segwright.explain.edits import apply_edits, parse_edits
from segwright.explain.step_measurement import StepMeasurement, measure_step
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.task import Task

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "plans"


@dataclass(frozen=True)
class Case:
    """A golden plan's configuration with edits; `classes` replaces the labels of the data set by so many."""

    data: str
    plans: str
    configuration: str
    edits: tuple[str, ...]
    classes: int | None = None
    recipe: str = "nnunet"


CT, BRAIN, HIPPO = "Dataset901_CTAniso", "Dataset902_BrainReg", "Dataset903_Hippo"
CARDIAC, ROADS = "Dataset904_Cardiac", "Dataset905_Roads"
PLAIN, MEDIUM, LARGE = "nnUNetPlans", "nnUNetResEncUNetMPlans", "nnUNetResEncUNetLPlans"
CASES = {
    "plain 2d": Case(CARDIAC, PLAIN, "2d", ("patch_size=256,256", "batch_size=8")),
    "plain 3d": Case(HIPPO, PLAIN, "3d_fullres", ("batch_size=2",)),
    "plain 3d, 96 cubed": Case(CT, PLAIN, "3d_lowres", ("patch_size=96,96,96", "batch_size=2")),
    "residual M 3d": Case(HIPPO, MEDIUM, "3d_fullres", ("batch_size=4",)),
    "residual L 2d": Case(BRAIN, LARGE, "2d", ("batch_size=4",)),
    "anisotropic": Case(CARDIAC, PLAIN, "3d_fullres", ("patch_size=16,128,128", "batch_size=2")),
    "cascade": Case(CT, PLAIN, "3d_cascade_fullres", ("patch_size=48,96,96", "features_per_stage=16"), classes=10),
    "60 classes": Case(HIPPO, PLAIN, "3d_fullres", ("features_per_stage=8", "batch_size=4"), classes=60),
    "few stages": Case(HIPPO, PLAIN, "3d_fullres", ("n_stages=2", "patch_size=32,48,32", "batch_size=4")),
    "many stages": Case(ROADS, PLAIN, "2d", ("patch_size=512,512",)),
    "larger batch": Case(HIPPO, PLAIN, "3d_fullres", ("features_per_stage=16", "batch_size=16")),
    "AdamW": Case(BRAIN, MEDIUM, "3d_fullres", ("patch_size=64,64,64", "batch_size=1"), recipe="short"),
}


def with_classes(description: DatasetDescription, classes: int | None) -> DatasetDescription:
    """The same data set with so many labels, background included."""
    if classes is None:
        return description
    labels = {"background": 0, **{f"organ {value}": value for value in range(1, classes)}}
    raw = {key: value for key, value in description.raw.items() if key != "regions_class_order"}
    return DatasetDescription.from_json({**raw, "labels": labels})


def prepare(case: Case) -> Task:
    """The edited configuration on the data set."""
    plan = Plan.read(GOLDEN / f"{case.data}__{case.plans}.json")
    description = DatasetDescription.read(GOLDEN / f"{case.data}__dataset.json")
    fingerprint = Fingerprint.read(GOLDEN / f"{case.data}__dataset_fingerprint.json")
    task = Task.of(plan, case.configuration, with_classes(description, case.classes))
    return apply_edits(task, parse_edits(case.edits), fingerprint, name="edited").after


def model(case: Case) -> StepMemory:
    """What the step should hold."""
    return step_memory(prepare(case), "cpu", flags={"recipe": case.recipe})


def measure(case: Case) -> StepMeasurement:
    """What the step takes."""
    return measure_step(prepare(case), flags={"recipe": case.recipe})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each case and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"cases: {', '.join(CASES)}; default: all")
    names = parser.parse_args(argv).names or list(CASES)
    output = ROOT / "benchmarks" / "results" / "step_memory.jsonl"
    output.parent.mkdir(exist_ok=True)
    print(f"{'case':20}{'model MB':>10}{'held MB':>10}{'ratio':>7}{'process MB':>12}{'of held':>9}{'s/step':>8}")
    for name in names:
        expected, measured = model(CASES[name]).total, measure(CASES[name])
        entry: dict[str, Any] = {"case": name, "model_bytes": expected, **measured.to_json()}
        with output.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if measured.peak_bytes is None or measured.reserved_bytes is None:
            print(f"{name:20}{expected / 1e6:10.0f}  {measured.problem or 'cannot be measured on this system'}")
            continue
        print(
            f"{name:20}{expected / 1e6:10.0f}{measured.peak_bytes / 1e6:10.0f}{expected / measured.peak_bytes:7.2f}"
            f"{measured.reserved_bytes / 1e6:12.0f}{measured.reserved_bytes / measured.peak_bytes:9.2f}"
            f"{measured.seconds_per_iteration:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
