"""From logits on the network's grid to a label map on the grid of the image file (nnU-Net v2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.preprocessing.label_resampling import resample_logits_to_labels
from segwright.task import Task


def logits_to_label_map(
    logits: NDArray[np.float32],
    *,
    properties: Mapping[str, Any],
    task: Task,
) -> NDArray[Any]:
    """Turn logits (k, z, y, x) of a preprocessed image into its label map (z, y, x) on the original grid.

    Decides on the grid of the cropped image, fills in what was cropped away as background and undoes the plan's order
    of axes. `properties` are those that preprocessing gave. uint8, or uint16 from 255 foreground labels on.
    """
    plan, configuration, labels = task.plan, task.configuration, task.labels
    spacing_mm = tuple(float(properties["spacing"][axis]) for axis in plan.transpose_forward)
    # In 2D the slices were never resampled across, so there they have their own spacing.
    network_spacing_mm = (spacing_mm[0], *configuration.spacing_mm) if configuration.is_2d else configuration.spacing_mm
    decided = resample_logits_to_labels(
        logits,
        [int(size) for size in properties["shape_after_cropping_and_before_resampling"]],
        current_spacing_mm=network_spacing_mm,
        new_spacing_mm=spacing_mm,
        resampling=configuration.resampling_probabilities,
        regions_class_order=labels.drawing_order,
    )
    whole = np.zeros([int(size) for size in properties["shape_before_cropping"]], dtype=labels.label_map_dtype)
    inside = tuple(slice(int(first), int(end)) for first, end in properties["bbox_used_for_cropping"])
    whole[inside] = labels.label_map_of(decided)
    return np.ascontiguousarray(whole.transpose(plan.transpose_backward))
