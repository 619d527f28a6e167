"""What killed processes left unfinished is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK

from segwright.io.atomic import atomic_path, write_text_atomic
from segwright.io.leftovers import sweep_once, temporary_prefix

WRITER = """
import sys
from pathlib import Path
from segwright.io.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(flush=True)
    sys.stdin.read()
"""


def start_writing(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the age of what was left is known")
def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_live_one_goes_on(tmp_path: Path) -> None:
    with start_writing(tmp_path / "killed.txt") as killed, start_writing(tmp_path / "alive.txt") as alive:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".segwright-*"))) == 2
        write_text_atomic(tmp_path / "mine.txt", "text")
        assert len(list(tmp_path.glob(".segwright-*"))) == 1
        alive.communicate(b"")
    assert sorted(os.listdir(tmp_path)) == ["alive.txt", "mine.txt"]


KILLED_IN_ITK = """
import os, signal, sys
from pathlib import Path
import SimpleITK
from segwright.io import reader_named
SimpleITK.ImageFileReader.ReadImageInformation = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
reader_named("SimpleITKIO").read_labels(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the age of what was left is known")
def test_what_a_killed_reader_left_among_temporary_files_is_removed_by_the_next(tmp_path: Path) -> None:
    image, temporary = tmp_path / "a.nii.gz", tmp_path / "temporary"
    SimpleITK.WriteImage(SimpleITK.Image([3, 4, 5], SimpleITK.sitkUInt8), str(image))
    temporary.mkdir()
    environ = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", KILLED_IN_ITK, str(image)], env=environ, check=False)
    assert [path.name.startswith(".segwright-") for path in temporary.iterdir()] == [True]
    sweep_once(temporary)
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="elsewhere files have no such owner")
def test_what_others_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = leave(tmp_path, ".segwright-abcdefgh", days_ago=9)
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
    sweep_once(tmp_path)
    assert (left / "a.nii.gz").exists()


def leave(folder: Path, name: str, *, days_ago: float) -> Path:
    """A temporary folder with one file, last written to so long ago."""
    left = folder / name
    left.mkdir()
    (left / "a.nii.gz").write_text("half")
    moment = time.time() - days_ago * 86400
    for path in (left / "a.nii.gz", left):
        os.utime(path, (moment, moment))
    return left


@pytest.mark.parametrize("name", [".segwright-abcdefg1", ".segwright-0badcafe-1-17-abc_efg1"])
def test_what_comes_from_elsewhere_is_removed_once_it_is_old(tmp_path: Path, name: str) -> None:
    new = leave(tmp_path, name, days_ago=0.5)
    old = leave(tmp_path, name[:-1] + "2", days_ago=2)
    sweep_once(tmp_path)
    assert new.exists()
    assert not old.exists()


def test_what_is_not_ours_by_name_and_content_stays(tmp_path: Path) -> None:
    foreign = [leave(tmp_path, name, days_ago=9) for name in (".segwright", ".segwright-notes", "segwright-abcdefgh")]
    deep = leave(tmp_path, ".segwright-abcdefgh", days_ago=9)
    (deep / "folder").mkdir()
    os.utime(deep, (0, 0))
    elsewhere = leave(tmp_path, "elsewhere", days_ago=9)
    (tmp_path / ".segwright-linklink").symlink_to(elsewhere)
    sweep_once(tmp_path)
    assert all(path.is_dir() for path in (*foreign, deep, tmp_path / ".segwright-linklink"))
    assert (elsewhere / "a.nii.gz").exists()


def test_own_files_are_never_swept(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        os.utime(temporary.parent, (0, 0))
        assert temporary.parent.name.startswith(temporary_prefix())
        sweep_once.__wrapped__(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "whole"
