"""Damaged files of a preprocessed case are named, as far as their format lets the damage be seen."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segwright.errors import ImageError, SegwrightError
from segwright.io.safe_pickle import UnsafePickleError
from segwright.preprocessing.pipeline import PreprocessedCase
from segwright.preprocessing.store import PreprocessedStore

SHAPE = (1, 20, 24, 22)
NAMES = ("a.b2nd", "a_seg.b2nd", "a.pkl")


class RunsCode:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("code was run",)


@pytest.fixture
def store(tmp_path: Path) -> PreprocessedStore:
    rng = np.random.default_rng(0)
    made = PreprocessedStore(tmp_path / "store")
    case = PreprocessedCase(
        data=rng.normal(size=SHAPE).astype(np.float32),
        seg=(rng.random(SHAPE) < 0.1).astype(np.int16),
        properties={"spacing": [1.0, 1.0, 1.0], "class_locations": {1: np.zeros((3, 4), np.int64)}},
    )
    made.write("a", case, (8, 8, 8))
    return made


def read_all(store: PreprocessedStore) -> None:
    fresh = PreprocessedStore(store.folder)
    case = fresh.open("a")
    data, seg = case.data[:], case.seg[:, 2:9]
    assert data.shape[1:] == SHAPE[1:]
    assert seg.shape == (1, 7, *SHAPE[2:])
    fresh.read_properties("a")


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused(store: PreprocessedStore, name: str) -> None:
    read_all(store)
    whole = (store.folder / name).read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20).astype(int):
        (store.folder / name).write_bytes(whole[:length])
        with pytest.raises(SegwrightError, match=name):
            read_all(store)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_end_in_a_named_error_or_unseen(store: PreprocessedStore, name: str) -> None:
    whole = (store.folder / name).read_bytes()
    rng = np.random.default_rng(1)
    places = [
        *rng.integers(0, 200, 60),
        *rng.integers(0, len(whole), 60),
        *rng.integers(len(whole) - 300, len(whole), 60),
    ]
    refused: list[str] = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place % len(whole)] ^= 1 << int(rng.integers(8))
        (store.folder / name).write_bytes(damaged)
        try:
            read_all(store)
        except SegwrightError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all("store" in text for text in refused)


def test_arrays_of_different_shapes_are_refused(store: PreprocessedStore) -> None:
    case = PreprocessedCase(np.zeros((1, 4, 5, 6), np.float32), np.zeros((1, 4, 5, 6), np.int16), {})
    store.write("b", case, (4, 4, 4))
    (store.folder / "a_seg.b2nd").write_bytes((store.folder / "b_seg.b2nd").read_bytes())
    with pytest.raises(ImageError, match=r"a\.b2nd.*\(1, 4, 5, 6\)"):
        store.open("a")


def test_a_pickle_that_runs_code_is_refused_unread(
    store: PreprocessedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.folder / "a.pkl").write_bytes(pickle.dumps({"spacing": RunsCode()}))
    with pytest.raises(UnsafePickleError, match=r"a\.pkl.*builtins\.print"):
        store.read_properties("a")
    assert capsys.readouterr().out == ""
