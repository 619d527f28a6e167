"""Optimizers and learning-rate schedules of the recipes."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from segwright.planning.recipes import Recipe


class EpochPolynomialSchedule:
    """nnU-Net's schedule: lr = initial * (1 - epoch / num_epochs) ** exponent, constant within an epoch."""

    def __init__(self, optimizer: torch.optim.Optimizer, initial_lr: float, num_epochs: int, exponent: float) -> None:
        self.optimizer = optimizer
        self.initial_lr = initial_lr
        self.num_epochs = num_epochs
        self.exponent = exponent

    def step(self, epoch: int) -> None:
        """Set the learning rate of epoch number `epoch` (from 0)."""
        set_learning_rate(self.optimizer, self.initial_lr * (1 - epoch / self.num_epochs) ** self.exponent)


class IterationWarmupSchedule:
    """Linear warm-up, then polynomial decay, at every iteration; the last iteration reaches the final learning rate."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        peak_lr: float,
        total_iterations: int,
        *,
        warmup_fraction: float,
        exponent: float,
    ) -> None:
        self.optimizer = optimizer
        self.peak_lr = peak_lr
        self.total_iterations = total_iterations
        self.warmup_iterations = round(warmup_fraction * total_iterations)
        self.exponent = exponent

    def rate_at(self, iteration: int) -> float:
        """Learning rate of iteration number `iteration` (from 0, counted over the whole run)."""
        if iteration < self.warmup_iterations:
            return self.peak_lr * (iteration + 1) / self.warmup_iterations
        decaying = max(self.total_iterations - self.warmup_iterations, 1)
        return float(self.peak_lr * (1 - (iteration - self.warmup_iterations) / decaying) ** self.exponent)

    def step_iteration(self, iteration: int) -> None:
        """Set the learning rate of iteration number `iteration`."""
        set_learning_rate(self.optimizer, self.rate_at(iteration))


Schedule = EpochPolynomialSchedule | IterationWarmupSchedule


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set this learning rate for every parameter group of the optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], recipe: Recipe, *, initial_lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build the recipe's optimizer: SGD with Nesterov momentum (nnU-Net's) or AdamW."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, initial_lr, momentum=recipe.momentum, nesterov=True, weight_decay=weight_decay
        )
    return torch.optim.AdamW(parameters, initial_lr, betas=(recipe.momentum, 0.999), weight_decay=weight_decay)


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, *, initial_lr: float, num_epochs: int, iterations_per_epoch: int
) -> Schedule:
    """Build the recipe's schedule over the whole run."""
    if recipe.rate_per == "epoch":
        return EpochPolynomialSchedule(optimizer, initial_lr, num_epochs, recipe.decay_exponent)
    return IterationWarmupSchedule(
        optimizer,
        initial_lr,
        num_epochs * iterations_per_epoch,
        warmup_fraction=recipe.warmup_fraction,
        exponent=recipe.decay_exponent,
    )
