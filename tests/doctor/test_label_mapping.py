from __future__ import annotations

from typing import Any

import pytest

from segwright.doctor.label_mapping import changed_values, declared_mapping, label_mapping, renumbered


@pytest.mark.parametrize(
    ("labels", "mapping"),
    [
        ({"background": 0, "a": 1}, {0: 0, 1: 1}),
        ({"background": 0, "b": 7, "a": 3}, {0: 0, 3: 1, 7: 2}),
        ({"background": 0, "a": "2", "ignore": 255}, {0: 0, 2: 1, 255: 2}),
        ({"background": 0, "ignore": 1, "a": 2}, {0: 0, 2: 1, 1: 2}),
        ({"background": 0, "whole": [1, 4], "core": 4}, {0: 0, 1: 1, 4: 2}),
        ({"a": 1, "b": 2}, {}),
        ([0, 1], {}),
        (None, {}),
    ],
)
def test_declared_values_become_consecutive(labels: Any, mapping: dict[int, int]) -> None:
    assert declared_mapping({"labels": labels}) == mapping


def test_the_description_is_renumbered_in_its_order() -> None:
    raw = {
        "name": "x",
        "labels": {"background": 0, "whole": [1, 4], "core": "4", "ignore": 9},
        "regions_class_order": [1, 4],
        "numTraining": 3,
    }
    result = renumbered(raw, declared_mapping(raw))
    assert list(result) == list(raw)
    assert result["labels"] == {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    assert result["regions_class_order"] == [1, 2]
    assert raw["labels"]["ignore"] == 9


def test_a_description_that_is_consecutive_stays_as_it_is() -> None:
    raw = {"labels": {"background": 0, "a": "1"}}
    assert renumbered(raw, {0: 0, 1: 1}) == raw


@pytest.mark.parametrize(
    ("found", "declared", "mapping"),
    [
        ({0, 1}, {0: 0, 1: 1}, {0: 0, 1: 1}),
        ({0}, {0: 0, 3: 1}, {0: 0, 3: 1}),
        ({0, 255}, {0: 0, 1: 1}, {0: 0, 1: 1, 255: 1}),
        ({0, 128, 255}, {0: 0, 5: 1, 7: 2}, {0: 0, 5: 1, 7: 2, 128: 1, 255: 2}),
        ({0, 2, 9}, {0: 0, 2: 1, 7: 2}, {0: 0, 2: 1, 7: 2, 9: 2}),
        ({0, 2, 3}, {0: 0, 1: 1, 2: 2}, None),
        ({1, 2}, {0: 0, 1: 1}, None),
        ({0, 255}, {0: 0, 1: 1, 2: 2}, None),
        ({0, 1, 255}, {0: 0, 1: 1}, None),
        ({0, 1, 255}, {0: 0, 1: 1, 2: 2}, None),
        ({0, 85, 170, 255}, {0: 0, 1: 1, 2: 2, 3: 3}, {0: 0, 1: 1, 2: 2, 3: 3, 85: 1, 170: 2, 255: 3}),
        ({0.0, 0.5}, {0: 0, 1: 1}, None),
        ({-1.0, 0.0}, {0: 0, 1: 1}, None),
        (set(), {0: 0, 1: 1}, {0: 0, 1: 1}),
    ],
)
def test_found_values_are_mapped_in_their_order_or_not_at_all(
    found: set[float], declared: dict[int, int], mapping: dict[int, int] | None
) -> None:
    assert label_mapping(found, declared) == mapping


def test_255_beside_known_labels_is_the_ignore_label_where_one_is_declared() -> None:
    assert label_mapping({0, 1, 255}, {0: 0, 1: 1, 2: 2}, declares_ignore=True) == {0: 0, 1: 1, 2: 2, 255: 2}


def test_only_what_changes_is_named() -> None:
    assert changed_values({0: 0, 128: 1, 255: 2}) == "128 -> 1, 255 -> 2"
