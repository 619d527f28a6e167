"""Scores of a set of cases, and nnU-Net v2's file for them, summary.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from segwright.errors import DatasetError, MissingFileError, message
from segwright.evaluation.metrics import METRIC_NAMES
from segwright.io.atomic import write_text_atomic
from segwright.io.json_file import read_json
from segwright.labels import LabelOrRegion

_NEEDED_METRICS = ("Dice", "IoU")


@dataclass(frozen=True)
class CaseMetrics:
    """Metrics of one case by label or region; the names are those of summary.json (`Dice`, `TP`, `n_ref`, ...)."""

    prediction_file: str
    reference_file: str
    metrics: Mapping[LabelOrRegion, Mapping[str, float]]

    @property
    def case_id(self) -> str:
        """Name of the prediction without its file ending."""
        name = PurePath(self.prediction_file).name
        return name[: -len(".nii.gz")] if name.endswith(".nii.gz") else PurePath(name).stem

    @property
    def mean_foreground_dice(self) -> float:
        """Mean Dice over the classes that occur in the prediction or the reference; NaN if none does."""
        dice = [values["Dice"] for value, values in self.metrics.items() if value != 0]
        finite = [value for value in dice if not math.isnan(value)]
        return sum(finite) / len(finite) if finite else math.nan


@dataclass(frozen=True)
class Summary:
    """Scores per case, their mean per class over the cases, and the mean of those over the foreground classes."""

    metric_per_case: tuple[CaseMetrics, ...]
    mean: Mapping[LabelOrRegion, Mapping[str, float]]
    foreground_mean: Mapping[str, float]

    @classmethod
    def from_cases(cls, cases: Sequence[CaseMetrics]) -> Summary:
        """Average cases with the same classes, as nnU-Net does.

        A class's mean excludes cases where it is NaN; the foreground mean is the plain mean of the classes' means
        without label 0, so it is NaN if a class occurs in no case.
        """
        if not cases:
            raise ValueError("Expected at least one case to average, got none.")
        classes = tuple(cases[0].metrics)
        mean = {
            value: {name: _nanmean([case.metrics[value][name] for case in cases]) for name in METRIC_NAMES}
            for value in classes
        }
        foreground = {
            name: float(np.mean([mean[value][name] for value in classes if value != 0])) for name in METRIC_NAMES
        }
        return cls(metric_per_case=tuple(cases), mean=mean, foreground_mean=foreground)

    @classmethod
    def from_json(cls, value: Any, *, where: str = "summary.json") -> Summary:
        """Read the content of a summary.json.

        Raises:
            DatasetError: it is invalid.
        """
        try:
            mean = _from_keys(value["mean"])
            return cls(
                metric_per_case=tuple(
                    CaseMetrics(
                        prediction_file=str(case["prediction_file"]),
                        reference_file=str(case["reference_file"]),
                        metrics=_with_classes(_from_keys(case["metrics"]), mean),
                    )
                    for case in value["metric_per_case"]
                ),
                mean=mean,
                foreground_mean=_numbers(value["foreground_mean"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                message(
                    where,
                    expected="a summary with the keys 'metric_per_case', 'mean' and 'foreground_mean'",
                    got=f"{type(error).__name__}: {error}",
                    remedy="Write it again with `segwright evaluate`.",
                )
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Content of summary.json; regions become keys such as "(1, 2, 3)"."""
        return {
            "foreground_mean": dict(self.foreground_mean),
            "mean": _to_keys(self.mean),
            "metric_per_case": [
                {
                    "metrics": _to_keys(case.metrics),
                    "prediction_file": case.prediction_file,
                    "reference_file": case.reference_file,
                }
                for case in self.metric_per_case
            ],
        }

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read a summary.json, of nnU-Net or of Segwright.

        Raises:
            MissingFileError: there is none.
            DatasetError: it is damaged.
        """
        if not path.is_file():
            raise MissingFileError(
                message(
                    path, expected="a summary.json", got="no such file", remedy="Write it with `segwright evaluate`."
                )
            )
        return cls.from_json(read_json(path), where=str(path))

    def write(self, path: Path) -> None:
        """Write summary.json as nnU-Net does: keys sorted, NaN as `NaN`. Atomic."""
        write_text_atomic(path, json.dumps(self.to_json(), sort_keys=True, indent=4))


def key_of(value: LabelOrRegion) -> str:
    """Key of a label or region in summary.json, such as "1" or "(1, 2, 3)"."""
    return str(value)


def label_of(key: str) -> LabelOrRegion:
    """Label or region that a key of summary.json stands for; the inverse of `key_of`."""
    if key.startswith("("):
        return tuple(int(part) for part in key.strip("()").split(",") if part.strip())
    return int(key)


def _to_keys(by_label: Mapping[LabelOrRegion, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {key_of(value): dict(metrics) for value, metrics in by_label.items()}


def _from_keys(by_key: Mapping[str, Mapping[str, float]]) -> dict[LabelOrRegion, dict[str, float]]:
    return {label_of(key): _numbers(metrics) for key, metrics in by_key.items()}


def _with_classes(
    metrics: dict[LabelOrRegion, dict[str, float]], classes: Iterable[LabelOrRegion]
) -> dict[LabelOrRegion, dict[str, float]]:
    missing = [key_of(value) for value in classes if value not in metrics]
    if missing:
        raise ValueError(f"a case without class {missing[0]}, which has a mean")
    return metrics


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    for name in _NEEDED_METRICS:
        if name not in metrics:
            raise ValueError(f"metrics without {name}")
    for name, value in metrics.items():
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} is {value!r}")
        if name in _NEEDED_METRICS and (value < 0 or value > 1):  # NaN is neither
            raise ValueError(f"{name} is {value!r}, not within 0 to 1")
    return dict(metrics)


def _nanmean(values: Sequence[float]) -> float:
    """Mean without NaN; NaN if nothing is left, without NumPy's warning."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(numbers)) if not np.isnan(numbers).all() else math.nan
