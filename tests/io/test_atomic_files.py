from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from segwright.errors import DatasetError, MissingFileError, WriteError
from segwright.io.atomic import atomic_path, flush_folders, write_json_atomic, write_text_atomic
from segwright.io.json_file import read_json


def test_the_temporary_name_keeps_the_ending_and_lies_on_the_same_disk(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "case.nii.gz") as temporary:
        assert temporary.name == "case.nii.gz"
        assert tmp_path / "new" in temporary.parents
        assert [path.name for path in (tmp_path / "new").glob("*.nii.gz")] == []
        temporary.write_text("whole")
    assert (tmp_path / "new" / "case.nii.gz").read_text() == "whole"
    assert os.listdir(tmp_path / "new") == ["case.nii.gz"]


def test_after_an_error_the_old_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomic(path, {"old": 1})

    def fail_in_the_middle() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ha")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail_in_the_middle()
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_told_by_the_files_name(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with atomic_path(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(WriteError, match=rf"a\.bin.*{os.strerror(errno.ENOSPC)}"):
        fill_the_disk()
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=os.strerror(errno.ENOTDIR)):
        write_text_atomic(tmp_path / "file" / "deeper" / "a.txt", "text")


@pytest.mark.parametrize("at_one_stroke", [True, False])
def test_folders_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_one_stroke: bool) -> None:
    import ctypes

    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    flushed: list[int] = []
    library = type("Library", (), {"syncfs": lambda descriptor: flushed.append(descriptor) or 0})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library if at_one_stroke else object())
    monkeypatch.setattr(os, "fsync", flushed.append)
    flush_folders([tmp_path, tmp_path / "folder"])
    assert len(flushed) == (1 if at_one_stroke else 4)


def test_json_keeps_the_order_of_keys_and_takes_numpy(tmp_path: Path) -> None:
    value = {"z": np.float32(0.5), "a": np.arange(3), "m": (np.int64(1), Path("x"))}
    write_json_atomic(tmp_path / "a.json", value)
    assert list(read_json(tmp_path / "a.json").items()) == [("z", 0.5), ("a", [0, 1, 2]), ("m", [1, "x"])]
    assert (tmp_path / "a.json").read_text().startswith('{\n    "z": 0.5,\n')


def test_reading_json_names_the_place_of_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(DatasetError, match=r"a\.json, line 2, column 6\b"):
        read_json(tmp_path / "a.json")
    with pytest.raises(MissingFileError, match=r"b\.json"):
        read_json(tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DatasetError, match=r"c\.json"):
        read_json(tmp_path / "c.json")


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
