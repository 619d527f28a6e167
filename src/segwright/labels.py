"""What the numbers in a label map mean: classes, regions, the ignore label (nnU-Net v2, dataset.json, key `labels`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.errors import DatasetError, message

LabelOrRegion = int | tuple[int, ...]
LARGEST_LABEL = 65_535  # maximum of uint16, in which label maps are written
IGNORE = "ignore"


@dataclass(frozen=True)
class Labels:
    """The declared labels of a data set. Build it with `Labels.from_json`.

    `values` keeps the declared order, which regions depend on. A region is a tuple of label values.
    """

    values: tuple[tuple[str, LabelOrRegion], ...]
    regions_class_order: tuple[int, ...] | None = None
    ignore_label: int | None = None

    @classmethod
    def from_json(cls, labels: Any, regions_class_order: Any = None, *, where: str = "dataset.json") -> Labels:
        """Parse the keys `labels` and `regions_class_order` of a dataset.json.

        Raises:
            DatasetError: naming the label that is wrong.
        """
        if not isinstance(labels, Mapping) or not labels:
            raise DatasetError(
                message(
                    f"{where}, key 'labels'",
                    expected='an object that names every label, such as {"background": 0, "tumour": 1}',
                    got=repr(labels),
                    remedy="List each label with its value.",
                )
            )
        if len(labels) > LARGEST_LABEL + 1:
            raise DatasetError(
                message(
                    f"{where}, key 'labels'",
                    expected=f"at most {LARGEST_LABEL + 1} labels, as many as a label map can hold",
                    got=len(labels),
                    remedy="Declare only the classes to be learned; the individual objects of a class are not labels.",
                )
            )
        values = tuple((str(name), _parse_value(name, value, where)) for name, value in labels.items())
        ignore = dict(values).get(IGNORE)
        plain = sorted({v for name, value in values if name != IGNORE for v in _as_tuple(value)})
        if 0 not in plain:
            raise DatasetError(
                message(
                    f"{where}, key 'labels'",
                    expected="a background label with value 0",
                    got=f"values {plain}",
                    remedy='Add "background": 0; every voxel without a label is 0.',
                )
            )
        if ignore is not None and (not isinstance(ignore, int) or ignore != plain[-1] + 1):
            raise DatasetError(
                message(
                    f"{where}, label 'ignore'",
                    expected=f"the whole number after the highest other label, {plain[-1] + 1}",
                    got=repr(ignore),
                    remedy="Renumber the ignore label in dataset.json and in the label maps.",
                )
            )
        result = cls(
            values=values,
            regions_class_order=_parse_regions_class_order(regions_class_order, where),
            ignore_label=ignore if isinstance(ignore, int) else None,
        )
        result._check_regions(where)
        return result

    def _check_regions(self, where: str) -> None:
        if not self.has_regions:
            return
        order = self.regions_class_order
        if order is None or len(order) != len(self.foreground_regions):
            raise DatasetError(
                message(
                    f"{where}, key 'regions_class_order'",
                    expected=f"one label value for each of the {len(self.foreground_regions)} regions",
                    got="nothing" if order is None else str(list(order)),
                    remedy="Say which value each region is written as; later regions are drawn over earlier ones.",
                )
            )

    @property
    def has_regions(self) -> bool:
        """Whether any class is a union of several label values."""
        return any(isinstance(value, tuple) and len(value) > 1 for _, value in self.values)

    @property
    def all_labels(self) -> tuple[int, ...]:
        """Every label value in ascending order, with background, without the ignore label."""
        return tuple(sorted({v for name, value in self.values if name != IGNORE for v in _as_tuple(value)}))

    @property
    def foreground_labels(self) -> tuple[int, ...]:
        """Every label value but background and ignore, ascending."""
        return tuple(value for value in self.all_labels if value != 0)

    @property
    def foreground_regions(self) -> tuple[LabelOrRegion, ...]:
        """Declared classes in declared order, without background and ignore; a single value stays an int."""
        return tuple(value for name, value in self.values if name != IGNORE and any(v != 0 for v in _as_tuple(value)))

    @property
    def classes(self) -> tuple[LabelOrRegion, ...]:
        """The classes scored and sampled as foreground: regions if there are any, otherwise foreground labels."""
        return self.foreground_regions if self.has_regions else self.foreground_labels

    @property
    def num_outputs(self) -> int:
        """Output channels of the network: one per region, or one per label with background."""
        return len(self.foreground_regions) if self.has_regions else len(self.all_labels)

    @property
    def num_declared(self) -> int:
        """Entries of `labels`, background and ignore included, as nnU-Net counts them when planning memory."""
        return len(self.values)

    @property
    def allowed_values(self) -> frozenset[int]:
        """Values that a label map may contain."""
        extra = () if self.ignore_label is None else (self.ignore_label,)
        return frozenset((*self.all_labels, *extra))

    def name_of(self, value: LabelOrRegion) -> str:
        """Declared name of a label or region, or its value as text if it has none."""
        return self._names.get(_as_tuple(value), str(value))

    @cached_property
    def _names(self) -> dict[tuple[int, ...], str]:
        return {_as_tuple(value): name for name, value in reversed(self.values)}

    def targets(self, label_map: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Training targets of a label map (1, ...): the map itself, as used by the losses of plain labels, the ignore
        label among its values; with regions one boolean channel per region, (k, ...), and with an ignore label one more
        for it at the end.

        Source: nnU-Net v2, `ConvertSegmentationToRegionsTransform`.
        """
        if not self.has_regions:
            return label_map
        extra = () if self.ignore_label is None else (self.ignore_label,)
        return np.stack([mask_of(label_map[0], value) for value in (*self.foreground_regions, *extra)])

    @property
    def drawing_order(self) -> tuple[int, ...] | None:
        """The value that each region is written as, drawn in this order; None if the highest output wins."""
        return self.regions_class_order if self.has_regions else None

    def label_map_of(self, decided: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Label map of the decision per voxel: with regions the values that were drawn, otherwise channel numbers,
        which stand for the labels in ascending order."""
        return decided if self.has_regions else np.asarray(self.all_labels)[decided]

    @property
    def label_map_dtype(self) -> np.dtype[Any]:
        """Type of a written label map: uint8 below 255 foreground labels, as nnU-Net writes, if it can hold their
        values; otherwise uint16."""
        largest = max((*self.all_labels, *(self.regions_class_order or ())))
        return np.dtype(np.uint8 if len(self.foreground_labels) < 255 and largest < 256 else np.uint16)


def mask_of(label_map: NDArray[Any], value: LabelOrRegion) -> NDArray[np.bool_]:
    """Boolean mask of a label or region in a label map, of the same shape."""
    if isinstance(value, tuple):
        return np.isin(label_map, value)
    return np.asarray(label_map == value)


def _as_tuple(value: LabelOrRegion) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_label(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_LABEL


def _parse_value(name: object, value: object, where: str) -> LabelOrRegion:
    # published data sets write "1" for 1, as nnU-Net allows
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    if _is_label(value):
        return value  # type: ignore[return-value]
    if isinstance(value, Sequence) and not isinstance(value, str) and value and all(_is_label(v) for v in value):
        return tuple(value)
    raise DatasetError(
        message(
            f"{where}, label {name!r}",
            expected=f"a whole number from 0 to {LARGEST_LABEL}, or a list of them for a region",
            got=repr(value),
            remedy="Correct the entry under 'labels'.",
        )
    )


def _parse_regions_class_order(value: object, where: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str) and all(_is_label(v) for v in value):
        return tuple(value)
    raise DatasetError(
        message(
            f"{where}, key 'regions_class_order'",
            expected=f"a list of label values from 0 to {LARGEST_LABEL}",
            got=repr(value),
            remedy="List the value that each region is written as.",
        )
    )
