"""JSON is read or refused with the place named; nothing gets through that Python itself would stumble over later."""

from __future__ import annotations

import os
import re
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
        (b"", r"a\.json, line 1, column 1\b"),
        (WHOLE[:-5], r"a\.json, line 1, column \d+\b"),
        (WHOLE + b"}", rf"line 1, column {len(WHOLE) + 1}\b"),
        (WHOLE.replace(b'"', b"'"), r"a\.json, line 1, column 2\b"),
        (WHOLE.decode().encode("utf-16"), r"a\.json.*UTF-8"),
        (WHOLE.replace(b"background", b"\xe9"), r"a\.json.*UTF-8"),
        (b'{"a": 1, "b": 2, "a": 3}', r"a\.json.*'a' 2 "),
        (b'{"a": ' + b"9" * 19 + b"9}", "18 digits.* 20"),
        (b'{"a": ' + b"9" * 5000 + b"}", "18 digits.* 5000"),
        (b"[" * 60 + b"]" * 60, r"a\.json.* 50 "),
        (b"[" * 200_000 + b"]" * 200_000, r"a\.json.* 50 "),
        (b'{"a":' * 200_000, r"a\.json.* 50 "),
        (bytes(100), r"a\.json, line 1, column 1\b"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PlanError, match=said):
        read_json(tmp_path / "a.json", error=PlanError)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.json"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
        read_json(tmp_path)
    os.symlink(tmp_path / "gone.json", tmp_path / "link.json")
    with pytest.raises(MissingFileError, match=r"link\.json"):
        read_json(tmp_path / "link.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DatasetError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
