"""Every source of chance repeats with the seed, in a whole run and in one that was stopped and continued."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training_run import StopAt, assert_equal_weights, run, weights
from torch import Tensor, nn

from segwright.planning.plan import Plan
from segwright.training.chance import Moment, draw_for, generators_kept, seed_generators, seed_of_fold
from segwright.training.run import TrainingOutcome
from segwright.training.sampling import SampleIndex
from segwright.training.trainer import Trainer

FLAGS = {"num_epochs": 2, "num_iterations_per_epoch": 3, "num_val_iterations_per_epoch": 1}


class NoisyPatches(torch.utils.data.Dataset[dict[str, Any]]):
    """Patches through a transform of a user's, which draws from the generators of whole libraries."""

    def __init__(self, patches: Any) -> None:
        self.patches = patches

    def __getitem__(self, index: SampleIndex) -> dict[str, Any]:
        sample = self.patches[index]
        noise = np.random.rand() + random.random() + float(torch.rand(()))
        return {**sample, "data": sample["data"] * np.float32(1 + noise)}


class DropPath(nn.Module):
    """Leaves a block out for some samples of a batch."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        if self.training:
            kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < 0.7
            result = result * kept
        return result


class Chancy(Trainer):
    """Draws from torch, numpy and Python in the network, the steps, the hooks and the loaders."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.mul_(1 + 0.1 * np.random.rand() + 0.1 * random.random())
        return super().configure_optimizers()

    @staticmethod
    def build_network_architecture(*args: Any, **kwargs: Any) -> nn.Module:
        network: Any = Trainer.build_network_architecture(*args, **kwargs)
        network.encoder.stages[1] = DropPath(network.encoder.stages[1])
        return network  # type: ignore[no-any-return]

    def get_dataloaders(self) -> Any:
        loaders = super().get_dataloaders()
        for loader in loaders:
            object.__setattr__(loader, "dataset", NoisyPatches(loader.dataset))
        return loaders

    def on_epoch_start(self) -> None:
        super().on_epoch_start()
        self.epoch_factor = random.random() + np.random.rand()

    def train_step(self, batch: Mapping[str, Any]) -> dict[str, float]:
        factor = self.epoch_factor + random.random() + np.random.rand() + torch.rand(())
        return super().train_step({**batch, "data": batch["data"] * factor})

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self._shake(random.random())

    def validation_step(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        self._shake(np.random.rand() + float(torch.rand(())))
        return super().validation_step(batch)

    def _shake(self, amount: float) -> None:
        with torch.no_grad():
            next(self.network.parameters()).mul_(1 + 0.01 * amount)


def with_dropout(tiny: Any) -> Any:
    """The tiny data set, with nnU-Net's key for dropout in the plan."""
    plan: Plan = tiny.plan
    architecture = dict(plan.configuration("tiny").raw["architecture"])
    kwargs = {
        **architecture["arch_kwargs"],
        "dropout_op": "torch.nn.modules.dropout.Dropout3d",
        "dropout_op_kwargs": {"p": 0.3},
    }
    changed = {"inherits_from": "tiny", "architecture": {**architecture, "arch_kwargs": kwargs}}
    return replace(tiny, plan=plan.with_configuration("dropout", changed), configuration="dropout")


@pytest.fixture(scope="module")
def dropping(tiny: Any) -> Any:
    return with_dropout(tiny)


@pytest.fixture(scope="module")
def whole(dropping: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    return run(dropping, tmp_path_factory.mktemp("whole"), FLAGS, trainer_class=Chancy)


def test_the_same_seed_repeats_the_run(dropping: Any, tmp_path: Path, whole: TrainingOutcome) -> None:
    seed_generators(12345)  # what this process drew before must not matter
    assert_equal_weights(run(dropping, tmp_path, FLAGS, trainer_class=Chancy, loader_workers=2), whole)


@pytest.mark.parametrize(("stop_after", "workers"), [(1, 1), (3, 0), (5, 2)])
def test_stopped_and_continued_equals_the_whole_run(
    dropping: Any, tmp_path: Path, whole: TrainingOutcome, stop_after: int, workers: int
) -> None:
    common: dict[str, Any] = {"trainer_class": Chancy, "loader_workers": workers}
    stopped = run(dropping, tmp_path, FLAGS, monitor=StopAt(stop_after), **common)
    assert not stopped.finished
    seed_generators(999 + stop_after)
    assert_equal_weights(run(dropping, tmp_path, dict.fromkeys(FLAGS), resume=True, **common), whole)


@pytest.mark.parametrize(("configuration", "trainer_class"), [("tiny", Chancy), ("dropout", Trainer)])
def test_every_source_changes_the_weights(
    tiny: Any, dropping: Any, tmp_path: Path, whole: TrainingOutcome, configuration: str, trainer_class: Any
) -> None:
    data = tiny if configuration == "tiny" else dropping
    without = weights(run(data, tmp_path, FLAGS, trainer_class=trainer_class))
    assert any(not torch.equal(without[key], value) for key, value in weights(whole).items() if key in without)


def drawn() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_what_is_drawn_depends_on_every_part_of_the_moment() -> None:
    moments = [
        (seed_of_fold(seed, fold), moment, SampleIndex(epoch, step, position))
        for seed in (0, 1)
        for fold in (0, 1, 2, "all")
        for moment in Moment
        for epoch, step, position in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    values = []
    with generators_kept():
        for moment in moments:
            draw_for(*moment)
            values.extend(drawn())
    assert len(set(values)) == 3 * len(moments)


def test_the_callers_generators_are_given_back(tiny: Any, tmp_path: Path) -> None:
    seed_generators(7)
    expected = drawn()
    seed_generators(7)
    run(tiny, tmp_path, {"num_epochs": 1, "num_iterations_per_epoch": 1})
    assert drawn() == expected


def test_fold_0_has_the_seed_itself_and_the_other_folds_have_others() -> None:
    seeds = [seed_of_fold(3, fold) for fold in (0, 1, 2, 3, 4, "all")]
    assert seeds[0] == 3
    assert len({seed % (1 << 32) for seed in seeds}) == 6


def test_folds_begin_from_other_weights_and_draw_other_patches(tiny: Any, tmp_path: Path) -> None:
    flags = {"num_epochs": 1, "num_iterations_per_epoch": 1}
    first = {
        fold: [value.flatten()[0] for value in weights(run(tiny, tmp_path, flags, fold=fold)).values()]
        for fold in (0, 1, "all")
    }
    assert first[0] != first[1]
    assert first[0] != first["all"]
