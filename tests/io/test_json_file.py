"""JSON is read or refused with the place named; nothing gets through that Python itself would stumble over later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segwright.errors import DatasetError, MissingFileError, PlanError
from segwright.io.json_file import read_json

WHOLE = b'{"labels": {"background": 0}, "numTraining": 3}'


def test_keys_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"b": 1, "a": [1.5, NaN, null], "c": -999999999999999999}')
    value = read_json(tmp_path / "a.json")
    assert list(value) == ["b", "a", "c"]
    assert value["c"] == -999_999_999_999_999_999


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + WHOLE)
    assert read_json(tmp_path / "a.json")["numTraining"] == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"a\.json, line 1, column 1: expected valid JSON"),
        (WHOLE[:-5], r"line 1, column \d+: expected valid JSON"),
        (WHOLE + b"}", r"line 1, column \d+: expected valid JSON, got Extra data"),
        (WHOLE.replace(b'"', b"'"), "expected valid JSON"),
        (WHOLE.decode().encode("utf-16"), r"a\.json: expected a readable JSON file in UTF-8"),
        (WHOLE.replace(b"background", b"\xe9"), "expected a readable JSON file in UTF-8"),
        (b'{"a": 1, "b": 2, "a": 3}', r"a\.json: expected every key of an object once, got 'a' 2 times"),
        (b'{"a": ' + b"9" * 19 + b"9}", "expected numbers of at most 18 digits, got one of 20"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected numbers of at most 18 digits, got one of 5000"),
        (b"[" * 60 + b"]" * 60, "expected values nested at most 50 deep"),
        (b"[" * 200_000 + b"]" * 200_000, "expected values nested at most 50 deep"),
        (b'{"a":' * 200_000, "expected values nested at most 50 deep"),
        (bytes(100), "expected valid JSON"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PlanError, match=said):
        read_json(tmp_path / "a.json", error=PlanError)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.json: expected this file"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(DatasetError, match="expected a JSON file, got a folder"):
        read_json(tmp_path)
    os.symlink(tmp_path / "gone.json", tmp_path / "link.json")
    with pytest.raises(MissingFileError, match=r"link\.json"):
        read_json(tmp_path / "link.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DatasetError, match="got a pipe or device"):
        read_json(tmp_path / "a.json")
