"""Segwright: medical image segmentation that configures itself, with nnU-Net v2's method and files."""

from __future__ import annotations

from segwright.lazy import lazy

TYPE_CHECKING = False  # not typing's, which takes 10 ms to import, in which Ctrl-C would show a traceback
if TYPE_CHECKING:
    from segwright.dataset import DatasetDescription, RawDataset, Workspace
    from segwright.doctor.check import check as check_dataset
    from segwright.errors import SegwrightError
    from segwright.evaluation import Summary, evaluate_folder
    from segwright.explain.explanation import explain_plan
    from segwright.fingerprint import Fingerprint, fingerprint_dataset
    from segwright.inference import Predictor, predict_folder
    from segwright.labels import Labels
    from segwright.planning import Plan, make_plan
    from segwright.preprocessing.cohort import preprocess_dataset
    from segwright.training.run import train
    from segwright.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "DatasetDescription",
    "Fingerprint",
    "Labels",
    "Plan",
    "Predictor",
    "RawDataset",
    "SegwrightError",
    "Summary",
    "Trainer",
    "Workspace",
    "check_dataset",
    "evaluate_folder",
    "explain_plan",
    "fingerprint_dataset",
    "make_plan",
    "predict_folder",
    "preprocess_dataset",
    "train",
]

# Where each public name lives.
_PLACES = {
    "DatasetDescription": "dataset",
    "Fingerprint": "fingerprint",
    "Labels": "labels",
    "Plan": "planning",
    "Predictor": "inference",
    "RawDataset": "dataset",
    "SegwrightError": "errors",
    "Summary": "evaluation",
    "Trainer": "training.trainer",
    "Workspace": "dataset",
    "check_dataset": "doctor.check:check",
    "evaluate_folder": "evaluation",
    "explain_plan": "explain.explanation",
    "fingerprint_dataset": "fingerprint",
    "make_plan": "planning",
    "predict_folder": "inference",
    "preprocess_dataset": "preprocessing.cohort",
    "train": "training.run",
}


__getattr__ = lazy(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
