"""Optimizers and schedules."""

from __future__ import annotations

import itertools

import pytest
import torch

from segwright.planning.recipes import NNUNET, SHORT
from segwright.training.schedule import IterationWarmupSchedule, make_optimizer, make_schedule


def _optimizer(recipe=NNUNET) -> torch.optim.Optimizer:
    return make_optimizer([torch.nn.Parameter(torch.zeros(2))], recipe, initial_lr=1e-2, weight_decay=3e-5)


def test_nnunets_polynomial_rate_is_constant_within_an_epoch() -> None:
    optimizer = _optimizer()
    schedule = make_schedule(optimizer, NNUNET, initial_lr=1e-2, num_epochs=1000, iterations_per_epoch=250)
    for epoch in (0, 1, 500, 999):
        schedule.step(epoch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * (1 - epoch / 1000) ** 0.9)


def test_nnunets_optimizer() -> None:
    group = _optimizer().param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)


def test_short_recipe_warms_up_and_falls_to_nothing() -> None:
    optimizer = _optimizer(SHORT)
    assert isinstance(optimizer, torch.optim.AdamW)
    schedule = make_schedule(optimizer, SHORT, initial_lr=3e-3, num_epochs=10, iterations_per_epoch=20)
    assert isinstance(schedule, IterationWarmupSchedule)
    rates = [schedule.rate_at(i) for i in range(200)]
    assert rates[:20] == pytest.approx([3e-3 * (i + 1) / 20 for i in range(20)])
    assert max(rates) == pytest.approx(3e-3)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[20:]))
    assert 0 < rates[-1] < 3e-5
    schedule.step_iteration(100)
    assert optimizer.param_groups[0]["lr"] == rates[100]


def test_a_run_of_one_iteration_has_a_rate() -> None:
    schedule = make_schedule(_optimizer(SHORT), SHORT, initial_lr=3e-3, num_epochs=1, iterations_per_epoch=1)
    assert schedule.rate_at(0) == pytest.approx(3e-3)
