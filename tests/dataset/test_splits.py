from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from segwright.dataset import Split, create_splits, read_splits, split_for_fold, write_splits
from segwright.errors import DatasetError, MissingFileError

TEN = [f"case_{number:02d}" for number in range(10)]


def test_ten_cases_are_split_as_nnunet_splits_them() -> None:
    held_out = [[0, 7], [3, 9], [4, 6], [1, 8], [2, 5]]
    splits = create_splits(reversed(TEN))
    assert [split.val for split in splits] == [tuple(f"case_{number:02d}" for number in fold) for fold in held_out]
    assert splits[0].train == tuple(case_id for case_id in TEN if case_id not in splits[0].val)


@examples(30)
@given(st.integers(5, 300))
def test_folds_equal_scikit_learns(count: int) -> None:
    from sklearn.model_selection import KFold

    ids = np.array(sorted(f"c{number}" for number in range(count)))
    expected = [
        Split(tuple(ids[train].tolist()), tuple(ids[val].tolist()))
        for train, val in KFold(5, shuffle=True, random_state=12345).split(ids)
    ]
    assert create_splits(ids.tolist()) == expected


def test_fewer_than_five_cases_are_refused_with_a_way_out() -> None:
    with pytest.raises(DatasetError, match=r"5 cases.* 4.*'all'"):
        create_splits(TEN[:4])


@examples(50)
@given(st.lists(st.integers(1, 6), min_size=5, max_size=60), st.randoms())
def test_groups_stay_together_and_folds_are_balanced(sizes: list[int], random: Any) -> None:
    groups = {f"p{patient}_{scan}": f"p{patient}" for patient, size in enumerate(sizes) for scan in range(size)}
    ids = list(groups)
    splits = create_splits(ids, groups)
    assert sorted(case_id for split in splits for case_id in split.val) == sorted(ids)
    for split in splits:
        assert sorted((*split.train, *split.val)) == sorted(ids)
        assert not {groups[case_id] for case_id in split.train} & {groups[case_id] for case_id in split.val}
    held_out = [len(split.val) for split in splits]
    assert max(held_out) - min(held_out) <= max(sizes)
    random.shuffle(ids)
    assert create_splits(ids, groups) == splits


def test_fewer_than_five_groups_and_cases_without_one_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"5 groups.* 2"):
        create_splits(TEN, {case_id: "a" if case_id < "case_05" else "b" for case_id in TEN})
    with pytest.raises(DatasetError, match="case_09"):
        create_splits(TEN, {case_id: case_id for case_id in TEN[:9]})


def test_splits_come_back_as_nnunet_writes_them(tmp_path: Path) -> None:
    splits = create_splits(TEN)
    write_splits(tmp_path / "splits_final.json", splits)
    assert read_splits(tmp_path / "splits_final.json") == splits
    value = json.loads((tmp_path / "splits_final.json").read_text())
    assert [list(entry) for entry in value] == [["train", "val"]] * 5


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"train": []}, r"s\.json"),
        ([], r"s\.json"),
        ([{"train": ["a"]}], r"s\.json, fold 0, key 'val'.*None"),
        ([{"train": ["a"], "val": []}, {"train": "a", "val": []}], r"fold 1, key 'train'.*'a'"),
        ([{"train": [1], "val": []}], r"fold 0, key 'train'.*\[1\]"),
        ([{"train": [], "val": ["a"]}], r"fold 0, key 'train'"),
        ([{"train": ["a", "b", "a"], "val": []}], r"fold 0, key 'train'.* a\."),
        (["a"], r"fold 0, key 'train'"),
        ([{"train": ["../../esc"], "val": []}], r"fold 0, key 'train'.*esc"),
        ([{"train": ["a"], "val": ["/etc/x"]}], r"fold 0, key 'val'.*etc"),
    ],
)
def test_a_malformed_file_is_told_by_fold_and_key(tmp_path: Path, value: Any, said: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps(value))
    with pytest.raises(DatasetError, match=said):
        read_splits(tmp_path / "s.json")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_splits(tmp_path / "s.json")


def test_fold_all_trains_and_validates_on_everything() -> None:
    split = split_for_fold([], "all", ["b", "a"])
    assert split == Split(("a", "b"), ("a", "b"))
    assert split.overlap == ("a", "b")


def test_a_fold_is_found_and_has_no_overlap() -> None:
    splits = create_splits(TEN)
    assert split_for_fold(splits, 3, TEN) == splits[3]
    assert splits[3].overlap == ()
    assert Split(("a", "b"), ("b", "c")).overlap == ("b",)


@pytest.mark.parametrize("fold", [5, -1, True, "0", 1.0])
def test_a_fold_that_does_not_exist_lists_those_that_do(fold: Any) -> None:
    with pytest.raises(DatasetError, match=rf"fold.* 0, 1, 2, 3, 4, or all.* {fold}\b"):
        split_for_fold(create_splits(TEN), fold, TEN)


def test_a_fold_that_validates_on_nothing_is_refused() -> None:
    splits = [Split(tuple(TEN), ()), Split(tuple(TEN[:5]), tuple(TEN[5:]))]
    assert split_for_fold(splits, 1, TEN) == splits[1]
    with pytest.raises(DatasetError, match="key 'val'"):
        split_for_fold(splits, 0, TEN)


def test_unknown_cases_are_named() -> None:
    splits = [Split(("case_00", "ghost"), (*(f"u{number}" for number in range(6)),))]
    with pytest.raises(DatasetError, match=r"fold 0.* 10 cases.* ghost, u0, u1, u2, u3 .*2"):
        split_for_fold(splits, 0, TEN)
