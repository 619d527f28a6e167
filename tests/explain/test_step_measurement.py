"""Real steps in a process of their own: what they take is what the model says, and what does not fit is said."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segwright.dataset.description import DatasetDescription
from segwright.errors import TrainingError
from segwright.explain.cost import step_memory
from segwright.explain.edits import apply_edits, parse_edits
from segwright.explain.step_measurement import StepMeasurement, measure_step
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.task import Task

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
CT, HIPPO, CARDIAC = "Dataset901_CTAniso", "Dataset903_Hippo", "Dataset904_Cardiac"
SMALL = "features_per_stage=8 n_stages=3 patch_size=40,48,48 batch_size=2"


def prepare(
    data: str, configuration: str, edits: str, *, plans: str = "nnUNetPlans", classes: int | None = None
) -> Task:
    """The edited configuration as `tiny`, of a data set with so many labels, background included."""
    plan = Plan.read(GOLDEN / f"{data}__{plans}.json")
    description = DatasetDescription.read(GOLDEN / f"{data}__dataset.json")
    if classes is not None:
        labels = {"background": 0, **{f"organ {value}": value for value in range(1, classes)}}
        description = DatasetDescription.from_json({**description.raw, "labels": labels})
    fingerprint = Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json")
    task = Task.of(plan, configuration, description)
    return apply_edits(task, parse_edits(edits.split()), fingerprint, name="tiny").after


def modelled(task: Task, recipe: str) -> int:
    return step_memory(task, "cpu", flags={"recipe": recipe}).total


def check(measured: StepMeasurement, model: int, tolerance: float) -> None:
    assert measured.fits, measured.problem
    if measured.peak_bytes is None:
        pytest.skip("this system cannot tell what a step holds")
    assert model == pytest.approx(measured.peak_bytes, rel=tolerance)
    assert measured.reserved_bytes is not None
    assert measured.reserved_bytes > 0.9 * measured.peak_bytes
    assert measured.libraries_bytes is not None
    assert measured.limit_bytes is not None
    assert measured.limit_bytes > measured.libraries_bytes + measured.reserved_bytes
    assert measured.seconds_per_iteration is not None
    assert measured.seconds_per_iteration > 0


def test_a_step_holds_what_the_model_says() -> None:
    task = prepare(HIPPO, "3d_fullres", SMALL)
    # a busy system adds tens of megabytes at times, which is much beside so small a step: the least counts
    attempts = (measure_step(task, flags={"recipe": "nnunet"}) for _ in range(3))
    measured = min(attempts, key=lambda each: each.peak_bytes or 0)
    check(measured, modelled(task, "nnunet"), 0.15)
    assert measured.to_json() == {**dataclasses.asdict(measured), "fits": True}


SLOW_CASES = {
    "many classes": (CARDIAC, "2d", "features_per_stage=4 n_stages=3 patch_size=256,256 batch_size=2", 20, "nnunet"),
    "AdamW": (HIPPO, "3d_fullres", "features_per_stage=16 batch_size=4", None, "short"),
    "cascade": (CT, "3d_cascade_fullres", "features_per_stage=4 patch_size=32,64,64 batch_size=2", 10, "nnunet"),
    "full features": (HIPPO, "3d_fullres", "batch_size=2", None, "nnunet"),
    "slices": (CARDIAC, "2d", "features_per_stage=8 patch_size=256,256 batch_size=4", None, "nnunet"),
    "anisotropic": (CARDIAC, "3d_fullres", "features_per_stage=8 patch_size=16,128,128", None, "nnunet"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW_CASES)
def test_steps_of_all_kinds_hold_what_the_model_says(case: str) -> None:
    data, configuration, edits, classes, recipe = SLOW_CASES[case]
    task = prepare(data, configuration, edits, classes=classes)
    check(measure_step(task, flags={"recipe": recipe}), modelled(task, recipe), 0.15)


@pytest.mark.slow
def test_residual_steps_hold_what_the_model_says() -> None:
    task = prepare(HIPPO, "3d_fullres", SMALL, plans="nnUNetResEncUNetMPlans")
    check(measure_step(task), modelled(task, "nnunet"), 0.15)


def test_what_exceeds_the_limit_does_not_fit_and_the_machine_lives() -> None:
    task = prepare(HIPPO, "3d_fullres", "batch_size=200")
    measured = measure_step(task, memory_limit_bytes=1 << 20)
    assert not measured.fits
    assert measured.problem is not None
    assert "memory" in measured.problem
    assert measured.peak_bytes is None
    assert measured.batch_size == 200


def ending(monkeypatch: pytest.MonkeyPatch, **process: Any) -> StepMeasurement:
    """Measure where the process ends in another way."""
    ended = subprocess.CompletedProcess(args=[], **{"stdout": "", "stderr": "", **process})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    task = prepare(HIPPO, "3d_fullres", "batch_size=3")
    return measure_step(task)


def test_a_process_that_the_system_kills_did_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = ending(monkeypatch, returncode=-9)
    assert (measured.fits, measured.batch_size) == (False, 3)
    assert "SIGKILL" in str(measured.problem)


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (2, "SIGINT"), (40, "signal 40")])
def test_a_process_that_another_signal_ended_tells_which(
    monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    with pytest.raises(TrainingError, match=name):
        ending(monkeypatch, returncode=-number, stderr="UserWarning: of no matter\n")


def test_another_failure_is_an_error_that_tells_the_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"tiny.*ZeroDivisionError"):
        ending(monkeypatch, returncode=1, stderr="Traceback ...\nZeroDivisionError: division by zero\n")


def test_a_network_of_the_users_own_is_measured_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "from segwright import Trainer\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, inputs, outputs):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(nn.Conv3d(inputs, 4, 1), nn.AvgPool3d(4), nn.Conv3d(4, outputs, 1))\n"
        "        self.up = nn.Upsample(scale_factor=4)\n"
        "    def forward(self, x):\n"
        "        return self.up(self.layers(x))\n\n"
        "class Mine(Trainer):\n"
        "    enable_deep_supervision = False\n"
        "    @staticmethod\n"
        "    def build_network_architecture(plan, configuration, inputs, outputs, deep=True):\n"
        "        return Net(inputs, outputs)\n"
    )
    task = prepare(HIPPO, "3d_fullres", SMALL)
    foreign = {"network_class_name": "mine.Net", "arch_kwargs": {}, "_kw_requires_import": []}
    task = Task.of(task.plan.with_configuration("tiny", {"architecture": foreign}), "tiny", task.description)
    measured = measure_step(task, trainer=f"{file}:Mine", held_memory=False)
    assert measured.fits, measured.problem
    assert measured.seconds_per_iteration is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_measuring_process_ends_with_the_one_that_asked_for_it(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(
        "import os, pathlib, time\n"
        "from segwright import Trainer\n\n"
        "class Waiting(Trainer):\n"
        "    def __init__(self, *arguments, **others):\n"
        "        super().__init__(*arguments, **others)\n"
        "        pathlib.Path(__file__).with_name('started').write_text(str(os.getpid()))\n"
        "        time.sleep(600)\n"
    )
    task = prepare(HIPPO, "3d_fullres", SMALL)
    task.plan.write(tmp_path / "plans.json")
    task.description.write(tmp_path / "dataset.json")
    script = (
        "from segwright.dataset.description import DatasetDescription\n"
        "from segwright.planning.plan import Plan\n"
        "from segwright.explain.step_measurement import measure_step\n"
        "from pathlib import Path\n"
        "from segwright.task import Task\n"
        "plan, description = Plan.read(Path('plans.json')), DatasetDescription.read(Path('dataset.json'))\n"
        "measure_step(Task.of(plan, 'tiny', description), trainer='waiting.py:Waiting')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as asking:
        measuring = int(eventually(lambda: (tmp_path / "started").read_text()))
        asking.kill()
    assert eventually(lambda: not is_running(measuring))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` comes to give, within a minute."""
    for _ in range(600):
        with contextlib.suppress(FileNotFoundError):
            if found := look():
                return found
        time.sleep(0.1)
    pytest.fail("it did not come to be in a minute")
