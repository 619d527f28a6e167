"""The final validation predicts as `predict` does, and what it has predicted counts as done while nothing changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.inference import Predictor
from segwright.io import reader_named
from segwright.preprocessing.store import PreprocessedStore
from segwright.training.run import TrainingOutcome, train


def run(tiny: Any, results: Path, epochs: int, **more: Any) -> TrainingOutcome:
    flags = {"num_epochs": epochs, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}
    folders = {"preprocessed_folder": tiny.preprocessed, "results_folder": results}
    return train(tiny.plan, tiny.configuration, 0, flags=flags, resume=True, loader_workers=0, **folders, **more)


def times(outcome: TrainingOutcome) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (outcome.fold_folder / "validation").glob("*.nii.gz")}


@pytest.fixture(scope="module")
def outcome(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    return run(tiny, tmp_path_factory.mktemp("results"), 1)


def test_its_label_maps_are_those_of_the_predictor(tiny: Any, outcome: TrainingOutcome) -> None:
    predictor = Predictor.from_folder(outcome.model_folder, folds=[0])
    store = PreprocessedStore(tiny.preprocessed / predictor.configuration.data_identifier)
    reader = reader_named(predictor.plan.image_reader_writer)
    assert times(outcome)
    for name in times(outcome):
        case_id = name.removesuffix(".nii.gz")
        expected = predictor.predict_preprocessed(store.open(case_id).data[:], store.read_properties(case_id))
        found = reader.read_labels(outcome.fold_folder / "validation" / name).array[0]
        assert np.array_equal(found, expected)


def test_a_case_is_predicted_again_if_weights_or_arrays_changed(tiny: Any, outcome: TrainingOutcome) -> None:
    before = times(outcome)
    assert times(run(tiny, outcome.model_folder.parent, 1)) == before
    changed = sorted(before)[0]
    store = PreprocessedStore(tiny.preprocessed / tiny.plan.configuration(tiny.configuration).data_identifier)
    for path in store.files(changed.removesuffix(".nii.gz")):
        os.utime(path)
    after = times(run(tiny, outcome.model_folder.parent, 1))
    assert {name for name in before if after[name] != before[name]} == {changed}
    longer = times(run(tiny, outcome.model_folder.parent, 2))
    assert all(longer[name] > after[name] for name in before)
