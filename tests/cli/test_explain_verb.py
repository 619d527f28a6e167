"""`segwright explain` answers for measurements, for the largest batch and for edits, and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from segwright.explain import fit, step_measurement
from segwright.explain.step_measurement import StepMeasurement

NAME = "Dataset001_Balls"
TINY = ("--set", "features_per_stage=4", "n_stages=2")


def plans_of(workspace: Path) -> Path:
    return workspace / "preprocessed" / NAME / "nnUNetPlans.json"


def words(workspace: Path, *more: object) -> tuple[object, ...]:
    return ("explain", 1, "--workspace", workspace, "-c", "3d_fullres", *more)


def one_answer(outcome: Any) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    (answer,) = json.loads(outcome.out, parse_constant=pytest.fail)
    return answer


@pytest.fixture
def device_that_takes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for real steps: `device_that_takes(5)` fits batches of up to 5, in half a second a patch."""

    def stand_in(largest: int) -> None:
        def measure(_task: Any, *, device: str, flags: Mapping[str, Any], **_: Any) -> StepMeasurement:
            batch_size = flags.get("batch_size") or 2
            if batch_size > largest:
                return StepMeasurement(device, batch_size, "can't allocate memory", limit_bytes=1 << 30)
            return StepMeasurement(
                device, batch_size, None, batch_size << 27, batch_size << 28, 300 << 20, 1 << 31, batch_size / 2
            )

        monkeypatch.setattr(step_measurement, "measure_step", measure)

    return stand_in


def test_what_was_said_before_is_not_said_again(segwright, trained: Path) -> None:
    told = segwright("explain", 1, "--workspace", trained, "-c", "2d", "3d_fullres").out
    assert told.count("6 training images") == 1
    assert told.count("num_epochs") == 1
    assert "batch_size" in told


def test_the_time_of_an_earlier_training_is_told(segwright, trained: Path) -> None:
    assert "by the last training of 3d_fullres, on cpu" in segwright(*words(trained)).out
    assert "Time:" not in segwright("explain", 1, "--workspace", trained, "-c", "2d").out
    answer = one_answer(segwright(*words(trained, "--json")))
    assert answer["hours"] > 0
    assert answer["speed"]["seconds_per_iteration"] > 0
    assert answer["measurement"] is None
    assert answer["max_batch"] is None


def test_an_edit_is_answered_and_changes_nothing(segwright, trained: Path) -> None:
    before = plans_of(trained).read_bytes()
    outcome = segwright(*words(trained, "--set", "batch_size=4", "--set", "patch_size=16,16,16"))
    assert outcome.code == 0, outcome.err
    assert "1,000,000" in outcome.out
    assert "by the last training of 3d_fullres" in outcome.out
    assert '"patch_size": [16, 16, 16]' in outcome.out
    assert plans_of(trained).read_bytes() == before


def test_an_edit_as_json_has_the_same_keys_whatever_is_asked(segwright, trained: Path) -> None:
    answer = one_answer(segwright(*words(trained, "--set", "spacing=2,2,2", "--epochs", 10, "--json")))
    assert sorted(answer) == ["budget", "configuration", "max_batch", "measurement", "saved_to", "what_if"]
    told = answer["what_if"]
    assert told["name"] == "3d_fullres_edited"
    assert told["entry"]["spacing"] == [2, 2, 2]
    assert told["needs_preprocessing"] is True
    assert told["then"]["iterations"] == told["now"]["iterations"] == 2500
    assert told["then"]["hours"] == pytest.approx(told["now"]["hours"])
    assert told["fits_by_count"] is True


def test_an_edit_can_be_saved_under_a_name_of_its_own(segwright, workspace: Path) -> None:
    answer = one_answer(segwright(*words(workspace, *TINY, "--save", "3d_tiny", "--json")))
    assert answer["saved_to"] == str(plans_of(workspace))
    saved = json.loads(plans_of(workspace).read_text())["configurations"]
    assert saved["3d_tiny"]["inherits_from"] == "3d_fullres"
    assert saved["3d_tiny"]["architecture"]["arch_kwargs"]["features_per_stage"] == [4, 8]
    told = segwright("explain", 1, "--workspace", workspace, "-c", "3d_tiny")
    assert told.code == 0, told.err
    assert "n_stages = 2" in told.out
    again = segwright(*words(workspace, *TINY, "--save", "3d_tiny"))
    assert again.code == 2
    assert "never overwritten" in again.err


def test_an_answer_that_was_pasted_does_not_change_the_next(segwright, workspace: Path) -> None:
    first = one_answer(segwright(*words(workspace, "--set", "num_epochs=7", "--save", "3d_fullres_edited", "--json")))
    second = one_answer(segwright(*words(workspace, "--set", "batch_size=3", "--json")))["what_if"]
    assert first["what_if"]["then"]["iterations"] == 7 * 250
    assert second["name"] == "3d_fullres_edited2"
    assert second["then"]["iterations"] == second["now"]["iterations"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--set", "patchsize=3"), ("'patchsize'", "patch_size")),
        (("--set", "batch_size=many"), ("'batch_size'", "'many'")),
        (("--set", "batch_size"), ("KEY=VALUE",)),
        (("--set", "num_epochs=0"), ("num_epochs", "--set")),
        (("--save", "mine"), ("--save", "--set")),
        (("--memory", "8"), ("--memory", "--measure", "--max-batch")),
        (("--device", "cpu", "--set", "batch_size=3"), ("--device", "--measure")),
        (("--set", "batch_size=3", "-c", "2d"), ("one configuration", "2d")),
        (("--measure", "--device", "tpu"), ("--device", "'tpu'")),
        (("--set", "batch_size=3", "--save", ""), ("--save", "letters", "''")),
        (("--set", "spacing=2,2,2", "--save", "../mine"), ("--save", "letters", "'../mine'")),
        (("--set", "batch_size=3", "--save", "2d"), ("never overwritten", "'2d'")),
        (("--set", "batch_size=3", "--save", "3d_fullres"), ("never overwritten", "'3d_fullres'")),
        (("--set", "batch_size=3", "--batch-size", "4"), ("'batch_size'", "from the command line", "overrules")),
        (("--set", "recipe=short", "--recipe", "nnunet"), ("'recipe'", "from the command line")),
        (("--max-batch", "--memory", "inf"), ("--memory", "less than or equal")),
    ],
)
def test_what_cannot_be_asked_is_refused(
    segwright, trained: Path, more: tuple[str, ...], told: tuple[str, ...]
) -> None:
    before = plans_of(trained).read_bytes()
    outcome = segwright(*words(trained, *more))
    assert outcome.code == 2
    for word in told:
        assert word in outcome.err
    assert plans_of(trained).read_bytes() == before


def test_a_plan_without_configurations_is_refused(segwright, workspace: Path) -> None:
    raw = json.loads(plans_of(workspace).read_text())
    plans_of(workspace).write_text(json.dumps({**raw, "configurations": {}}))
    outcome = segwright("explain", 1, "--workspace", workspace)
    assert outcome.code == 2
    assert "key 'configurations': expected a configuration to explain, got none" in outcome.err


def test_a_wrong_setting_of_the_plan_is_named_with_its_place(segwright, workspace: Path) -> None:
    raw = json.loads(plans_of(workspace).read_text())
    raw["configurations"]["3d_fullres"]["num_epochs"] = "many"
    plans_of(workspace).write_text(json.dumps(raw))
    outcome = segwright(*words(workspace))
    assert outcome.code == 2
    assert f"({plans_of(workspace)}, configuration '3d_fullres')" in outcome.err
    edited = segwright(*words(workspace, "--set", "num_epochs=0"))
    assert edited.code == 2


def test_a_measurement_is_told_beside_the_model(segwright, trained: Path, device_that_takes) -> None:
    device_that_takes(5)
    told = segwright(*words(trained, "--measure", "--device", "cpu")).out
    assert "A step holds 256 MB" in told
    assert "takes 512 MB for it" in told
    assert "An iteration takes 1 s" in told
    assert "by the step measured on cpu" in told
    answer = one_answer(segwright(*words(trained, "--measure", "--device", "cpu", "--json")))
    assert answer["measurement"]["peak_bytes"] == 256 << 20
    assert answer["measurement"]["fits"] is True
    assert answer["hours"] == pytest.approx(1000 * (250 + 50 / 3) / 3600)


def test_a_step_that_does_not_fit_is_an_answer(segwright, trained: Path, device_that_takes) -> None:
    device_that_takes(1)
    outcome = segwright(*words(trained, "--measure", "--device", "cpu"))
    assert outcome.code == 0
    assert "They do not fit: can't allocate memory. The process may take 1.0 GB." in outcome.out


def test_the_largest_batch_is_searched_and_what_it_means_told(segwright, trained: Path, device_that_takes) -> None:
    device_that_takes(5)
    outcome = segwright(*words(trained, "--max-batch", "--device", "cpu", "--memory", 1))
    assert outcome.code == 0, outcome.err
    assert "The largest batch that fits is 5." in outcome.out
    assert "1,250,000 patches" in outcome.out
    assert "--batch-size 5" in outcome.out
    assert "does not fit" in outcome.err
    answer = one_answer(segwright(*words(trained, "--max-batch", "--device", "cpu", "--json")))
    assert answer["max_batch"]["batch_size"] == 5
    assert answer["max_batch"]["limited"] is True
    assert answer["max_batch"]["totals"]["samples"] == 1_250_000
    assert answer["max_batch"]["hours"] == pytest.approx(2.5 * 1000 * (250 + 50 / 3) / 3600)
    device_that_takes(0)
    assert "Not even a batch of 1 fits" in segwright(*words(trained, "--max-batch", "--device", "cpu")).out


def test_it_says_where_a_step_fits(segwright, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_answer(segwright(*words(trained, "--json")))["fits_here"]["cpu"] is True
    assert "does not fit" not in segwright(*words(trained)).out
    monkeypatch.setattr(fit, "available_memory_bytes", lambda: 1000)
    outcome = segwright(*words(trained))
    assert outcome.code == 0
    assert "does not fit this machine's CPU" in outcome.out
    assert one_answer(segwright(*words(trained, "--json")))["fits_here"]["cpu"] is False


@pytest.mark.parametrize("asked", [("--batch-size", 10**9), ("--set", f"batch_size={10**9}")])
def test_a_batch_beyond_every_device_is_refused(segwright, trained: Path, asked: tuple[object, ...]) -> None:
    outcome = segwright(*words(trained, *asked))
    assert outcome.code == 2
    assert str(10**9) in outcome.err


def test_real_steps_of_an_edited_plan(segwright, trained: Path) -> None:
    answer = one_answer(segwright(*words(trained, *TINY, "--measure", "--device", "cpu", "--json")))
    assert answer["measurement"]["fits"] is True, answer["measurement"]
    assert answer["measurement"]["seconds_per_iteration"] > 0
    assert answer["what_if"]["speed"]["source"].startswith("by the step measured on cpu")
    assert answer["what_if"]["then"]["hours"] > 0


@pytest.mark.slow
def test_the_largest_batch_of_a_tiny_memory(segwright, trained: Path) -> None:
    asked = (*TINY, "patch_size=64,64,64", "--max-batch", "--device", "cpu", "--memory", "0.8", "--json")
    found = one_answer(segwright(*words(trained, *asked)))["max_batch"]
    assert 1 <= found["batch_size"] <= 20
    assert found["limited"] is True


def test_all_but_the_memory_of_a_step_is_printed_without_torch(trained: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from segwright.cli.main import main; main(sys.argv[1:])"
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, words(trained))], capture_output=True, text=True, check=False
    )
    assert "patch" in run.stdout
    assert "Budget" in run.stdout
    assert "Memory of a training step" not in run.stdout


def test_a_network_of_another_kind_is_measured_and_its_hours_told(
    segwright, workspace: Path, device_that_takes
) -> None:
    raw = json.loads(plans_of(workspace).read_text())
    raw["configurations"]["mine"] = {
        "inherits_from": "3d_fullres",
        "architecture": {"network_class_name": "my.Net", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans_of(workspace).write_text(json.dumps(raw))
    device_that_takes(5)
    place = ("explain", 1, "--workspace", workspace, "-c", "mine")
    answer = one_answer(segwright(*place, "--measure", "--max-batch", "--device", "cpu", "--json"))
    assert answer["hours"] == pytest.approx(1000 * (250 + 50 / 3) / 3600)
    assert answer["max_batch"]["batch_size"] == 5
