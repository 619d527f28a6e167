"""One function per command, with plain arguments, for the command line, a notebook, a server or a job queue.

Nothing here parses, prints, or reads the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segwright.lazy import lazy

if TYPE_CHECKING:
    from segwright.steps.check import check_dataset, require_sound
    from segwright.steps.plan import plan_dataset
    from segwright.steps.preprocess import preprocess_configurations
    from segwright.steps.report import last_trained, write_page
    from segwright.steps.run import RunOutcome, run_dataset
    from segwright.steps.train import train_fold
    from segwright.steps.watch import Quiet, Watch

__all__ = [
    "Quiet",
    "RunOutcome",
    "Watch",
    "check_dataset",
    "last_trained",
    "plan_dataset",
    "preprocess_configurations",
    "require_sound",
    "run_dataset",
    "train_fold",
    "write_page",
]

_PLACES = {
    "Quiet": "watch",
    "RunOutcome": "run",
    "Watch": "watch",
    "check_dataset": "check",
    "last_trained": "report",
    "plan_dataset": "plan",
    "preprocess_configurations": "preprocess",
    "require_sound": "check",
    "run_dataset": "run",
    "train_fold": "train",
    "write_page": "report",
}

__getattr__ = lazy(__name__, _PLACES)
