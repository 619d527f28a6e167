"""Preprocess one case: transpose, crop, normalise, resample (nnU-Net v2's `DefaultPreprocessor`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.cropping import crop_to_nonzero
from segwright.errors import ImageError, message
from segwright.geometry import shape_at_spacing
from segwright.io import Image
from segwright.labels import Labels
from segwright.planning.configuration import Configuration
from segwright.planning.plan import Plan
from segwright.preprocessing.class_locations import classes_to_locate, sample_class_locations
from segwright.preprocessing.label_resampling import resample_labels
from segwright.preprocessing.normalise import normalise_channel
from segwright.preprocessing.resampling import resample_image


@dataclass(frozen=True, eq=False)
class PreprocessedCase:
    """`data` (c, z, y, x) float32 and `seg` (1, z, y, x) int8 or int16, -1 outside the body; axes as transposed.

    `properties` has nnU-Net's keys, which undo the way from the image to `data`.
    """

    data: NDArray[np.float32]
    seg: NDArray[np.integer[Any]]
    properties: dict[str, Any]


def preprocess_case(
    image: Image,
    label_map: Image | None,
    *,
    plan: Plan,
    configuration: Configuration,
    labels: Labels,
    where: str = "image",
) -> PreprocessedCase:
    """Turn an image, and its label map where there is one, into what the network sees.

    Raises:
        ImageError: the image holds values that are no numbers; `where` names it.
        GeometryError: image and label map differ in shape (found before, when they are read together).
    """
    _refuse_non_finite(image.array, where)
    axes = (0, *(axis + 1 for axis in plan.transpose_forward))
    # a copy: normalisation works in place, and one image may be preprocessed for several configurations
    data = np.array(image.array.transpose(axes), dtype=np.float32, order="C")
    seg = None if label_map is None else label_map.array.transpose(axes)
    spacing = tuple(float(image.geometry.spacing_mm[axis]) for axis in plan.transpose_forward)
    properties = dict(image.properties)
    properties["shape_before_cropping"] = tuple(int(size) for size in data.shape[1:])
    data, seg_cropped, box = crop_to_nonzero(data, seg)
    properties["bbox_used_for_cropping"] = box
    properties["shape_after_cropping_and_before_resampling"] = tuple(int(size) for size in data.shape[1:])
    target = configuration.spacing_mm if len(configuration.spacing_mm) == 3 else (spacing[0], *configuration.spacing_mm)
    new_shape = shape_at_spacing(data.shape[1:], spacing, target)
    _normalise(data, seg_cropped, plan, configuration)
    data = resample_image(
        data,
        new_shape,
        current_spacing_mm=spacing,
        new_spacing_mm=target,
        resampling=configuration.resampling_data,
    )
    seg_resampled = resample_labels(
        seg_cropped,
        new_shape,
        current_spacing_mm=spacing,
        new_spacing_mm=target,
        resampling=configuration.resampling_seg,
    )
    if label_map is not None:
        properties["class_locations"] = sample_class_locations(seg_resampled, classes_to_locate(labels))
    dtype = np.int16 if seg_resampled.max(initial=0) > 127 else np.int8
    return PreprocessedCase(np.ascontiguousarray(data), seg_resampled.astype(dtype), properties)


def _refuse_non_finite(array: NDArray[np.float32], where: str) -> None:
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise ImageError(
            message(
                where,
                expected="finite intensities",
                got=f"{bad} voxels that are NaN or infinite",
                remedy="Replace them in the image, for example by 0.",
            )
        )


def _normalise(data: NDArray[np.float32], seg: NDArray[np.int16], plan: Plan, configuration: Configuration) -> None:
    inside = seg[0] >= 0 if any(configuration.use_mask_for_norm) else None
    for number, channel in enumerate(data):
        normalise_channel(
            configuration.normalization_schemes[number],
            channel,
            mask=inside if configuration.use_mask_for_norm[number] else None,
            intensities=plan.foreground_intensity_properties_per_channel.get(str(number)),
        )
