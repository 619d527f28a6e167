from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.errors import DatasetError
from segwright.labels import Labels, mask_of

PLAIN = {"background": 0, "b": 2, "a": 1}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_plain_labels() -> None:
    labels = Labels.from_json(PLAIN)
    assert not labels.has_regions
    assert labels.all_labels == (0, 1, 2)
    assert labels.foreground_labels == (1, 2)
    assert labels.foreground_regions == (2, 1)
    assert labels.classes == (1, 2)
    assert labels.num_outputs == 3
    assert labels.num_declared == 3
    assert labels.allowed_values == {0, 1, 2}
    assert labels.ignore_label is None
    assert labels.name_of(2) == "b"


def test_regions_keep_the_declared_order_and_single_values_stay_numbers() -> None:
    labels = Labels.from_json(REGIONS, [1, 2, 3])
    assert labels.has_regions
    assert labels.foreground_regions == ((1, 2, 3), (2, 3), 3)
    assert labels.classes == labels.foreground_regions
    assert labels.num_outputs == 3
    assert labels.all_labels == (0, 1, 2, 3)
    assert labels.regions_class_order == (1, 2, 3)
    assert labels.name_of((2, 3)) == "core"
    assert labels.name_of((3,)) == "enhancing"
    assert labels.name_of((1, 3)) == "(1, 3)"


def test_background_as_a_list_is_no_region() -> None:
    labels = Labels.from_json({"background": [0], "a": [1]})
    assert not labels.has_regions
    assert labels.foreground_labels == (1,)
    assert labels.num_outputs == 2


def test_the_ignore_label_may_stand_in_label_maps_but_is_no_class() -> None:
    labels = Labels.from_json({**PLAIN, "ignore": 3})
    assert labels.ignore_label == 3
    assert labels.all_labels == (0, 1, 2)
    assert labels.num_outputs == 3
    assert labels.num_declared == 4
    assert labels.allowed_values == {0, 1, 2, 3}
    with_regions = Labels.from_json({**REGIONS, "ignore": 4}, [1, 2, 3])
    assert with_regions.num_outputs == 3
    assert with_regions.ignore_label == 4


@pytest.mark.parametrize(
    ("labels", "order", "said"),
    [
        (None, None, r"d\.json, key 'labels'.*None"),
        ({}, None, r"d\.json, key 'labels'.*\{\}"),
        ({"a": 1}, None, r"background.* 0.*\[1\]"),
        ({"background": 0, "a": -1}, None, r"label 'a'.*-1"),
        ({"background": 0, "a": 1.0}, None, r"label 'a'.*1\.0"),
        ({"background": 0, "a": True}, None, r"label 'a'.*True"),
        ({"background": 0, "a": 65536}, None, r"label 'a'.*65536"),
        ({"background": 0, "a": "9" * 5000}, None, r"label 'a'"),
        ({"background": 0, "a": [1, 10**15]}, None, r"label 'a'"),
        (REGIONS, [1, 2, 65536], r"key 'regions_class_order'.*65536"),
        (dict.fromkeys(map(str, range(10**6)), 0), None, r"key 'labels'.*1000000"),
        ({"background": 0, "a": []}, None, r"label 'a'.*\[\]"),
        ({"background": 0, "a": [1, "2"]}, None, r"label 'a'"),
        ({"background": 0, "a": 1, "ignore": 1}, None, r"label 'ignore'.* 2, .* 1"),
        ({"background": 0, "a": 1, "ignore": 5}, None, r"label 'ignore'.* 5"),
        ({"background": 0, "a": 1, "ignore": [2]}, None, r"label 'ignore'.*\(2,\)"),
        (REGIONS, None, r"key 'regions_class_order'.* 3 "),
        (REGIONS, [1, 2], r"key 'regions_class_order'.*\[1, 2\]"),
        (REGIONS, "123", r"key 'regions_class_order'.*'123'"),
    ],
)
def test_what_is_wrong_is_told(labels: Any, order: Any, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        Labels.from_json(labels, order, where="d.json")


@pytest.mark.parametrize(("foreground", "dtype"), [(1, np.uint8), (254, np.uint8), (255, np.uint16)])
def test_the_type_of_a_label_map_follows_the_number_of_labels(foreground: int, dtype: type) -> None:
    labels = Labels.from_json({"background": 0, **{f"l{value}": value for value in range(1, foreground + 1)}})
    assert labels.label_map_dtype == dtype


def test_the_type_of_a_label_map_holds_the_largest_value() -> None:
    assert Labels.from_json({"background": 0, "a": 300}).label_map_dtype == np.uint16
    assert Labels.from_json({"background": 0, "a": 255}).label_map_dtype == np.uint8
    assert Labels.from_json({"background": 0, "ab": [1, 2], "b": 2}, [1, 300]).label_map_dtype == np.uint16


def test_as_many_labels_as_a_label_map_can_hold_are_named() -> None:
    labels = Labels.from_json({"background": 0, **{f"l{value}": value for value in range(1, 65536)}})
    assert [labels.name_of(value) for value in labels.classes][-1] == "l65535"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.sets(st.integers(0, 5), min_size=1, max_size=4))
def test_the_mask_of_a_region_is_the_union_of_its_labels(values: list[int], region: set[int]) -> None:
    label_map = np.array(values)
    union = np.zeros(label_map.shape, bool)
    for value in region:
        union |= mask_of(label_map, value)
    np.testing.assert_array_equal(mask_of(label_map, tuple(region)), union)
    assert union.tolist() == [value in region for value in values]


def test_a_value_written_as_text_is_read_as_its_number() -> None:
    assert Labels.from_json({"background": "0", "liver": "1"}).foreground_labels == (1,)
