"""The random generators of a step, seeded from (seed, fold, epoch, step), so their states need not be stored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

from segwright.training.sampling import SampleIndex, derived_number

_FOLD_STEP = 0x9E3779B97F4A7C15  # odd, like its low half: no two folds share a seed
_WORD = 1 << 32
_START = SampleIndex(0, 0, 0)


class Moment(IntEnum):
    """What draws next. The numbers select streams beside those of `sampling`, so all streams differ."""

    TRAINING_SAMPLE = 2
    VALIDATION_SAMPLE = 3
    TRAIN_START = 4
    EPOCH_START = 5
    TRAINING_STEP = 6
    TRAIN_EPOCH_END = 7
    VALIDATION_STEP = 8
    TRAIN_END = 9


def seed_of_fold(seed: int, fold: int | str) -> int:
    """Seed of weights, patches and augmentation of one fold: that of fold 0 is `seed`; "all" counts as fold -1."""
    return (seed + (-1 if fold == "all" else int(fold)) * _FOLD_STEP) % (1 << 64)


def seed_generators(number: int) -> None:
    """Set the generators of torch (every device in use), numpy and Python from one number below 2^64."""
    # torch.manual_seed records the call for every device that is not in use, which takes 240 us; this takes 10 us.
    torch.default_generator.manual_seed(number)
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            device.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)
    # All three use the same algorithm: with the same seed they would draw the same bits.
    np.random.seed([number % _WORD, number // _WORD, 1])
    random.seed(number)


def draw_for(seed: int, moment: Moment, index: SampleIndex = _START) -> None:
    """Seed every generator for what comes next, equally in any loading process and in a continued run."""
    seed_generators(derived_number(seed, moment, index))


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore the caller's CPU generators afterwards."""
    of_torch, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)
        random.setstate(of_python)
