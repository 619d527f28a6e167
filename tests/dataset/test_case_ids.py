"""Ids of cases whose files would have the names of other cases' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from segwright.dataset import case_ids
from segwright.dataset.case_ids import collisions, collisions_elsewhere, ignores_case, require_apart
from segwright.errors import DatasetError


@pytest.mark.parametrize(
    ("ids", "colliding"),
    [
        (("x", "x_seg"), "x_seg"),
        (("x_seg", "x_seg_seg"), "x_seg_seg"),
        (("x_0000", "x"), "x_0000"),
        (("x", "x_0001"), "x_0001"),
    ],
)
def test_a_file_of_one_case_that_is_anothers_is_an_error(ids: tuple[str, ...], colliding: str, tmp_path: Path) -> None:
    (problem,) = collisions(ids, 2)
    assert (problem.severity, problem.case_id) == ("error", colliding)
    assert colliding.replace("_seg", "-seg").replace("_000", "-000").rpartition("-")[2] in problem.remedy
    with pytest.raises(DatasetError, match=colliding):
        require_apart(ids, 2, tmp_path)
    require_apart(ids, None, tmp_path)  # label maps alone do not collide


@pytest.mark.parametrize(
    "ids",
    [
        ("amos_0001", "amos_0002"),  # ids that end in four digits are common, and harm nothing
        ("x", "x_0002"),  # there is no such channel
        ("x", "y_seg"),
        ("x", "x_segment", "x_00000"),
        ("x", "xx", "x-seg"),
    ],
)
def test_ids_apart_are_no_error(ids: tuple[str, ...]) -> None:
    assert collisions(ids, 2) == []


@pytest.mark.parametrize("ids", [("Case", "case"), ("x", "X_SEG"), ("X", "x_0000"), ("M\u00fcller", "Mu\u0308ller")])
def test_ids_that_only_case_tells_apart_are_refused_where_the_disk_ignores_it(
    ids: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collisions(ids, 1) == []
    assert {problem.severity for problem in collisions_elsewhere(ids, 1)} == {"warning"}
    monkeypatch.setattr(case_ids, "ignores_case", lambda folder: False)
    require_apart(ids, 1, tmp_path)
    monkeypatch.setattr(case_ids, "ignores_case", lambda folder: True)
    with pytest.raises(DatasetError, match=ids[1]):
        require_apart(ids, 1, tmp_path)


def test_an_id_that_nnunet_leaves_out_is_a_warning() -> None:
    (problem,) = collisions_elsewhere(("a", "b_seg"), 1)
    assert (problem.severity, problem.case_id) == ("warning", "b_seg")
    assert collisions_elsewhere(("a", "b", "amos_0000"), 1) == []


def test_a_new_name_is_one_that_is_not_taken() -> None:
    (problem,) = collisions(("x", "x_seg", "X-seg"), 1)
    assert "x-seg-2" in problem.remedy


def test_a_disk_is_asked_whether_it_ignores_case(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert ignores_case(tmp_path / "not" / "there") == (tmp_path / "A").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
