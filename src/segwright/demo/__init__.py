"""The demo: real data that ships with the package, and a network small enough for a laptop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from segwright.planning.plan import Plan

DATASET_NAME = "Dataset004_Hippocampus"
DATA_FOLDER = Path(__file__).parent / "data"
CREDIT = (
    "Data: Medical Segmentation Decathlon, Task04 Hippocampus, CC BY-SA 4.0. Antonelli et al., The Medical "
    "Segmentation Decathlon, Nature Communications 13, 4128 (2022), doi 10.1038/s41467-022-30695-9."
)

CONFIGURATION = "3d_demo"
FOLD = 0
FEATURES_IN_FIRST_STAGE = 8
BATCH_SIZE = 2
TRAINING: dict[str, Any] = {
    "num_epochs": 12,
    "num_iterations_per_epoch": 25,
    "num_val_iterations_per_epoch": 4,
    "initial_lr": 6e-3,
    "seed": 0,
}


def copy_raw_data(raw_folder: Path) -> Path:
    """Copy the data set, its licence and credit into a folder of raw data sets; return the data set's own folder."""
    raw_folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DATA_FOLDER / "CREDITS.md", raw_folder / "CREDITS.md")
    target = raw_folder / DATASET_NAME
    shutil.copytree(DATA_FOLDER / DATASET_NAME, target, dirs_exist_ok=True)
    return target


def with_demo_configuration(plan: Plan) -> Plan:
    """Add the hand-made configuration: `3d_fullres` with fewer features and its smallest batch."""
    parent = plan.configuration("3d_fullres")
    architecture = dict(parent.raw["architecture"])
    kwargs = dict(architecture["arch_kwargs"])
    kwargs["features_per_stage"] = [FEATURES_IN_FIRST_STAGE * 2**stage for stage in range(kwargs["n_stages"])]
    entries = {
        "inherits_from": "3d_fullres",
        "batch_size": BATCH_SIZE,
        "architecture": {**architecture, "arch_kwargs": kwargs},
    }
    return plan.with_configuration(CONFIGURATION, entries)
