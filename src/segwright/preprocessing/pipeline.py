"""Preprocess one case: transpose, crop, normalise, resample (nnU-Net v2's `DefaultPreprocessor`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.cropping import crop_to_nonzero
from segwright.errors import DatasetError, ImageError, PlanError, message
from segwright.fingerprint import require_finite, require_same_shape
from segwright.geometry import shape_at_spacing
from segwright.io import Image
from segwright.io.integrity import MUCH_MEMORY_BYTES
from segwright.labels import Labels
from segwright.parallel import available_memory_bytes
from segwright.planning.configuration import Configuration
from segwright.planning.plan import Plan
from segwright.preprocessing.class_locations import sample_class_locations
from segwright.preprocessing.label_resampling import resample_labels
from segwright.preprocessing.normalise import normalise
from segwright.preprocessing.resampling import resample_image
from segwright.task import Task


@dataclass(eq=False)
class PreprocessedCase:
    """`data` (c, z, y, x) float32 and `seg` (1, z, y, x) int8, int16 above 127, on the grid that a network works on.

    In `seg`, -1 marks voxels outside the nonzero region. `properties` has nnU-Net's keys, which lead back to the
    image's own grid.
    """

    data: NDArray[np.float32]
    seg: NDArray[np.int8] | NDArray[np.int16]
    properties: dict[str, Any]


@dataclass(frozen=True, eq=False)
class CroppedCase:
    """What all configurations begin with: `data` (c, z, y, x) and `seg` (1, z, y, x), -1 outside the nonzero region."""

    data: NDArray[np.float32]
    seg: NDArray[np.int16]
    spacing_mm: tuple[float, ...]
    has_labels: bool
    properties: dict[str, Any]


def preprocess_case(
    image: Image,
    label_map: Image | None,
    *,
    task: Task,
    where: str = "image",
) -> PreprocessedCase:
    """Bring an image and its label map onto the configuration's grid: `crop_case` and `fit_case`.

    Raises:
        ImageError, DatasetError, GeometryError, PlanError
    """
    cropped = crop_case(image, label_map, plan=task.plan, labels=task.labels, where=where)
    return fit_case(cropped, task=task, where=where)


def crop_case(
    image: Image, label_map: Image | None, *, plan: Plan, labels: Labels, where: str = "image"
) -> CroppedCase:
    """Check and crop an image, with its axes in the plan's order. The inputs are left as they are.

    Without a label map `seg` says only where the image is nonzero. An image without any nonzero voxel is not cropped.
    `where` names the case in errors.

    Raises:
        ImageError: voxels that are not finite, or values that are no labels.
        DatasetError: labels that are not declared.
        GeometryError: the label map has another shape than the image.
    """
    require_finite(image.array, where)
    forward = plan.transpose_forward
    axes = (0, *(axis + 1 for axis in forward))
    source = image.array.transpose(axes)
    label_values = None if label_map is None else _label_values(label_map, image, labels, where).transpose(axes)
    data, seg, box = crop_to_nonzero(source, label_values)
    properties = {key: _plain(value) for key, value in image.properties.items()}
    properties["shape_before_cropping"] = source.shape[1:]
    properties["bbox_used_for_cropping"] = box
    properties["shape_after_cropping_and_before_resampling"] = data.shape[1:]
    spacing = tuple(float(image.properties["spacing"][axis]) for axis in forward)
    return CroppedCase(data, seg, spacing, label_map is not None, properties)


def fit_case(
    case: CroppedCase,
    *,
    task: Task,
    where: str = "image",
    in_place: bool = False,
) -> PreprocessedCase:
    """Normalise a cropped case and resample it to a configuration's spacing.

    There are class locations if it has labels. With `in_place` the intensities of `case` are used up, which saves the
    memory for a copy; else it is left as it is.

    Raises:
        ImageError: intensities that do not suit the normalisation.
        PlanError: the plan is for another number of channels, names what is unknown, or has a spacing at which the
            case does not fit into the memory.
    """
    configuration = task.configuration
    _check_channels(case.data.shape[0], configuration, where)
    spacing, wanted = case.spacing_mm, configuration.spacing_mm
    target = wanted if len(wanted) == 3 else (spacing[0], *wanted)
    # a thin image at a coarse target spacing rounds to no voxel at all
    shape = tuple(max(1, size) for size in shape_at_spacing(case.data.shape[1:], spacing, target))
    _refuse_more_than_fits(case.data.shape[0], shape, configuration, where)
    data = _normalise_and_resample(case.data, case.seg, shape, spacing, target, task, in_place)
    seg = resample_labels(
        case.seg, shape, current_spacing_mm=spacing, new_spacing_mm=target, resampling=configuration.resampling_seg
    )
    properties = dict(case.properties)
    if case.has_labels:
        properties["class_locations"] = sample_class_locations(seg, task.labels)
    return PreprocessedCase(data, seg.astype(np.int16 if seg.max() > 127 else np.int8, copy=False), properties)


def _normalise_and_resample(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    target: tuple[float, ...],
    task: Task,
    in_place: bool,
) -> NDArray[np.float32]:
    """Normalise before resampling, because a resampled mask would no longer fit the image; a channel at a time."""
    configuration = task.configuration
    inside = seg[0] >= 0
    channels = []
    for number, channel in enumerate(image):
        may_change = in_place and channel.flags.writeable
        normalised = channel if may_change else np.array(channel, dtype=np.float32, order="C")
        normalise(
            normalised,
            configuration.normalization_schemes[number],
            mask=inside if configuration.use_mask_for_norm[number] else None,
            intensities=task.plan.foreground_intensity_properties_per_channel.get(str(number)),
        )
        channels.append(
            resample_image(
                normalised[np.newaxis],
                shape,
                current_spacing_mm=spacing,
                new_spacing_mm=target,
                resampling=configuration.resampling_data,
            )
        )
    return channels[0] if len(channels) == 1 else np.concatenate(channels)


def _check_channels(found: int, configuration: Configuration, where: str) -> None:
    wanted = len(configuration.normalization_schemes)
    if found != wanted:
        raise PlanError(
            message(
                where,
                expected=f"{wanted} channels, as configuration '{configuration.name}' was planned for",
                got=str(found),
                remedy="Give the image's channels in the order of dataset.json, or plan again.",
            )
        )


def _refuse_more_than_fits(channels: int, shape: tuple[int, ...], configuration: Configuration, where: str) -> None:
    wanted = math.prod(shape) * (channels * np.float32().itemsize + np.int16().itemsize)
    if wanted < MUCH_MEMORY_BYTES:
        return
    available = available_memory_bytes()
    if wanted > available:
        raise PlanError(
            message(
                f"{where}, configuration '{configuration.name}', key 'spacing'",
                expected=f"a spacing at which the case fits into the {available / 1e9:.1f} GB of free memory",
                got=f"{list(configuration.spacing_mm)} mm, at which its {shape} voxels take {wanted / 1e9:.1f} GB",
                remedy="Correct the spacing of the plan, or of the image, or use a machine with more memory.",
            )
        )


def _label_values(label_map: Image, image: Image, labels: Labels, where: str) -> NDArray[np.int16]:
    array = label_map.array
    require_same_shape(image.array, array, where)
    low, high = array.min(), array.max()
    values = array.astype(np.int16) if low >= 0 and high <= np.iinfo(np.int16).max else None
    if values is None or not np.array_equal(values, array):
        raise ImageError(
            message(
                f"{where}, label map",
                expected=f"whole numbers from 0 to {np.iinfo(np.int16).max}",
                got=f"values between {low:g} and {high:g}" + ("" if values is None else ", fractions among them"),
                remedy="Make the label map again, with nearest-neighbour resampling.",
            )
        )
    declared = sorted(labels.allowed_values)
    is_declared = np.zeros(int(high) + 1, dtype=bool)
    is_declared[[value for value in declared if value <= high]] = True
    if not is_declared[values].all():
        undeclared = values[~is_declared[values]]
        found = [f"{int(value)}" for value in np.unique(undeclared)[:10]]
        raise DatasetError(
            message(
                f"{where}, label map",
                expected=f"the declared labels {', '.join(map(str, declared))}",
                got=f"also {', '.join(found)} in {undeclared.size} voxels",
                remedy="Declare them in dataset.json, or correct the label map; `segwright check` lists all cases.",
            )
        )
    return values


def _plain(value: Any) -> Any:
    """Python's own numbers and containers, so that no version of numpy is needed to read them back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value
