"""Fingerprints and preprocessed cases of real data are nnunetv2's, and each reads what the other stored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from segwright.dataset import RawDataset
from segwright.fingerprint import Fingerprint, fingerprint_dataset
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.preprocessing.cohort import preprocess_dataset
from segwright.preprocessing.store import PreprocessedStore

NUM_CASES = 3
DATASETS = ("Dataset004_Hippocampus", "Dataset027_ACDC", "Dataset801_DRIVE", "Dataset043_BraTS")


@dataclass(frozen=True)
class Both:
    """A data set preprocessed by both: the roots of the preprocessed folders, and what the peer read of ours."""

    own: Path
    peer: Path
    read_by_peer: Path
    plan: Plan
    configurations: tuple[str, ...]
    fingerprint: Fingerprint


def setting(name: str, meaning: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"Set {name} to {meaning}, or run `make parity`.")
    return value


def excerpt(source: Path, target: Path) -> RawDataset:
    """Copy the first cases of a data set."""
    dataset = RawDataset.open(source)
    cases = dataset.cases[:NUM_CASES]
    for case in cases:
        assert case.label_path is not None
        for path in (*case.image_paths, case.label_path):
            place = target / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    description = {**dataset.description.raw, "numTraining": len(cases)}
    (target / "dataset.json").write_text(json.dumps(description))
    return RawDataset.open(target)


@pytest.fixture(scope="module", params=DATASETS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    name = request.param
    peer_python = setting("SEGWRIGHT_PEER", "the Python of an environment with nnunetv2")
    data = Path(setting("SEGWRIGHT_DATA", "the folder with the raw data sets")) / name
    root = tmp_path_factory.mktemp(name)
    raw, own, peer, read_by_peer = (root / part for part in ("raw", "own", "peer", "read_by_peer"))
    dataset = excerpt(data, raw / name)
    fingerprint = fingerprint_dataset(dataset)
    plan = make_plan(fingerprint, dataset.description, dataset_name=name, image_reader_writer=dataset.reader().name)
    configurations = tuple(name for name in ("2d", "3d_fullres") if name in plan.configuration_names)
    for folder in (own / name, peer / name):
        plan.write(folder / "nnUNetPlans.json")
        dataset.description.write(folder / "dataset.json")
    read_by_peer.mkdir()
    result = preprocess_dataset(dataset, plan, configurations, own / name, workers=1)
    assert not result.failures
    driver = Path(__file__).with_name("peer_preprocessing.py")
    subprocess.run(
        [peer_python, driver, raw, peer, name, own, read_by_peer, *configurations],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    return Both(own / name, peer / name, read_by_peer, plan, configurations, fingerprint)


@pytest.mark.parity
def test_fingerprints_agree(both: Both) -> None:
    path = both.peer / "dataset_fingerprint.json"
    own, peer = both.fingerprint.to_json(), json.loads(path.read_text())
    assert list(own) == list(peer)
    for key in ("spacings", "shapes_after_crop", "median_relative_size_after_cropping"):
        assert own[key] == peer[key]
    key = "foreground_intensity_properties_per_channel"
    assert list(own[key]) == list(peer[key])
    for channel, expected in peer[key].items():
        assert list(own[key][channel]) == list(expected)
        for name, value in expected.items():  # nnU-Net averages in float32
            assert own[key][channel][name] == pytest.approx(value, rel=1e-6), (channel, name)
    assert Fingerprint.read(path).shapes_after_crop == both.fingerprint.shapes_after_crop


@pytest.mark.parity
def test_preprocessed_cases_agree(both: Both) -> None:
    for name in both.configurations:
        identifier = both.plan.configuration(name).data_identifier
        own, peer = PreprocessedStore(both.own / identifier), PreprocessedStore(both.peer / identifier)
        assert own.case_ids() == peer.case_ids()
        for case_id in own.case_ids():
            mine, theirs = own.open(case_id), peer.open(case_id)
            data, expected = mine.data[:], theirs.data[:]
            for channel, expected_channel in zip(data, expected, strict=True):
                assert np.abs(channel - expected_channel).max() <= 1e-4 * np.ptp(expected_channel)
            assert mine.seg.dtype == theirs.seg.dtype
            assert (mine.seg[:] == theirs.seg[:]).mean() >= 0.9999
            compare_properties(own.read_properties(case_id), peer.read_properties(case_id))


def compare_properties(own: dict[str, object], peer: dict[str, object]) -> None:
    assert own.keys() == peer.keys()
    for key in peer.keys() - {"class_locations"}:
        assert _as_lists(own[key]) == _as_lists(peer[key]), key
    mine, theirs = own["class_locations"], peer["class_locations"]
    assert isinstance(mine, dict)
    assert isinstance(theirs, dict)
    assert list(mine) == list(theirs)
    for label, voxels in theirs.items():
        np.testing.assert_array_equal(mine[label], voxels)


def _as_lists(value: object) -> object:
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


@pytest.mark.parity
def test_each_reads_what_the_other_stored(both: Both) -> None:
    for name in both.configurations:
        own = PreprocessedStore(both.own / both.plan.configuration(name).data_identifier)
        for case_id in own.case_ids():
            with np.load(both.read_by_peer / f"{name}__{case_id}.npz") as read:
                case = own.open(case_id)
                np.testing.assert_array_equal(case.data[:], read["data"])
                np.testing.assert_array_equal(case.seg[:], read["seg"])
                locations = own.read_properties(case_id)["class_locations"]
                assert read["locations"].tolist() == [len(voxels) for voxels in locations.values()]
