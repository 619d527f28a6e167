"""The search for the largest batch begins where the model of memory says that it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segwright.cli import explain_trials
from segwright.cli.console import Terminal
from segwright.cli.explain_trials import KEPT_BY_ALLOCATOR, Asked, first_guess
from segwright.dataset import DatasetDescription, DatasetLocation
from segwright.explain.cost import step_memory
from segwright.explain.edits import apply_edits, parse_edits
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.task import Task

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
DATA = "Dataset903_Hippo"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    plan = Plan.read(GOLDEN / f"{DATA}__nnUNetPlans.json")
    description = DatasetDescription.read(GOLDEN / f"{DATA}__dataset.json")
    fingerprint = Fingerprint.read(GOLDEN / f"{DATA}__dataset_fingerprint.json")
    edits = parse_edits(["features_per_stage=8", "patch_size=16,16,16"])
    small = apply_edits(Task.of(plan, "3d_fullres", description), edits, fingerprint, name="small")
    monkeypatch.setattr(explain_trials, "_free_bytes", lambda asked: asked.memory_bytes)
    return Asked(
        terminal=Terminal.open(),
        location=DatasetLocation(name=DATA, raw=tmp_path, preprocessed=tmp_path, results=tmp_path),
        plan=small.after.plan,
        fingerprint=fingerprint,
        description=description,
        gpu_memory_gb=None,
        flags={},
        trainer=None,
        measure=False,
        max_batch=True,
        memory_bytes=None,
        device="cpu",
    )


@pytest.mark.parametrize("megabytes", [1, 50, 400, 3000])
def test_the_first_trial_is_the_largest_batch_that_fits_by_the_model(asked: Asked, megabytes: int) -> None:
    asked = replace(asked, memory_bytes=megabytes << 20)
    task = asked.task("small")
    guess = first_guess(asked, task, asked.budget(task))

    def taken(batch_size: int) -> float:
        model = step_memory(task, "cpu", flags={"batch_size": batch_size})
        return model.total * KEPT_BY_ALLOCATOR["cpu"]

    assert taken(guess) <= megabytes << 20 or guess == 1
    assert taken(guess + 1) > megabytes << 20
