from __future__ import annotations

import numpy as np
import pytest

from segwright.labels import Labels
from segwright.preprocessing.class_locations import annotated_key, sample_class_locations

PLAIN = Labels.from_json({"background": 0, "a": 1, "b": 2, "c": 3})
REGIONS = Labels.from_json({"background": 0, "whole": [2, 1], "core": 2}, [1, 2])
SPARSE = Labels.from_json({"background": 0, "a": 1, "ignore": 2})


def test_every_voxel_drawn_holds_its_class_and_none_is_drawn_twice() -> None:
    seg = np.random.default_rng(0).integers(-1, 3, (1, 20, 30, 40)).astype(np.int8)
    locations = sample_class_locations(seg, PLAIN)
    assert list(locations) == [1, 2, 3]
    for label in (1, 2):
        voxels = np.asarray(locations[label])
        assert voxels.shape == (min(10_000, (seg == label).sum()), 4)
        assert (seg[tuple(voxels.T)] == label).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels)
    assert locations[3] == []


def test_of_large_classes_one_percent_is_drawn() -> None:
    seg = np.ones((1, 20, 300, 200), np.int8)
    assert len(sample_class_locations(seg, PLAIN)[1]) == 12_000


def test_regions_are_keyed_by_their_labels() -> None:
    seg = np.random.default_rng(1).integers(0, 3, (1, 4, 5, 6)).astype(np.int8)
    locations = sample_class_locations(seg, REGIONS)
    assert list(locations) == [(2, 1), 2]
    assert len(locations[(2, 1)]) == (seg > 0).sum()
    assert len(locations[2]) == (seg == 2).sum()


def test_an_ignore_label_adds_the_annotated_voxels() -> None:
    seg = np.array([[[[-1, 0, 1, 2, 2]]]], np.int8)
    locations = sample_class_locations(seg, SPARSE)
    assert annotated_key(SPARSE) == (-1, 0, 1)
    assert sorted(np.asarray(locations[(-1, 0, 1)])[:, 3].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
def test_nothing_labelled_gives_empty_lists(labels: Labels) -> None:
    locations = sample_class_locations(np.zeros((1, 3, 3, 3), np.int8), labels)
    assert locations == {key: [] for key in labels.classes}


def test_the_same_label_map_gives_the_same_voxels() -> None:
    seg = np.random.default_rng(2).integers(0, 3, (1, 30, 30, 30)).astype(np.int8)
    first, second = sample_class_locations(seg, PLAIN), sample_class_locations(seg.copy(), PLAIN)
    np.testing.assert_array_equal(first[1], second[1])
