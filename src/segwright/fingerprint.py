"""What is measured on the raw data: `dataset_fingerprint.json` of nnU-Net v2, number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segwright.cropping import crop_to_nonzero
from segwright.dataset import Case, RawDataset
from segwright.errors import CasesFailedError, PlanError, message
from segwright.io.atomic import write_json_atomic
from segwright.io.json_file import read_json
from segwright.parallel import CaseFailure, Progress, run_cases

FILE_NAME = "dataset_fingerprint.json"
FOREGROUND_SAMPLES = 10e7
SEED = 1234
STATISTICS = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")


@dataclass(frozen=True)
class Fingerprint:
    """Measured properties of a data set; spacings (mm) and shapes are (z, y, x), one a case, sorted by case id."""

    spacings_mm: tuple[tuple[float, ...], ...]
    shapes_after_crop: tuple[tuple[int, ...], ...]
    foreground_intensity_properties_per_channel: Mapping[str, Mapping[str, float]]
    median_relative_size_after_cropping: float

    def to_json(self) -> dict[str, Any]:
        """Plain form with nnU-Net's keys, in its order."""
        return {
            "foreground_intensity_properties_per_channel": {
                channel: dict(values) for channel, values in self.foreground_intensity_properties_per_channel.items()
            },
            "median_relative_size_after_cropping": self.median_relative_size_after_cropping,
            "shapes_after_crop": [list(shape) for shape in self.shapes_after_crop],
            "spacings": [list(spacing) for spacing in self.spacings_mm],
        }

    @classmethod
    def from_json(cls, value: Any, *, where: object = FILE_NAME) -> Fingerprint:
        """Parse the plain form.

        Raises:
            PlanError: naming the key that is missing or wrong.
        """
        try:
            return cls(
                spacings_mm=tuple(tuple(float(v) for v in spacing) for spacing in value["spacings"]),
                shapes_after_crop=tuple(tuple(int(v) for v in shape) for shape in value["shapes_after_crop"]),
                foreground_intensity_properties_per_channel={
                    str(channel): {name: float(number) for name, number in values.items()}
                    for channel, values in value["foreground_intensity_properties_per_channel"].items()
                },
                median_relative_size_after_cropping=float(value["median_relative_size_after_cropping"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(
                message(
                    where,
                    expected="a fingerprint with spacings, shapes_after_crop, "
                    "foreground_intensity_properties_per_channel and median_relative_size_after_cropping",
                    got=f"{type(error).__name__}: {error}",
                    remedy="Measure the data set anew with `segwright plan DATASET --clean`.",
                )
            ) from error

    @classmethod
    def read(cls, path: Path) -> Fingerprint:
        """Read a dataset_fingerprint.json."""
        return cls.from_json(read_json(path), where=path)

    def write(self, path: Path) -> None:
        """Write a dataset_fingerprint.json, atomically."""
        write_json_atomic(path, self.to_json())


@dataclass(frozen=True, eq=False)
class _CaseMeasure:
    shape_after_crop: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    relative_size: float
    foreground: list[NDArray[np.float32]]


def fingerprint_dataset(dataset: RawDataset, *, workers: int = 1, progress: Progress | None = None) -> Fingerprint:
    """Measure every case of a data set.

    Raises:
        CasesFailedError: naming each case that cannot be read; there is no fingerprint without them.
    """
    samples = int(FOREGROUND_SAMPLES // len(dataset.cases))
    measure = partial(_measure_case, dataset=dataset, num_samples=samples)
    measured: dict[str, _CaseMeasure] = {}
    failures: dict[str, str] = {}
    results = run_cases(
        measure,
        dataset.cases,
        workers=workers,
        case_id=lambda case: case.case_id,
        what="Measuring cases",
        progress=progress,
    )
    for case, result in results:
        if isinstance(result, CaseFailure):
            failures[case.case_id] = result.message
        else:
            measured[case.case_id] = result
    if failures:
        raise CasesFailedError(
            f"{len(failures)} of {len(dataset.cases)} cases could not be measured: "
            + "; ".join(f"{case_id}: {text}" for case_id, text in sorted(failures.items()))
            + " Mend or remove them; `segwright check` lists every problem.",
            failures,
        )
    ordered = [measured[case.case_id] for case in dataset.cases]
    return Fingerprint(
        spacings_mm=tuple(case.spacing_mm for case in ordered),
        shapes_after_crop=tuple(case.shape_after_crop for case in ordered),
        foreground_intensity_properties_per_channel={
            str(channel): _statistics(np.concatenate([case.foreground[channel] for case in ordered]))
            for channel in range(len(dataset.description.channel_names))
        },
        median_relative_size_after_cropping=float(np.median([case.relative_size for case in ordered])),
    )


def _measure_case(case: Case, *, dataset: RawDataset, num_samples: int) -> _CaseMeasure:
    reader = dataset.reader()
    image = dataset.read_image(case, reader)
    assert case.label_path is not None
    labels = reader.read_labels(case.label_path)
    cropped, seg, _ = crop_to_nonzero(image.array, labels.array)
    return _CaseMeasure(
        shape_after_crop=tuple(int(size) for size in cropped.shape[1:]),
        spacing_mm=tuple(float(value) for value in image.geometry.spacing_mm),
        relative_size=float(np.prod(cropped.shape[1:]) / np.prod(image.array.shape[1:])),
        foreground=_foreground_samples(cropped, seg[0] > 0, num_samples),
    )


def _foreground_samples(
    image: NDArray[np.float32], foreground: NDArray[np.bool_], num_samples: int
) -> list[NDArray[np.float32]]:
    """Draw foreground intensities with replacement, channel after channel from one stream (nnU-Net v2)."""
    rng = np.random.RandomState(SEED)
    samples = []
    for channel in image:
        values = channel[foreground]
        samples.append(rng.choice(values, num_samples, replace=True) if values.size else np.empty(0))
    return samples


def _statistics(values: NDArray[np.float32]) -> dict[str, float]:
    if values.size == 0:
        return dict.fromkeys(STATISTICS, float("nan"))
    low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
    numbers = (np.max(values), np.mean(values), median, np.min(values), low, high, np.std(values))
    return {name: float(number) for name, number in zip(STATISTICS, numbers, strict=True)}
