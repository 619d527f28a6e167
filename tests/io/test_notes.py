"""Notes of what was done, a line a case."""

from __future__ import annotations

from pathlib import Path

import pytest

from segwright.io.notes import add_note, read_notes


def test_the_last_note_of_a_case_counts(tmp_path: Path) -> None:
    for case_id, value in (("a", 1), ("b", [2]), ("a", None)):
        add_note(tmp_path / "notes", case_id, value)
    assert read_notes(tmp_path / "notes") == {"a": None, "b": [2]}


def test_a_note_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / "notes").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="notes"):
        add_note(tmp_path / "notes", "a", 1)
    assert (tmp_path / "mine").read_text() == "years of work"
