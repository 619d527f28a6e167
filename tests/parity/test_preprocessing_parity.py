"""Fingerprints and preprocessed cases of real data are nnunetv2's, and each reads what the other stored."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_datasets import VARIANTS, Variant

from segwright.dataset import RawDataset
from segwright.fingerprint import Fingerprint, fingerprint_dataset
from segwright.labels import mask_of
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan
from segwright.preprocessing.cohort import preprocess_dataset
from segwright.preprocessing.store import PreprocessedStore, StoredCase

DATASET = "Dataset999_Parity"


@dataclass(frozen=True)
class Both:
    """A data set preprocessed by both: the preprocessed folders, what the peer read of ours, and what it wrote."""

    own: Path
    peer: Path
    written_by_peer: Path
    dataset: RawDataset
    plan: Plan
    configurations: tuple[str, ...]
    fingerprint: Fingerprint

    def stores(self, configuration: str) -> tuple[PreprocessedStore, PreprocessedStore]:
        identifier = self.plan.configuration(configuration).data_identifier
        return PreprocessedStore(self.own / identifier), PreprocessedStore(self.peer / identifier)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: variant.name.replace(" ", "-"))
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data_folder: Path, peer_python: str
) -> Both:
    variant: Variant = request.param
    root = tmp_path_factory.mktemp("both")
    raw, own, peer, written = (root / part for part in ("raw", "own", "peer", "written"))
    variant.build(data_folder, raw / DATASET)
    dataset = RawDataset.open(raw / DATASET, environ=os.environ)
    fingerprint = fingerprint_dataset(dataset)
    plan = make_plan(
        fingerprint,
        dataset.description,
        dataset_name=DATASET,
        image_reader_writer=dataset.reader().name,
        planner=variant.planner,
        **variant.arguments,
    )
    configurations = tuple(name for name in ("2d", "3d_lowres", "3d_fullres") if name in plan.configuration_names)
    for folder in (own / DATASET, peer / DATASET):
        plan.write(folder / f"{plan.plans_name}.json")
        dataset.description.write(folder / "dataset.json")
    written.mkdir()
    result = preprocess_dataset(dataset, plan, configurations, own / DATASET, workers=1)
    assert not result.failures
    driver = Path(__file__).with_name("peer_preprocessing.py")
    subprocess.run(
        [peer_python, driver, raw, peer, DATASET, own, written, plan.plans_name, *configurations],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    return Both(own / DATASET, peer / DATASET, written, dataset, plan, configurations, fingerprint)


@pytest.mark.parity
def test_the_same_reader_is_chosen(both: Both) -> None:
    assert both.dataset.reader().name == (both.written_by_peer / "reader.txt").read_text()


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
        own, peer = both.stores(name)
        assert own.case_ids() == peer.case_ids()
        for case_id in own.case_ids():
            mine, theirs = own.open(case_id), peer.open(case_id)
            for channel, expected in zip(mine.data[:], theirs.data[:], strict=True):
                assert np.abs(channel - expected).max() <= 1e-4 * np.ptp(expected)
            assert mine.seg.dtype == theirs.seg.dtype
            assert (mine.seg[:] == theirs.seg[:]).mean() >= 0.9999
            ours, wanted = own.read_properties(case_id), peer.read_properties(case_id)
            assert [key for key in ours if key != "segwright"] == list(wanted)
            for key in wanted.keys() - {"class_locations"}:
                assert _as_lists(ours[key]) == _as_lists(wanted[key]), key
            compare_locations(ours["class_locations"], wanted["class_locations"], mine, theirs)


def compare_locations(own: dict[Any, Any], peer: dict[Any, Any], mine: StoredCase, theirs: StoredCase) -> None:
    """The same voxels where the label maps are the same; else as many of the class as nnU-Net's rule draws."""
    seg = mine.seg[:]
    same = np.array_equal(seg, theirs.seg[:])
    assert list(own) == list(peer)
    for label, voxels in peer.items():
        if same:
            np.testing.assert_array_equal(own[label], voxels)
            continue
        there = mask_of(seg, label)
        count = int(there.sum())
        drawn = np.asarray(own[label]).reshape(-1, seg.ndim)
        assert len(drawn) == min(count, max(10_000, math.ceil(count * 0.01)))
        assert there[tuple(drawn.T)].all()
        assert len(np.unique(drawn, axis=0)) == len(drawn)


def _as_lists(value: object) -> object:
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


@pytest.mark.parity
def test_nnunet_reads_our_store(both: Both) -> None:
    for name in both.configurations:
        own, _ = both.stores(name)
        for case_id in own.case_ids():
            with np.load(both.written_by_peer / f"{name}__{case_id}.npz") as read:
                case = own.open(case_id)
                np.testing.assert_array_equal(case.data[:], read["data"])
                np.testing.assert_array_equal(case.seg[:], read["seg"])
                locations = own.read_properties(case_id)["class_locations"]
                assert read["locations"].tolist() == [len(voxels) for voxels in locations.values()]


@pytest.mark.parity
def test_the_older_form_with_npz_is_read(both: Both) -> None:
    older, (_, peer) = PreprocessedStore(both.written_by_peer / "npz"), both.stores(both.configurations[-1])
    assert older.case_ids() == peer.case_ids()
    for case_id in peer.case_ids():
        np.testing.assert_array_equal(older.open(case_id).data[:], peer.open(case_id).data[:])
        np.testing.assert_array_equal(older.open(case_id).seg[:], peer.open(case_id).seg[:])
        assert list(older.read_properties(case_id)) == list(peer.read_properties(case_id))
