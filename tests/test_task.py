"""What enters a network and what leaves it, for plain labels, regions, an ignore label and a cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.dataset import DatasetDescription, new_description
from segwright.errors import SettingsError
from segwright.labels import Labels
from segwright.planning import Plan
from segwright.task import Task

CASCADE_PLAN = Path(__file__).parent / "golden" / "plans" / "Dataset901_CTAniso__nnUNetPlans.json"
PLAIN = {"background": 0, "edema": 1, "core": 2, "enhancing": 3}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def described(labels: dict[str, Any], order: list[int] | None = None) -> DatasetDescription:
    return new_description(
        channel_names={"0": "CT", "1": "CT"},
        labels=labels,
        num_training=10,
        file_ending=".nii.gz",
        regions_class_order=order,
    )


@pytest.fixture
def plan() -> Plan:
    """A plan with a cascade."""
    return Plan.read(CASCADE_PLAN)


def test_images_alone_enter_a_plain_network(plan: Plan) -> None:
    task = Task.of(plan, "3d_fullres", described(PLAIN))
    assert (task.num_image_channels, task.num_previous_channels, task.num_inputs, task.num_outputs) == (2, 0, 2, 4)
    assert task.untrainable == ()
    task.require_trainable()
    task.require_predictable()


def test_the_labels_of_the_stage_before_enter_a_cascade(plan: Plan) -> None:
    task = Task.of(plan, "3d_cascade_fullres", described(REGIONS, [1, 2, 3]))
    assert (task.num_inputs, task.num_outputs) == (2 + 3, 3)
    assert len(task.untrainable) == 2
    with pytest.raises(SettingsError):
        task.require_trainable()
    with pytest.raises(SettingsError):
        task.require_predictable()


def test_an_ignore_label_leaves_no_network(plan: Plan) -> None:
    task = Task.of(plan, "2d", described({**PLAIN, "ignore": 4}))
    assert task.num_outputs == 4
    assert len(task.untrainable) == 1


def test_plain_targets_are_the_label_map_itself() -> None:
    label_map = np.array([[[0, 1, 4]]], np.int16)
    assert Labels.from_json({**PLAIN, "ignore": 4}).targets(label_map) is label_map


@pytest.mark.parametrize("ignore", [False, True])
def test_region_targets_are_a_channel_a_region_and_one_for_what_is_ignored(ignore: bool) -> None:
    labels = Labels.from_json({**REGIONS, **({"ignore": 4} if ignore else {})}, [1, 2, 3])
    targets = labels.targets(np.array([[[0, 1, 2, 3, 4]]], np.int16))
    expected = [[0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]][: 3 + ignore]
    assert targets.dtype == bool
    np.testing.assert_array_equal(targets[:, 0], expected)


def test_channels_stand_for_labels_in_ascending_order() -> None:
    labels = Labels.from_json({"background": 0, "b": 7, "a": 2})
    np.testing.assert_array_equal(labels.label_map_of(np.array([0, 1, 2])), [0, 2, 7])
    assert labels.drawing_order is None


def test_regions_are_drawn_as_their_values() -> None:
    labels = Labels.from_json(REGIONS, [5, 6, 7])
    drawn = np.array([0, 5, 7])
    assert labels.label_map_of(drawn) is drawn
    assert labels.drawing_order == (5, 6, 7)
