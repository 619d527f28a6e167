"""Scores of label maps: per case, per class, in nnU-Net v2's summary.json, and as tables."""

from segwright.evaluation.declared import EvaluationSetup, labels_for_evaluation
from segwright.evaluation.folder import evaluate_folder
from segwright.evaluation.metrics import compare_label_maps
from segwright.evaluation.summary import CaseMetrics, Summary
from segwright.evaluation.tables import ClassRow, ExtremeCases, class_rows, extreme_cases

__all__ = [
    "CaseMetrics",
    "ClassRow",
    "EvaluationSetup",
    "ExtremeCases",
    "Summary",
    "class_rows",
    "compare_label_maps",
    "evaluate_folder",
    "extreme_cases",
    "labels_for_evaluation",
]
