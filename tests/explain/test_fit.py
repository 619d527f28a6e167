"""What cannot fit the memory that there is is refused before anything is built, with the largest batch that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segwright.dataset.description import DatasetDescription
from segwright.errors import SettingsError
from segwright.explain import fit
from segwright.explain.edits import apply_edits, parse_edits
from segwright.explain.fit import largest_batch_within, refuse_absurd, refuse_what_does_not_fit
from segwright.explain.step_measurement import make_trainer
from segwright.explain.step_memory import count_step_memory
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.task import Task
from segwright.training.trainer import Trainer

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
HIPPO = "Dataset903_Hippo"


def trainer_with(batch_size: int, *, workers: int = 0, trainer_class: type[Trainer] = Trainer) -> Trainer:
    plan = Plan.read(GOLDEN / f"{HIPPO}__nnUNetPlans.json")
    description = DatasetDescription.read(GOLDEN / f"{HIPPO}__dataset.json")
    edits = parse_edits(["features_per_stage=4", "n_stages=2", "patch_size=16,16,16"])
    fingerprint = Fingerprint.read(GOLDEN / f"{HIPPO}__dataset_fingerprint.json")
    task = apply_edits(Task.of(plan, "3d_fullres", description), edits, fingerprint, name="tiny").after
    made = make_trainer(task, flags={"batch_size": batch_size})
    own = trainer_class(task.plan.raw, "tiny", 0, description.raw, device=torch.device("cpu"))
    own.budget, own.batch_size, own.loader_workers = made.budget, made.batch_size, workers
    return own


@pytest.mark.parametrize("limit", [0, 99, 100, 101, 450, 1_000, 5_432, 10**7])
@pytest.mark.parametrize("lines", [((0, 7),), ((90, 10), (0, 30)), ((1000, 1), (500, 2), (100, 5))])
def test_the_largest_batch_is_found_on_any_line(limit: int, lines: tuple[tuple[int, int], ...]) -> None:
    def bytes_of(batch: int) -> int:
        return max(constant + slope * batch for constant, slope in lines)

    found = largest_batch_within(limit, bytes_of)
    assert found == 0 or bytes_of(found) <= limit
    assert bytes_of(found + 1) > limit


class OwnStep(Trainer):
    def train_step(self, batch: Any) -> dict[str, float]:
        raise AssertionError("called before the training")


def test_a_step_of_ones_own_is_not_called_but_its_batches_are_counted(free: Any) -> None:
    free(40 << 20)
    refuse_what_does_not_fit(trainer_with(8, trainer_class=OwnStep))
    refusal_of(trainer_with(1_000_000, trainer_class=OwnStep))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stand_in(size: int) -> None:
        monkeypatch.setattr(fit, "available_memory_bytes", lambda: size)

    return stand_in


def refusal_of(trainer: Trainer) -> str:
    with pytest.raises(SettingsError) as refused:
        refuse_what_does_not_fit(trainer)
    return str(refused.value)


def test_the_batch_that_is_named_is_the_largest_that_passes(free: Any) -> None:
    free(40 << 20)
    words = refusal_of(trainer_with(1_000_000))
    assert "batch_size 1000000" in words
    assert "command line" in words
    assert "--force" in words
    largest = int(words.split("--batch-size ")[1].split(",")[0])
    refuse_what_does_not_fit(trainer_with(largest))
    refusal_of(trainer_with(largest + 1))


def test_not_even_one_patch_fits(free: Any) -> None:
    free(1 << 20)
    words = refusal_of(trainer_with(2))
    assert "Not even a batch of 1" in words
    assert "patch_size" in words


def test_batches_that_are_loaded_ahead_count(free: Any) -> None:
    step = count_step_memory(trainer_with(8), device="cpu").total
    free(step + (4 << 20))
    refuse_what_does_not_fit(trainer_with(8))
    refusal_of(trainer_with(8, workers=12))


def test_on_a_gpu_its_own_memory_counts_and_the_machines_for_loading(
    free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_with(64)
    trainer.device = torch.device("cuda:0")
    need = count_step_memory(trainer, device="cuda").total
    free(1 << 40)
    monkeypatch.setattr(fit, "memory_there", lambda device: need)
    refuse_what_does_not_fit(trainer)
    monkeypatch.setattr(fit, "memory_there", lambda device: need - 1)
    assert "cuda:0" in refusal_of(trainer)
    monkeypatch.setattr(fit, "memory_there", lambda device: need)
    free(1 << 20)
    assert "load" in refusal_of(trainer)


class _LooksAtValues(Trainer):
    @staticmethod
    def build_network_architecture(*args: Any, **kwargs: Any) -> nn.Module:
        raise RuntimeError(torch.zeros(2).numpy().sum())


def test_what_cannot_be_counted_is_not_refused(free: Any) -> None:
    free(1 << 20)
    refuse_what_does_not_fit(trainer_with(1000, trainer_class=_LooksAtValues))


def test_a_step_beyond_every_device_is_refused_wherever_it_is_asked() -> None:
    refuse_absurd(80 << 30, "batch_size 64")
    with pytest.raises(SettingsError, match="batch_size 64"):
        refuse_absurd(1 << 41, "batch_size 64")
