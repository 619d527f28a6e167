"""Run nnU-Net's planners on made-up fingerprints; started by test_planner_parity.py with the peer's Python.

Reads one JSON list of cases from the file named first, writes a list of the plans, or of the errors, to the second.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

FOLDERS = Path(tempfile.mkdtemp())
for _variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[_variable] = str(FOLDERS / _variable)

import nnunetv2  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner  # noqa: E402
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO  # noqa: E402
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class  # noqa: E402

DATASET = "Dataset999_Parity"


def plan(case: dict) -> dict:
    """Plan one case and return what the planner wrote."""
    raw, preprocessed = FOLDERS / "nnUNet_raw" / DATASET, FOLDERS / "nnUNet_preprocessed" / DATASET
    for folder in (raw, preprocessed):
        folder.mkdir(parents=True, exist_ok=True)
    (raw / "dataset.json").write_text(json.dumps(case["dataset"]))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(case["fingerprint"]))
    for stale in preprocessed.glob("*Plans*.json"):
        stale.unlink()
    folder = os.path.join(nnunetv2.__path__[0], "experiment_planning")
    planner_class = recursive_find_python_class(folder, case["planner"], "nnunetv2.experiment_planning")
    planner = planner_class(DATASET, **case["arguments"])
    planner.determine_reader_writer = lambda: SimpleITKIO
    if case.get("existing"):
        (preprocessed / f"{planner.plans_identifier}.json").write_text(json.dumps(case["existing"]))
    # networks are made only to be counted: no memory and no time for their weights
    with torch.device("meta"):
        planner.plan_experiment()
    return json.loads((preprocessed / f"{planner.plans_identifier}.json").read_text())


def main(cases_path: str, plans_path: str) -> None:
    """Plan every case; one that fails becomes its error."""
    default_experiment_planner.maybe_convert_to_dataset_name = lambda name: name
    default_experiment_planner.get_filenames_of_train_images_and_targets = lambda *_: {}
    results = []
    for case in json.loads(Path(cases_path).read_text()):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                results.append({"plan": plan(case)})
        except Exception as error:
            results.append({"error": f"{type(error).__name__}: {error}"})
    Path(plans_path).write_text(json.dumps(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
