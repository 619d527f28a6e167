"""Each compiled loop against the same thing said plainly, voxel by voxel."""

from __future__ import annotations

import importlib.util
import math
import pkgutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

import segwright
from examples import examples
from segwright.kernels import decide, interpolate_labels, interpolate_logits_to_labels
from segwright.preprocessing.operators import axis_table

# each kernel, and the tests that hold it against a plain reference, against scipy or against torch
TESTED_IN = {
    "segwright.kernels.interpolate_labels": "test_kernels.py",
    "segwright.kernels.interpolate_logits_to_labels": "test_kernels.py",
    "segwright.kernels.decide": "test_kernels.py",
    "segwright.augmentation.kernels.blur_volume": "augmentation/test_intensity_kernels.py",
    "segwright.augmentation.kernels.enlarge_volume": "augmentation/test_intensity_kernels.py",
    "segwright.augmentation.kernels.sums": "augmentation/test_intensity_kernels.py",
    "segwright.augmentation.kernels.scale_shift_clip": "augmentation/test_intensity_kernels.py",
    "segwright.augmentation.sampling_kernels.sample_volume": "augmentation/test_spatial.py",
    "segwright.augmentation.sampling_kernels.sample_planes": "augmentation/test_spatial.py",
}

shapes = st.tuples(*[st.integers(1, 5)] * 3)
seeds = st.integers(0, 10_000)
Tap = tuple[tuple[int, ...], tuple[float, ...]]


def test_every_kernel_has_a_test_against_a_plain_reference() -> None:
    found = set()
    for module_info in pkgutil.walk_packages(segwright.__path__, "segwright."):
        source = Path(importlib.util.find_spec(module_info.name).origin or "")
        if source.suffix != ".py" or ("numba" not in source.read_text() and "@compiled" not in source.read_text()):
            continue
        module = importlib.import_module(module_info.name)
        found |= {
            f"{module.__name__}.{name}"
            for name, value in vars(module).items()
            if isinstance(value, Dispatcher) and not name.startswith("_") and value.__module__ == module.__name__
        }
    assert found == set(TESTED_IN)


def test_kernels_are_compiled_where_nothing_can_be_kept_on_disk() -> None:
    """As in a read-only container, or for a user without a home whose administrator installed the package."""
    script = """
import numba.core.caching as caching

def refuse(self):
    raise OSError(30, "Read-only file system")

for kind in vars(caching).values():
    if isinstance(kind, type) and issubclass(kind, caching._CacheLocator):
        kind.ensure_cache_path = refuse

import numpy as np
import segwright.augmentation.sampling_kernels
from segwright.kernels import decide

winners = np.zeros(2, np.int32)
decide(np.array([[1, 0], [0, 1]], np.float32), False, winners)
print(winners)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[0 1]\n"


def cells(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], list[Tap], tuple[int, ...]]]:
    """Each new voxel with the eight old ones around it, their weights, and the nearest old one."""
    places = [(np.arange(n) + 0.5) * (size / n) - 0.5 for size, n in zip(old, new, strict=True)]
    for voxel in np.ndindex(*new):
        position = [float(places[axis][voxel[axis]]) for axis in range(3)]
        taps = []
        for upper in np.ndindex(2, 2, 2):
            index, weights = [], []
            for at, is_upper, size in zip(position, upper, old, strict=True):
                lower = int(np.floor(at))
                weights.append(at - lower if is_upper else 1.0 - (at - lower))
                index.append(min(max(lower + is_upper, 0), size - 1))
            taps.append((tuple(index), tuple(weights)))
        nearest = [min(max(int(np.floor(at + 0.5)), 0), size - 1) for at, size in zip(position, old, strict=True)]
        yield voxel, taps, tuple(nearest)


def plain_labels(labels: NDArray[Any], new: tuple[int, ...]) -> NDArray[np.int16]:
    out = np.empty(new, np.int16)
    for voxel, taps, nearest in cells(labels.shape, new):
        votes: dict[int, float] = defaultdict(float)
        for index, weights in taps:
            votes[int(labels[index])] += math.prod(weights)
        winners = [label for label, vote in votes.items() if vote == max(votes.values())]
        out[voxel] = labels[nearest] if labels[nearest] in winners else min(winners)
    return out


def interpolated(channel: NDArray[np.float32], taps: list[Tap]) -> np.float32:
    """Products and sums in the kernel's order, for voxels that come out at nothing but for rounding."""
    total = 0.0
    for index, weights in taps:
        total += math.prod(weights, start=float(channel[index]))
    return np.float32(total)


def plain_decisions(
    logits: NDArray[np.float32], new: tuple[int, ...], drawn_as: list[int], regions: bool
) -> NDArray[np.int16]:
    out = np.zeros(new, np.int16)
    for voxel, taps, _ in cells(logits.shape[1:], new):
        values = [interpolated(channel, taps) for channel in logits]
        if not regions:
            out[voxel] = drawn_as[int(np.argmax(values))]
            continue
        for value, label in zip(values, drawn_as, strict=True):
            if value > 0:
                out[voxel] = label
    return out


def tables(old: tuple[int, ...], new: tuple[int, ...]) -> list[NDArray[Any]]:
    made = [axis_table(size, n) for size, n in zip(old, new, strict=True)]
    return [part for table in made for part in (table.taps, table.weights)]


@given(shapes, shapes, st.integers(1, 9), seeds)
@examples(40)
def test_labels_are_those_with_the_most_votes(
    old: tuple[int, ...], new: tuple[int, ...], count: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(-1, count, old).astype(np.int16)
    out = np.empty(new, np.int16)
    interpolate_labels(labels, *tables(old, new), out)
    np.testing.assert_array_equal(out, plain_labels(labels, new))


@given(shapes, shapes, st.booleans(), st.integers(1, 5), seeds)
@examples(40)
def test_label_maps_of_logits_are_decided_voxel_by_voxel(
    old: tuple[int, ...], new: tuple[int, ...], regions: bool, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (count, *old)).astype(np.float32)
    drawn_as = rng.permutation(count) + 1
    winners, out = np.empty(old, np.int32), np.empty(new, np.int16)
    decide(logits.reshape(count, -1), regions, winners.reshape(-1))
    interpolate_logits_to_labels(logits, winners, *tables(old, new), drawn_as.astype(np.int16), regions, out)
    expected = plain_decisions(logits, new, drawn_as.tolist(), regions)
    np.testing.assert_array_equal(out, expected)


@given(st.integers(1, 12), st.integers(1, 8), st.booleans(), seeds)
@examples(40)
def test_decisions_are_the_first_of_the_largest_or_the_bits_above_zero(
    voxels: int, count: int, regions: bool, seed: int
) -> None:
    logits = np.random.default_rng(seed).integers(-2, 3, (count, voxels)).astype(np.float32)
    winners = np.empty(voxels, np.int32)
    decide(logits, regions, winners)
    bits = [sum(1 << channel for channel in range(count) if column[channel] > 0) for column in logits.T]
    assert winners.tolist() == (bits if regions else logits.argmax(axis=0).tolist())
