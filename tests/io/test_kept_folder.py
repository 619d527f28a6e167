from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segwright.errors import MissingFileError, WriteError
from segwright.io.atomic import atomic_path, write_text_atomic
from segwright.io.kept_folder import kept_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "fold_0").mkdir(parents=True)
    return tmp_path / "model" / "fold_0"


@pytest.mark.parametrize("what", ["deleted", "parent deleted", "replaced"])
def test_nothing_is_written_to_a_folder_that_is_gone(folder: Path, what: str) -> None:
    with kept_folder(folder):
        write_text_atomic(folder / "validation" / "a.txt", "text")
        shutil.rmtree(folder.parent if what == "parent deleted" else folder)
        if what == "replaced":
            folder.mkdir()
        with pytest.raises(MissingFileError, match="fold_0"):
            write_text_atomic(folder / "validation" / "b.txt", "text")
        assert not (folder / "validation").exists()
        write_text_atomic(folder.parent / "beside.txt", "text")
    write_text_atomic(folder / "b.txt", "text")


def test_a_folder_may_be_deleted_in_the_middle_of_writing(folder: Path) -> None:
    def delete_meanwhile() -> None:
        with atomic_path(folder / "a.txt") as temporary:
            temporary.write_text("text")
            shutil.rmtree(folder)

    with pytest.raises(WriteError, match=r"a\.txt"):
        delete_meanwhile()
    folder.mkdir()
    with kept_folder(folder), pytest.raises(MissingFileError, match="fold_0"):
        delete_meanwhile()
    assert not folder.exists()
