"""The search finds the largest batch that fits, in few trials, whatever the guess."""

from __future__ import annotations

import pytest

from segwright.explain.max_batch import LARGEST, LargestBatch, largest_batch
from segwright.explain.step_measurement import StepMeasurement

PATCH, LIMIT = 100, 10_000


def search(largest: int, first: int, *, measured: bool = True) -> LargestBatch:
    """Search on a device that takes `largest` patches at most."""

    def try_batch(batch_size: int) -> StepMeasurement:
        if batch_size > largest:
            return StepMeasurement("cpu", batch_size, "out of memory", limit_bytes=PATCH * largest + 50)
        if not measured:
            return StepMeasurement("mps", batch_size, None)
        limit = PATCH * largest + 50
        return StepMeasurement("cpu", batch_size, None, None, PATCH * batch_size, 0, limit, 1.0)

    return largest_batch(try_batch, first=first)


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("first", [1, 3, 7, 20, 5000])
@pytest.mark.parametrize("largest", [1, 2, 7, 19, 20])
def test_small_batches_are_found_to_the_patch(largest: int, first: int, measured: bool) -> None:
    found = search(largest, first, measured=measured)
    assert found.batch_size == largest
    assert found.limited
    tried = [trial.batch_size for trial in found.trials]
    assert len(set(tried)) == len(tried)


def test_large_batches_are_found_to_five_percent_in_few_trials() -> None:
    found = search(333, 280)
    assert 316 <= found.batch_size <= 333
    assert len(found.trials) <= 6


def test_not_even_one_patch_may_fit() -> None:
    found = search(0, 4)
    assert found.batch_size == 0
    assert not any(trial.fits for trial in found.trials)
    assert found.trials[-1].batch_size == 1


def test_the_search_ends_where_everything_fits() -> None:
    found = search(10 * LARGEST, 1, measured=False)
    assert found.batch_size == LARGEST
    assert not found.limited
    assert found.to_json()["limited"] is False


def test_trials_are_told_as_they_end() -> None:
    told: list[int] = []
    largest_batch(
        lambda size: StepMeasurement("cpu", size, None if size < 3 else "full"),
        first=2,
        told=lambda trial: told.append(trial.batch_size),
    )
    assert told == [2, 4, 3]
