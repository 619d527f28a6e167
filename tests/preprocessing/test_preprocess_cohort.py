from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from segwright.dataset import RawDataset
from segwright.errors import DatasetError, LockedError, MissingFileError, PlanError
from segwright.io import reader_named
from segwright.planning.plan import Plan
from segwright.preprocessing.cohort import SOURCES_NAME, PreprocessResult, preprocess_dataset
from segwright.preprocessing.record import RECORD_NAME
from segwright.preprocessing.store import PreprocessedStore

PLANS = Path(__file__).parent.parent / "golden" / "plans" / "Dataset903_Hippo__nnUNetPlans.json"
PROPERTIES = {
    "spacing": [1.0, 1.0, 1.0],
    "sitk_stuff": {"spacing": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "direction": (1.0, 0, 0, 0, 1, 0, 0, 0, 1)},
}


def write_volume(array: Any, path: Path) -> None:
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def dataset(tmp_path: Path) -> RawDataset:
    folder = tmp_path / "raw" / "Dataset903_Hippo"
    rng = np.random.default_rng(0)
    for case_id in ("a", "b", "c"):
        write_volume(rng.random((10, 12, 14)).astype(np.float32), folder / "imagesTr" / f"{case_id}_0000.mha")
        write_volume(rng.integers(0, 3, (10, 12, 14)).astype(np.uint8), folder / "labelsTr" / f"{case_id}.mha")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": 3,
        "file_ending": ".mha",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return RawDataset.open(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "preprocessed" / "Dataset903_Hippo"


def plan_with(configuration: str = "3d_fullres", **entries: Any) -> Plan:
    plan = json.loads(PLANS.read_text())
    plan["configurations"][configuration].update(entries)
    return Plan.from_json(plan)


def run(
    dataset: RawDataset, folder: Path, plan: Plan | None = None, names: Sequence[str] = ("3d_fullres",), **options: Any
) -> PreprocessResult:
    return preprocess_dataset(dataset, plan or plan_with(), names, folder, **{"workers": 1, **options})


def store_of(folder: Path, name: str = "3d_fullres") -> PreprocessedStore:
    return PreprocessedStore(folder / plan_with().configuration(name).data_identifier)


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (1, 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_case_is_there_for_every_configuration(dataset: RawDataset, folder: Path, workers: int) -> None:
    seen: list[tuple[str, int, int]] = []
    result = run(dataset, folder, names=("2d", "3d_fullres"), workers=workers, progress=lambda *at: seen.append(at))
    assert result == PreprocessResult(done=("a", "b", "c"), skipped=(), failures=())
    assert seen == [("preprocessing 2d, 3d_fullres", done, 3) for done in range(4)]
    for name in ("2d", "3d_fullres"):
        store = store_of(folder, name)
        assert store.case_ids() == ("a", "b", "c")
        assert set(store.read_properties("a")["class_locations"]) == {1, 2}
        assert store.open("a").shape == (10, 12, 14)
    assert json.loads((folder / "dataset.json").read_text()) == dataset.description.raw
    references = folder / "gt_segmentations"
    assert sorted(path.name for path in references.iterdir()) == ["a.mha", "b.mha", "c.mha"]
    assert (references / "a.mha").read_bytes() == (dataset.folder / "labelsTr" / "a.mha").read_bytes()
    assert not (folder / "splits_final.json").exists()


def test_nnunet_finds_one_kind_of_file_among_the_cases(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    files = [path for path in store_of(folder).folder.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".b2nd", ".pkl"}


def test_what_is_done_is_skipped(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    store = store_of(folder)
    before = (store.folder / "a.pkl").stat().st_mtime_ns
    (store.folder / "b.pkl").unlink()
    assert run(dataset, folder) == PreprocessResult(done=("b",), skipped=("a", "c"), failures=())
    assert (store.folder / "a.pkl").stat().st_mtime_ns == before
    assert run(dataset, folder, names=("2d", "3d_fullres")).done == ("a", "b", "c")


def test_a_case_whose_files_changed_is_done_again(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    path = dataset.folder / "labelsTr" / "b.mha"
    write_volume(np.ones((10, 12, 14), np.uint8), path)
    later = store_of(folder).folder.joinpath("b.pkl").stat().st_mtime + 10
    os.utime(path, (later, later))
    assert run(dataset, folder).done == ("b",)
    assert (store_of(folder).open("b").seg[:] == 1).all()
    assert (folder / "gt_segmentations" / "b.mha").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "entries",
    [
        {"spacing": [2.0, 1.0, 1.0]},
        {"normalization_schemes": ["RescaleTo01Normalization"]},
        {"use_mask_for_norm": [True]},
        {"resampling_fn_data_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}},
    ],
)
def test_other_settings_make_the_folder_anew(dataset: RawDataset, folder: Path, entries: dict[str, Any]) -> None:
    run(dataset, folder)
    assert run(dataset, folder, plan_with(**entries)).done == ("a", "b", "c")
    assert run(dataset, folder, plan_with(**entries)).skipped == ("a", "b", "c")
    assert not [path for path in folder.iterdir() if "discarded" in path.name]


def test_settings_of_training_do_not(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    assert run(dataset, folder, plan_with(batch_size=4)).done == ()


def test_cases_of_other_settings_do_not_outlive_an_interrupted_run(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    one_case = replace(dataset, cases=dataset.cases[:1])
    run(one_case, folder, plan_with(spacing=[2.0, 1.0, 1.0]))
    assert store_of(folder).case_ids() == ("a",)
    assert run(dataset, folder, plan_with(spacing=[2.0, 1.0, 1.0])).done == ("b", "c")


def test_overwriting_makes_everything_anew(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    assert run(dataset, folder, overwrite=True).done == ("a", "b", "c")


def as_nnunet_leaves_it(folder: Path) -> None:
    """A folder that says nothing of settings and files."""
    for name in (RECORD_NAME, SOURCES_NAME):
        (folder / name).unlink()


def test_nnunets_own_folders_are_taken_as_they_are(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    store = store_of(folder)
    as_nnunet_leaves_it(store.folder)
    (store.folder / "c.pkl").unlink()
    assert run(dataset, folder, plan_with(spacing=[2.0, 1.0, 1.0])).done == ("c",)
    assert not (store.folder / RECORD_NAME).exists()


def test_a_label_map_that_is_newer_than_nnunets_case_makes_it_anew(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    as_nnunet_leaves_it(store_of(folder).folder)
    age(store_of(folder).folder / "b.pkl")
    assert run(dataset, folder).done == ("b",)
    assert run(dataset, folder).done == ()


def test_a_case_that_is_replaced_by_an_older_one_is_done_again(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    path = dataset.folder / "labelsTr" / "b.mha"
    write_volume(np.ones((10, 12, 14), np.uint8), path)
    age(path)
    assert run(dataset, folder).done == ("b",)
    assert (store_of(folder).open("b").seg[:] == 1).all()
    assert (folder / "gt_segmentations" / "b.mha").read_bytes() == path.read_bytes()
    assert run(dataset, folder).done == ()


def test_a_copied_workspace_is_not_made_anew(dataset: RawDataset, folder: Path, tmp_path: Path) -> None:
    run(dataset, folder)
    for name in ("raw", "preprocessed"):
        shutil.copytree(tmp_path / name, tmp_path / "moved" / name)
    moved = RawDataset.open(tmp_path / "moved" / "raw" / dataset.folder.name)
    assert run(moved, tmp_path / "moved" / "preprocessed" / folder.name).done == ()


def test_a_torn_note_of_sources_is_no_note(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    path = store_of(folder).folder / SOURCES_NAME
    path.write_bytes(path.read_bytes()[:-9])
    assert run(dataset, folder).done == ()


def test_cases_that_the_data_set_has_no_more_are_removed(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    store_of(folder).folder.joinpath("notes.txt").write_text("mine")
    rest = replace(dataset, cases=dataset.cases[:2])
    result = run(rest, folder)
    assert (result.skipped, result.removed) == (("a", "b"), ("c",))
    assert store_of(folder).case_ids() == ("a", "b")
    assert not list(store_of(folder).folder.glob("c*"))
    assert store_of(folder).folder.joinpath("notes.txt").exists()
    assert run(dataset, folder).done == ("c",)


def test_a_case_that_a_power_cut_tore_is_made_again(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    store, mark = store_of(folder), store_of(folder).folder / "segwright" / "unflushed"
    (store.folder / "b.pkl").unlink()
    marked: list[bool] = []
    run(dataset, folder, progress=lambda *at: marked.append(mark.exists()))
    assert marked == [True, True]
    assert not mark.exists()

    mark.touch()
    torn = store.folder / "c_seg.b2nd"
    torn.write_bytes(torn.read_bytes()[:-100])
    assert run(dataset, folder).done == ("c",)
    assert not mark.exists()
    assert store.is_whole("c")

    mark.touch()
    assert run(dataset, folder).done == ()
    assert not mark.exists()


def test_a_run_without_anything_to_do_flushes_nothing(
    dataset: RawDataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dataset, folder)
    flushed: list[Path] = []
    monkeypatch.setattr("segwright.preprocessing.cohort.flush_folders", flushed.extend)
    run(dataset, folder)
    assert flushed == []
    run(dataset, folder, overwrite=True)
    assert flushed == [store_of(folder).folder]


def test_workers_are_as_many_as_fit_by_the_headers(
    dataset: RawDataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("segwright.preprocessing.cohort.workers_for", lambda tasks, size: asked.append(size) or 1)
    for voxels in (10**6, 10**9):
        monkeypatch.setattr("segwright.preprocessing.cohort.largest_case_voxels", lambda *_, size=voxels: size)
        run(dataset, folder, workers=None, overwrite=True)
    assert asked[0] < 400 << 20
    assert asked[1] > 30 << 30


def test_a_torn_copy_of_a_label_map_is_copied_again(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    copy = folder / "gt_segmentations" / "b.mha"
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1])
    assert run(dataset, folder).done == ("b",)
    assert copy.read_bytes() == whole
    assert len(list(copy.parent.iterdir())) == 3


def test_a_bad_case_is_reported_and_the_others_are_done(dataset: RawDataset, folder: Path) -> None:
    array = np.ones((10, 12, 14), np.float32)
    array[0, 0, :2] = np.nan
    write_volume(array, dataset.folder / "imagesTr" / "b_0000.mha")
    result = run(dataset, folder)
    assert result.done == ("a", "c")
    (failure,) = result.failures
    assert failure.case_id == "b"
    assert failure.expected
    assert re.search("case b: .*channel 0.* 2 of 1680 ", failure.message)
    assert store_of(folder).case_ids() == ("a", "c")
    assert run(dataset, folder).skipped == ("a", "c")


def test_configurations_that_differ_in_training_only_share_a_folder(dataset: RawDataset, folder: Path) -> None:
    plan = plan_with().with_configuration("larger", {"inherits_from": "3d_fullres", "batch_size": 40})
    assert run(dataset, folder, plan, ("3d_fullres", "larger")).done == ("a", "b", "c")
    finer = plan_with().with_configuration("finer", {"inherits_from": "3d_fullres", "spacing": [0.5, 0.5, 0.5]})
    with pytest.raises(PlanError, match=r"'finer'.*data_identifier"):
        run(dataset, folder, finer, ("3d_fullres", "finer"))


def test_splits_of_the_raw_data_set_are_taken_over_once(dataset: RawDataset, folder: Path) -> None:
    splits = [{"train": ["a", "b"], "val": ["c"]}]
    (dataset.folder / "splits_final.json").write_text(json.dumps(splits))
    run(dataset, folder)
    assert json.loads((folder / "splits_final.json").read_text()) == splits
    run(dataset, folder)
    (folder / "splits_final.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"splits_final\.json"):
        run(dataset, folder)


def test_two_processes_do_not_write_one_folder(dataset: RawDataset, folder: Path) -> None:
    folder.mkdir(parents=True)
    with FileLock(folder / ".preprocessing.lock"), pytest.raises(LockedError, match=folder.name):
        run(dataset, folder)


def test_the_properties_lead_back_to_the_image(dataset: RawDataset, folder: Path, tmp_path: Path) -> None:
    run(dataset, folder)
    raw = pickle.loads((store_of(folder).folder / "a.pkl").read_bytes())
    assert raw["shape_before_cropping"] == (10, 12, 14)
    target = tmp_path / "back.mha"
    reader_named("SimpleITKIO").write_labels(np.zeros((10, 12, 14), np.uint8), target, raw)
    assert reader_named("SimpleITKIO").read_labels(target).array.shape == (1, 10, 12, 14)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "identifier", ["../../mine", "{here}/mine", "a/b", "..", ".mine", "gt_segmentations", "GT_segmentations"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_data_identifier_that_leads_elsewhere_is_refused(
    dataset: RawDataset, folder: Path, tmp_path: Path, identifier: str, overwrite: bool
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    before = files_below(tmp_path)
    with pytest.raises(PlanError, match="data_identifier"):
        run(dataset, folder, plan_with(data_identifier=identifier.format(here=tmp_path)), overwrite=overwrite)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_something_else_is_neither_deleted_nor_written_to(
    dataset: RawDataset, folder: Path, overwrite: bool
) -> None:
    place = folder / "notes"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")
    before = files_below(folder)
    with pytest.raises(PlanError, match=r"data_identifier.*thesis\.txt"):
        run(dataset, folder, plan_with(data_identifier="notes"), overwrite=overwrite)
    assert {name for name in files_below(folder) if not name.startswith(".")} == set(before)


@pytest.mark.parametrize("is_ours", [False, True])
def test_overwriting_deletes_cases_and_nothing_else(dataset: RawDataset, folder: Path, is_ours: bool) -> None:
    run(dataset, folder)
    place = store_of(folder).folder
    if not is_ours:
        as_nnunet_leaves_it(place)
    for name in ("notes.txt", "sub/a.pkl", "stats.npz"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("mine")
    rest = replace(dataset, cases=dataset.cases[:2])
    assert run(rest, folder, overwrite=True).done == ("a", "b")
    assert store_of(folder).case_ids() == ("a", "b")
    assert not list(place.glob("c*"))
    assert {(place / name).read_text() for name in ("notes.txt", "sub/a.pkl", "stats.npz")} == {"mine"}
    assert (place / RECORD_NAME).is_file()


def test_cases_that_segwright_did_not_write_are_not_removed_unasked(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    as_nnunet_leaves_it(store_of(folder).folder)
    before = files_below(folder)
    with pytest.raises(DatasetError, match=r"\bc\b"):
        run(replace(dataset, cases=dataset.cases[:2]), folder)
    assert files_below(folder) == before


def test_a_link_is_not_followed_to_delete(dataset: RawDataset, folder: Path, tmp_path: Path) -> None:
    run(dataset, folder)
    place = store_of(folder).folder
    place.rename(tmp_path / "fast_disk")
    place.symlink_to(tmp_path / "fast_disk")
    before = files_below(tmp_path / "fast_disk")
    assert run(dataset, folder).done == ()
    for options in ({"overwrite": True}, {"plan": plan_with(spacing=[2.0, 1.0, 1.0])}):
        with pytest.raises(DatasetError, match="fast_disk"):
            run(dataset, folder, **options)
    with pytest.raises(DatasetError, match="fast_disk"):
        run(replace(dataset, cases=dataset.cases[:2]), folder)
    assert files_below(tmp_path / "fast_disk") == before


def test_cases_that_collide_are_refused_before_any_is_touched(dataset: RawDataset, folder: Path) -> None:
    run(dataset, folder)
    before = files_below(folder)
    colliding = replace(dataset, cases=(*dataset.cases, replace(dataset.cases[0], case_id="a_seg")))
    with pytest.raises(DatasetError, match="a_seg"):
        run(colliding, folder, overwrite=True)
    assert files_below(folder) == before


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("deleted", ["configuration", "data set"])
def test_a_folder_deleted_meanwhile_is_an_error(
    dataset: RawDataset, folder: Path, tmp_path: Path, deleted: str, workers: int
) -> None:
    def delete(_: str, done: int, __: int) -> None:
        if done == 1:
            gone = folder if deleted == "data set" else next(folder.glob("nnUNetPlans_*"))
            gone.rename(tmp_path / "deleted")  # at one stroke, as rmtree would meet the workers' files

    with pytest.raises(MissingFileError):
        run(dataset, folder, progress=delete, workers=workers)


def test_a_link_in_the_place_of_an_unfinished_file_is_not_written_through(
    dataset: RawDataset, folder: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work")
    own = store_of(folder).folder / "segwright"
    for path in (own / "a.pkl", own / "a.b2nd", own / "a_seg.b2nd", folder / "gt_segmentations" / ".a.mha.part"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(mine)
    assert run(dataset, folder).done == ("a", "b", "c")
    assert mine.read_text() == "years of work"
    assert not any(path.is_symlink() for path in folder.rglob("*"))
