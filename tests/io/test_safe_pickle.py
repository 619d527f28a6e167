from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.errors import CheckpointError, MissingFileError
from segwright.io.safe_pickle import dump_pickle, load_pickle, loads_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.marker)!r}, 'w').close()",))


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_any_protocol_comes_back(value: Any, protocol: int) -> None:
    assert loads_pickle(pickle.dumps(value, protocol=protocol), where="a.pkl") == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "int16", ">f8", "bool", "U3"])
def test_arrays_come_back(protocol: int, order: Any, dtype: str) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3).astype(dtype), order=order)
    data = pickle.dumps(array, protocol=protocol)
    back = loads_pickle(data, where="a.pkl")
    assert back.dtype == pickle.loads(data).dtype
    np.testing.assert_array_equal(back, array)


def test_what_nnunet_keeps_beside_a_case_comes_back(tmp_path: Path) -> None:
    properties = {
        "sitk_stuff": {"spacing": (1.0, 1.0, 3.0)},
        "spacing": [np.float64(3.0), np.float64(1.0)],
        "class_locations": {1: np.array([[0, 1, 2, 3]]), (1, 2): []},
        "bbox_used_for_cropping": [[0, np.int64(3)]],
        "ordered": collections.OrderedDict(a={1, 2}),
    }
    dump_pickle(properties, tmp_path / "a.pkl")
    back = load_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(back["class_locations"].pop(1), properties["class_locations"].pop(1))
    assert back == properties


def test_numpy_1_names_are_understood() -> None:
    data = pickle.dumps(np.float64(1.5), protocol=2).replace(b"numpy._core.", b"numpy.core.")
    assert loads_pickle(data, where="a.pkl") == 1.5


def test_a_malicious_pickle_is_refused_by_the_name_of_what_it_calls_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"properties": [Malicious(tmp_path / "ran")]}))
    with pytest.raises(CheckpointError, match=r"a\.pkl.*builtins\.exec"):
        load_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"ccopyreg\n_reconstructor\n.",
        b"cbuiltins\ngetattr\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tofile\x93.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    ],
)
def test_every_other_global_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pkl"):
        loads_pickle(data, where="a.pkl")


@pytest.mark.parametrize(
    ("dtype", "state"),
    [
        ("O", ()),  # whose bytes would be taken for addresses
        ("M8[ns]", ()),
        ("V8", ()),
        ("f8", (3, "<", None, None, None, 1 << 40, -1, 0)),
        ("f8", (3, "<", None, ("a",), {"a": (np.dtype("f8"), 99)}, -1, -1, 0)),
        ("f8", (3, "<", None, None, None, -1, -1, 63)),
    ],
)
def test_a_dtype_that_numpy_would_trust_in_vain_is_refused(dtype: str, state: Any) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.dtype, (dtype, False, True), state

    with pytest.raises(CheckpointError, match=r"a\.pkl"):
        loads_pickle(pickle.dumps([Crafted()]), where="a.pkl")


@pytest.mark.parametrize(
    "state",
    [
        (1, (1 << 40,), np.dtype("f8"), False, bytes(8)),
        (1, (-1,), np.dtype("f8"), False, bytes(8)),
        (1, (1,), np.dtype("f8"), False, [1.0]),
        (1, (1,), "f8", False, bytes(8)),
        (1, (2,), np.dtype("f8"), False, bytes(8)),
        (),
    ],
)
def test_an_array_that_is_not_its_bytes_is_refused(state: Any) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            return *np.zeros(0).__reduce__()[:2], state

    with pytest.raises(CheckpointError, match=r"a\.pkl"):
        loads_pickle(pickle.dumps(Crafted()), where="a.pkl")


def test_a_size_beyond_the_file_takes_no_memory() -> None:
    whole = pickle.dumps(bytearray(10), protocol=5)
    assert loads_pickle(whole, where="a.pkl") == bytearray(10)
    size = whole.index(pickle.BYTEARRAY8) + 1
    for claimed in (100, 1 << 50, (1 << 64) - 1):
        with pytest.raises(CheckpointError, match=r"a\.pkl"):
            loads_pickle(whole[:size] + claimed.to_bytes(8, "little") + whole[size + 8 :], where="a.pkl")


def test_any_bit_flipped_ends_in_data_or_a_named_error() -> None:
    value = {"a": [1.5, np.float32(2)], "locations": {1: np.arange(6).reshape(2, 3)}, "shape": (3, 4)}
    whole = pickle.dumps(value, protocol=4)
    refused = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            loads_pickle(bytes(damaged), where="a.pkl")
        except CheckpointError:
            refused += 1
    assert refused > 4 * len(whole)


def test_a_torn_pickle_is_told_as_such(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.zeros(1000)})
    (tmp_path / "a.pkl").write_bytes(whole[:-50])
    with pytest.raises(CheckpointError, match=r"a\.pkl"):
        load_pickle(tmp_path / "a.pkl")
    with pytest.raises(MissingFileError):
        load_pickle(tmp_path / "b.pkl")
