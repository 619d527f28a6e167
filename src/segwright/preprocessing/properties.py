"""What the `.pkl` of a preprocessed case must say, so that its label map finds back to the image's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import ImageError, message

_LONGEST_AXIS = 1_000_000
_BEFORE, _BOX, _AFTER = (
    "shape_before_cropping",
    "bbox_used_for_cropping",
    "shape_after_cropping_and_before_resampling",
)


def require_properties(properties: object, where: object) -> Mapping[str, Any]:
    """Return properties with every key that training and validation need, in a form that makes sense.

    Raises:
        ImageError: naming the key.
    """
    if not isinstance(properties, Mapping):
        raise _wrong(where, "properties by name", type(properties).__name__)
    spacing = _numbers(properties, "spacing", (3,), where)
    before, box, after = (
        _numbers(properties, key, shape, where) for key, shape in ((_BEFORE, (3,)), (_BOX, (3, 2)), (_AFTER, (3,)))
    )
    if not (spacing > 0).all():
        raise _wrong(f"{where}, key 'spacing'", "3 numbers above 0", properties["spacing"])
    if not ((before >= 1) & (before <= _LONGEST_AXIS)).all():
        raise _wrong(f"{where}, key '{_BEFORE}'", "3 sizes in voxels", properties[_BEFORE])
    first, end = box.T
    if not ((first >= 0) & (first < end) & (end <= before)).all():
        raise _wrong(
            f"{where}, key '{_BOX}'", f"a first voxel and an end within {properties[_BEFORE]}", properties[_BOX]
        )
    if not (after == end - first).all():
        raise _wrong(f"{where}, key '{_AFTER}'", f"the size of the box {properties[_BOX]}", properties[_AFTER])
    _require_class_locations(properties.get("class_locations"), f"{where}, key 'class_locations'")
    return properties


def _numbers(properties: Mapping[str, Any], key: str, shape: tuple[int, ...], where: object) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(properties[key], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        got = repr(properties[key]) if key in properties else "no such key"
        raise _wrong(f"{where}, key '{key}'", f"{' x '.join(map(str, shape))} numbers", got)
    return numbers


def _require_class_locations(locations: object, where: str) -> None:
    if not isinstance(locations, Mapping):
        raise _wrong(where, "the places of each class", "no such key" if locations is None else repr(locations))
    for value, places in locations.items():
        is_list = isinstance(places, (np.ndarray, list, tuple))
        if is_list and len(places) == 0:
            continue
        if (
            not isinstance(places, np.ndarray)
            or places.ndim != 2
            or places.shape[1] != 4
            or places.dtype.kind not in "iu"
        ):
            raise _wrong(where, f"voxels (channel, z, y, x) of class {value}", repr(places))


def _wrong(where: object, expected: str, got: object) -> ImageError:
    return ImageError(message(where, expected=expected, got=got, remedy="Delete this file and preprocess again."))
