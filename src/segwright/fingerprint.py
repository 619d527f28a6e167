"""What is measured on the raw data before planning: spacings, shapes, intensities of the foreground.

The numbers are nnU-Net v2's, its random samples included. nnU-Net collects a hundred million sampled voxels and takes
their statistics; here each case returns its distinct values with counts, which is equivalent and takes less memory.
All cases use the same stream of random numbers, so a process generates it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from segwright.cropping import box_slices, nonzero_box
from segwright.dataset.case_size import workers_for_reading
from segwright.dataset.cases import Case, read_case_image
from segwright.dataset.raw import RawDataset
from segwright.errors import CasesFailedError, DatasetError, GeometryError, ImageError, PlanError, message
from segwright.io import Image, ImageReaderWriter
from segwright.io.atomic import write_json_atomic
from segwright.io.image import LARGEST_SPACING_MM, SMALLEST_SPACING_MM
from segwright.io.json_file import read_json
from segwright.parallel import CaseFailure, Progress, run_cases

FILE_NAME = "dataset_fingerprint.json"
INTENSITY_KEYS = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
_TOTAL_SAMPLES = 10e7
_SAMPLING_SEED = 1234
_FRACTIONS = (0.005, 0.5, 0.995)
# Random numbers that a process keeps, 4 bytes each.
_MAX_KEPT = 1 << 23
_MAX_DRAWN_AT_ONCE = 1 << 20
_BLOCK = 1 << 12


@dataclass(frozen=True)
class Fingerprint:
    """Measurements of a data set. Spacings and shapes are one (z, y, x) per case, in the order of the case ids.

    `foreground_intensity_properties_per_channel` maps the channel's number, as text, to the statistics of
    `INTENSITY_KEYS`; `median_relative_size_after_cropping` is the fraction of voxels left by cropping to nonzero.
    """

    spacings_mm: tuple[tuple[float, ...], ...]
    shapes_after_crop: tuple[tuple[int, ...], ...]
    foreground_intensity_properties_per_channel: Mapping[str, Mapping[str, float]]
    median_relative_size_after_cropping: float

    @classmethod
    def from_json(cls, value: Any, *, where: str = FILE_NAME) -> Fingerprint:
        """Parse the content of a dataset_fingerprint.json.

        Raises:
            PlanError: naming the key that is missing or wrong.
        """
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        spacings = _rows(value, "spacings", where, whole=False)
        shapes = _rows(value, "shapes_after_crop", where, whole=True)
        if len(spacings) != len(shapes):
            raise _wrong(
                f"{where}, key 'shapes_after_crop'", f"one entry for each of the {len(spacings)} spacings", len(shapes)
            )
        return cls(
            spacings_mm=spacings,
            shapes_after_crop=tuple(tuple(int(size) for size in shape) for shape in shapes),
            foreground_intensity_properties_per_channel=_intensities(value, where),
            median_relative_size_after_cropping=_relative_size(value, where),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the file's content, with nnU-Net's keys in nnU-Net's order."""
        return {
            "foreground_intensity_properties_per_channel": {
                channel: {key: properties[key] for key in INTENSITY_KEYS}
                for channel, properties in self.foreground_intensity_properties_per_channel.items()
            },
            "median_relative_size_after_cropping": self.median_relative_size_after_cropping,
            "shapes_after_crop": [list(shape) for shape in self.shapes_after_crop],
            "spacings": [list(spacing) for spacing in self.spacings_mm],
        }

    @classmethod
    def read(cls, path: Path) -> Fingerprint:
        """Read a dataset_fingerprint.json.

        Raises:
            MissingFileError, PlanError
        """
        return cls.from_json(read_json(path, error=PlanError), where=str(path))

    def write(self, path: Path) -> None:
        """Write a dataset_fingerprint.json, atomically."""
        write_json_atomic(path, self.to_json())


@dataclass(frozen=True, eq=False)
class CaseMeasurement:
    """Contribution of one case to the fingerprint."""

    spacing_mm: tuple[float, ...]
    shape_after_crop: tuple[int, ...]
    relative_size: float
    samples: tuple[_Samples, ...]


@dataclass(frozen=True, eq=False)
class _Samples:
    """Sampled intensities as ascending distinct values and how often each was drawn."""

    values: NDArray[np.float32]
    counts: NDArray[np.int64]


def fingerprint_dataset(
    dataset: RawDataset, *, workers: int | None = 1, progress: Progress | None = None
) -> Fingerprint:
    """Measure every training case. `workers=None` uses as many as cores and memory allow.

    Raises:
        CasesFailedError: naming each case that cannot be read or measured; all others were tried, too.
        DatasetError: no case has any foreground.
    """
    num_channels = len(dataset.description.channel_names)
    if workers is None:
        workers = workers_for_reading(dataset.cases, num_channels)
    measured: dict[str, CaseMeasurement] = {}
    failures: dict[str, str] = {}
    for case, result in run_cases(
        partial(
            _read_and_measure,
            reader=dataset.reader(),
            num_channels=num_channels,
            measure=case_measure(dataset),
        ),
        dataset.cases,
        workers=workers,
        case_id=attrgetter("case_id"),
        what="measuring cases",
        progress=progress,
    ):
        if isinstance(result, CaseFailure):
            failures[case.case_id] = result.message
        else:
            measured[case.case_id] = result
    if failures:
        raise _cases_failed(failures, len(dataset.cases))
    return combine_measurements(measured, dataset)


Measure = Callable[[Case, Image, Image], CaseMeasurement]
"""Measures a case from its image and its label map."""


def case_measure(dataset: RawDataset) -> Measure:
    """The measurement of a case of `dataset`, for callers that read the cases anyway; it can be pickled."""
    return partial(_measure_case, num_samples=int(_TOTAL_SAMPLES // len(dataset.cases)))


def combine_measurements(measured: Mapping[str, CaseMeasurement], dataset: RawDataset) -> Fingerprint:
    """Combine the measurements of all cases, by case id, into the fingerprint.

    Raises:
        DatasetError: no case has any foreground.
    """
    return _combine([measured[case.case_id] for case in dataset.cases], dataset)


def _read_and_measure(case: Case, *, reader: ImageReaderWriter, num_channels: int, measure: Measure) -> CaseMeasurement:
    assert case.label_path is not None
    return measure(case, read_case_image(reader, case, num_channels), reader.read_labels(case.label_path))


def _measure_case(case: Case, image: Image, label_map: Image, *, num_samples: int) -> CaseMeasurement:
    where = f"case {case.case_id}"
    require_finite(image.array, where)
    require_finite(label_map.array, f"{where}, label map")
    require_same_shape(image.array, label_map.array, where)
    inside = box_slices(nonzero_box(image.array))
    foreground = label_map.array[0][inside] > 0
    cropped = [channel[inside] for channel in image.array]
    drawn = _times_drawn(int(np.count_nonzero(foreground)), num_samples, len(cropped))
    return CaseMeasurement(
        # integers stay integers in the file, as in nnU-Net's: 999, 1, 1 for 2D images
        spacing_mm=tuple(mm if isinstance(mm, int) else float(mm) for mm in image.properties["spacing"]),
        shape_after_crop=foreground.shape,
        relative_size=float(np.prod(foreground.shape) / np.prod(image.array.shape[1:])),
        samples=tuple(_count(channel[foreground], times) for channel, times in zip(cropped, drawn, strict=True)),
    )


def _times_drawn(num_values: int, num_samples: int, num_channels: int) -> Iterator[NDArray[np.int64]]:
    """How often each of `num_values` is drawn with replacement, channel by channel, as `RandomState.choice` draws.

    Nothing is drawn for a case without foreground. `RandomState` takes the lowest bits that can hold `num_values - 1`
    of each random number, and the next number where they are more.
    """
    wanted = num_samples * num_channels
    numbers = _random_numbers(min(2 * wanted + wanted // 16 + 2 * _BLOCK, _MAX_KEPT))
    low_bits = numbers & np.uint32((1 << max(num_values - 1, 0).bit_length()) - 1)
    ends = _places_after(low_bits < num_values, [num_samples * (channel + 1) for channel in range(num_channels)])
    if num_values < 2 or len(ends) < num_channels:
        return _times_drawn_slowly(num_values, num_samples, num_channels)
    starts = (0, *ends[:-1])
    return (
        np.bincount(low_bits[start:end], minlength=num_values)[:num_values]
        for start, end in zip(starts, ends, strict=True)
    )


def _places_after(chosen: NDArray[np.bool_], counts: Sequence[int]) -> list[int]:
    """Index after the last of each number of chosen elements, for ascending numbers, as far as there are that many."""
    whole = chosen[: chosen.size // _BLOCK * _BLOCK]
    reached = np.cumsum(np.count_nonzero(whole.reshape(-1, _BLOCK), axis=1))
    places = []
    for count in counts:
        block = int(np.searchsorted(reached, count))
        if block == reached.size:
            break
        before = int(reached[block - 1]) if block else 0
        inside = np.flatnonzero(chosen[block * _BLOCK : (block + 1) * _BLOCK])
        places.append(block * _BLOCK + int(inside[count - before - 1]) + 1)
    return places


def _times_drawn_slowly(num_values: int, num_samples: int, num_channels: int) -> Iterator[NDArray[np.int64]]:
    random = np.random.RandomState(_SAMPLING_SEED)
    for _ in range(num_channels):
        times = np.zeros(num_values, dtype=np.int64)
        for begun in range(0, num_samples if num_values else 0, _MAX_DRAWN_AT_ONCE):
            count = min(_MAX_DRAWN_AT_ONCE, num_samples - begun)
            times += np.bincount(random.randint(0, num_values, size=count, dtype=np.int64), minlength=num_values)
        yield times


@lru_cache(maxsize=1)
def _random_numbers(count: int) -> NDArray[np.uint32]:
    """The first numbers of the random generator that all cases are sampled with."""
    return np.random.RandomState(_SAMPLING_SEED).randint(0, 1 << 32, size=count, dtype=np.uint32)


def _count(values: NDArray[np.float32], counts: NDArray[np.int64]) -> _Samples:
    if values.size == 0:
        return _Samples(values, counts)
    order = np.argsort(values, kind="stable")
    values = values[order]
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    totals = np.add.reduceat(counts[order], first)
    return _Samples(values[first][totals > 0], totals[totals > 0])


def require_finite(image: NDArray[np.float32], where: str) -> None:
    """Refuse an image (c, z, y, x) with voxels that are NaN or infinite.

    Raises:
        ImageError: with the channel and the number of voxels.
    """
    for number, channel in enumerate(image):
        # a sum is finite only if all its terms are; the terms are checked only if it is not
        with np.errstate(invalid="ignore"):
            if np.isfinite(channel.sum(dtype=np.float64)):
                continue
        bad = channel.size - int(np.isfinite(channel).sum())
        raise ImageError(
            message(
                where,
                expected=f"finite numbers in channel {number}",
                got=f"{bad} of {channel.size} voxels are NaN or infinite",
                remedy="Repair or remove the case.",
            )
        )


def require_same_shape(image: NDArray[np.float32], label_map: NDArray[Any], where: str) -> None:
    """Refuse a label map (1, z, y, x) whose shape differs from its image's (c, z, y, x).

    Raises:
        GeometryError
    """
    if label_map.shape[1:] != image.shape[1:]:
        raise GeometryError(
            message(
                where,
                expected=f"a label map of the image's shape (z, y, x) {image.shape[1:]}",
                got=str(label_map.shape[1:]),
                remedy="Resample the label map onto the image's grid.",
            )
        )


def _cases_failed(failures: Mapping[str, str], total: int) -> CasesFailedError:
    lines = [f"  {case_id}: {text}" for case_id, text in sorted(failures.items())]
    head = f"{len(failures)} of {total} cases cannot be measured, so there is no fingerprint to plan from:"
    return CasesFailedError("\n".join([head, *lines]), failures)


def _combine(cases: Sequence[CaseMeasurement], dataset: RawDataset) -> Fingerprint:
    intensities = {}
    for channel in range(len(dataset.description.channel_names)):
        values = np.concatenate([case.samples[channel].values for case in cases])
        counts = np.concatenate([case.samples[channel].counts for case in cases])
        if values.size == 0:
            raise DatasetError(
                message(
                    dataset.folder,
                    expected="labelled voxels in at least one case",
                    got="label maps with nothing but background",
                    remedy="Check the label maps in labelsTr.",
                )
            )
        intensities[str(channel)] = _statistics(_count(values, counts))
    return Fingerprint(
        spacings_mm=tuple(case.spacing_mm for case in cases),
        shapes_after_crop=tuple(case.shape_after_crop for case in cases),
        foreground_intensity_properties_per_channel=intensities,
        median_relative_size_after_cropping=float(np.median([case.relative_size for case in cases])),
    )


def _statistics(samples: _Samples) -> dict[str, float]:
    values = samples.values.astype(np.float64)
    mean = np.average(values, weights=samples.counts)
    low, median, high = (_quantile(samples, fraction) for fraction in _FRACTIONS)
    return {
        "max": float(values[-1]),
        "mean": float(mean),
        "median": median,
        "min": float(values[0]),
        "percentile_00_5": low,
        "percentile_99_5": high,
        "std": float(np.sqrt(np.average((values - mean) ** 2, weights=samples.counts))),
    }


def _quantile(samples: _Samples, fraction: float) -> float:
    """Quantile of the repeated values by linear interpolation, `numpy.percentile`'s default."""
    ends = np.cumsum(samples.counts)
    position = fraction * (int(ends[-1]) - 1)
    lower = int(position)
    below, above = (
        float(samples.values[np.searchsorted(ends, min(index, int(ends[-1]) - 1), side="right")])
        for index in (lower, lower + 1)
    )
    return below + (above - below) * (position - lower)


def _wrong(where: str, expected: str, got: object) -> PlanError:
    return PlanError(
        message(where, expected=expected, got=repr(got), remedy="Measure the data set again with `segwright plan`.")
    )


def _rows(value: Mapping[str, Any], key: str, where: str, *, whole: bool) -> tuple[tuple[float, ...], ...]:
    place = f"{where}, key '{key}'"
    rows = value.get(key)
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise _wrong(place, "a list with three numbers for each case", rows)
    for row in rows:
        numbers = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 3
        if not numbers or not all(_is_size(x) and (not whole or x == int(x)) for x in row):
            raise _wrong(place, f"three positive {'whole ' if whole else ''}numbers for each case", row)
    return tuple(tuple(float(number) for number in row) for row in rows)


def _intensities(value: Mapping[str, Any], where: str) -> dict[str, dict[str, float]]:
    key = "foreground_intensity_properties_per_channel"
    channels = value.get(key, value.get("foreground_intensity_properties_by_modality"))
    if not isinstance(channels, Mapping) or not channels:
        raise _wrong(f"{where}, key '{key}'", 'an object such as {"0": {"mean": ...}}', channels)
    result = {}
    for channel, properties in channels.items():
        place = f"{where}, key '{key}.{channel}'"
        if not isinstance(properties, Mapping):
            raise _wrong(place, "an object with " + ", ".join(INTENSITY_KEYS), properties)
        for name in INTENSITY_KEYS:
            if not _is_number(properties.get(name)):
                raise _wrong(f"{place}, '{name}'", "a finite number", properties.get(name))
        result[str(channel)] = {name: float(properties[name]) for name in INTENSITY_KEYS}
    return result


def _relative_size(value: Mapping[str, Any], where: str) -> float:
    key = "median_relative_size_after_cropping"
    size = value.get(key)
    if not _is_number(size) or not 0 < size <= 1:
        raise _wrong(f"{where}, key '{key}'", "a number above 0 and up to 1", size)
    return float(size)


def _is_size(value: Any) -> TypeGuard[float]:
    return _is_number(value) and SMALLEST_SPACING_MM <= value <= LARGEST_SPACING_MM


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
