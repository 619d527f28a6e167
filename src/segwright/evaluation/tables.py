"""Tables of a summary: a row per class, and the best, median and worst case."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from segwright.evaluation.summary import CaseMetrics, Summary
from segwright.labels import LabelOrRegion, Labels


@dataclass(frozen=True)
class ClassRow:
    """Dice of one class over the cases where the prediction or the reference has it (`num_cases`)."""

    value: LabelOrRegion
    name: str
    mean_dice: float
    median_dice: float
    min_dice: float
    max_dice: float
    mean_iou: float
    num_cases: int


@dataclass(frozen=True)
class ExtremeCases:
    """Best, median and worst case by mean foreground Dice; the same case may appear more than once."""

    best: CaseMetrics
    median: CaseMetrics
    worst: CaseMetrics


def class_rows(summary: Summary, labels: Labels | None = None) -> tuple[ClassRow, ...]:
    """One row per class in the order of the labels, or of their values if no labels are given."""
    found = tuple(summary.mean)
    order = labels.classes if labels is not None and set(labels.classes) == set(found) else _by_value(found)
    return tuple(_class_row(summary, value, labels) for value in order)


def extreme_cases(summary: Summary) -> ExtremeCases | None:
    """Pick the best, the median and the worst case; None if no case has a score.

    Cases without any foreground in prediction and reference have none. Equal scores are ordered by case id; of an even
    number of cases the lower middle one is the median.
    """
    scored = [case for case in summary.metric_per_case if not math.isnan(case.mean_foreground_dice)]
    if not scored:
        return None
    ranked = sorted(scored, key=lambda case: (case.mean_foreground_dice, case.case_id))
    return ExtremeCases(best=ranked[-1], median=ranked[(len(ranked) - 1) // 2], worst=ranked[0])


def _class_row(summary: Summary, value: LabelOrRegion, labels: Labels | None) -> ClassRow:
    dice = [case.metrics[value]["Dice"] for case in summary.metric_per_case]
    finite = [score for score in dice if not math.isnan(score)] or [math.nan]
    return ClassRow(
        value=value,
        name=str(value) if labels is None else labels.name_of(value),
        mean_dice=summary.mean[value]["Dice"],
        median_dice=statistics.median(finite),
        min_dice=min(finite),
        max_dice=max(finite),
        mean_iou=summary.mean[value]["IoU"],
        num_cases=sum(not math.isnan(score) for score in dice),
    )


def _by_value(values: tuple[LabelOrRegion, ...]) -> tuple[LabelOrRegion, ...]:
    return tuple(sorted(values, key=lambda value: value if isinstance(value, tuple) else (value,)))
