from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from segwright.inference.tiling import gaussian_importance, tile_starts


def test_the_documented_example() -> None:
    assert tile_starts([110], [64], step_size=0.5) == [[0, 23, 46]]


def test_an_image_as_large_as_the_tile_has_one() -> None:
    assert tile_starts([64, 32], [64, 32], step_size=0.5) == [[0], [0]]


@given(tile=st.integers(1, 100), extra=st.integers(0, 300), step_size=st.floats(0.05, 1))
def test_tiles_cover_the_axis_in_steps_no_wider_than_asked(tile: int, extra: int, step_size: float) -> None:
    (starts,) = tile_starts([tile + extra], [tile], step_size=step_size)
    assert starts[0] == 0
    assert starts[-1] == extra
    assert all(0 <= step < tile * step_size + 1 for step in np.diff(starts))
    assert all(step <= tile for step in np.diff(starts)), "no gap"


@pytest.mark.parametrize("tile_size", [(8, 8, 8), (40, 56, 40), (13, 1, 7), (64, 33), (1, 1), (5, 160, 9)])
def test_importance_equals_the_filtered_impulse(tile_size: tuple[int, ...]) -> None:
    impulse = np.zeros(tile_size)
    impulse[tuple(size // 2 for size in tile_size)] = 1
    reference = gaussian_filter(impulse, [size / 8 for size in tile_size], mode="constant")
    reference = (reference / (reference.max() / 10)).astype(np.float16)
    reference[reference == 0] = reference[reference > 0].min()
    found = gaussian_importance(tile_size)
    assert found.dtype == np.float32
    assert np.array_equal(found, reference.astype(np.float32))


def test_importance_of_a_large_tile_is_never_zero() -> None:
    importance = gaussian_importance((128, 128, 128))
    assert importance.max() == 10
    assert importance.min().item() == pytest.approx(5.96e-8, rel=1e-2)


def test_tiles_equal_nnunets() -> None:
    with np.load(Path(__file__).parents[1] / "golden" / "networks" / "tiles.npz") as content:
        golden = dict(content)
    for entry in json.loads(str(golden.pop("steps"))):
        assert tile_starts(entry["image"], entry["tile"], step_size=entry["step"]) == entry["starts"]
    assert len(golden) == 4
    for name, importance in golden.items():
        tile_size = tuple(map(int, name.removeprefix("importance_").split("x")))
        assert importance.dtype == np.float16
        assert np.array_equal(gaussian_importance(tile_size), importance.astype(np.float32)), name
