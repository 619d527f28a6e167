"""Preprocess a data set: every case for every configuration, in parallel, skipping what is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segwright.dataset import Case, RawDataset
from segwright.errors import DatasetError, GeometryError, message
from segwright.io.atomic import write_json_atomic
from segwright.io.json_file import read_json
from segwright.parallel import CaseFailure, Progress, run_cases, workers_for
from segwright.planning.configuration import Configuration
from segwright.planning.plan import Plan
from segwright.preprocessing.pipeline import preprocess_case
from segwright.preprocessing.store import PreprocessedStore

RECORD_FILE = "segwright_preprocessing.json"
BYTES_PER_VOXEL = 40
WORKER_BASE_BYTES = 400 * 2**20


@dataclass(frozen=True)
class PreprocessResult:
    """Case ids by what became of them; a case is skipped if all its configurations were done before."""

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[CaseFailure, ...]


def preprocess_dataset(
    dataset: RawDataset,
    plan: Plan,
    configuration_names: Sequence[str],
    preprocessed_folder: Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PreprocessResult:
    """Preprocess all cases of a data set for some configurations of a plan.

    Writes `<data_identifier>/` for each configuration, `gt_segmentations/`, dataset.json, and splits_final.json where
    the raw data set has one, into `preprocessed_folder` (`preprocessed/DatasetXXX_Name`). A case that is there, newer
    than its files and made with the same settings, is skipped; one that fails is reported and does not stop the others.

    Args:
        workers: processes; by default as many as cores and memory allow.
        overwrite: preprocess everything anew.

    Raises:
        PlanError, DatasetError: before any case is touched.
    """
    configurations = _one_a_folder([plan.configuration(name) for name in configuration_names])
    preprocessed_folder.mkdir(parents=True, exist_ok=True)
    dataset.description.write(preprocessed_folder / "dataset.json")
    _copy_splits(dataset.folder / "splits_final.json", preprocessed_folder / "splits_final.json")
    for configuration in configurations:
        _prepare_folder(preprocessed_folder, plan, configuration, dataset, overwrite=overwrite)
    references = preprocessed_folder / "gt_segmentations"
    references.mkdir(exist_ok=True)
    todo = [case for case in dataset.cases if _is_missing(case, dataset, configurations, preprocessed_folder)]
    done, failures = [], []
    work = partial(_preprocess, dataset=dataset, plan=plan, configurations=configurations, folder=preprocessed_folder)
    results = run_cases(
        work,
        todo,
        workers=workers or workers_for(len(todo), _bytes_per_worker(plan, configurations)),
        case_id=lambda case: case.case_id,
        what="Preprocessing " + ", ".join(configuration_names),
        progress=progress,
    )
    for case, result in results:
        if isinstance(result, CaseFailure):
            failures.append(result)
        else:
            done.append(case.case_id)
    return PreprocessResult(
        done=tuple(sorted(done)),
        skipped=tuple(sorted({case.case_id for case in dataset.cases} - {case.case_id for case in todo})),
        failures=tuple(sorted(failures, key=lambda failure: failure.case_id)),
    )


def _one_a_folder(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    return tuple({configuration.data_identifier: configuration for configuration in configurations}.values())


def _preprocess(
    case: Case, *, dataset: RawDataset, plan: Plan, configurations: Sequence[Configuration], folder: Path
) -> None:
    from segwright.io import reader_named

    reader = reader_named(plan.image_reader_writer)
    image = dataset.read_image(case, reader)
    assert case.label_path is not None
    label_map = reader.read_labels(case.label_path)
    if label_map.array.shape[1:] != image.array.shape[1:]:
        raise GeometryError(
            message(
                f"case '{case.case_id}', {case.label_path.name}",
                expected=f"the image's shape {image.array.shape[1:]}",
                got=label_map.array.shape[1:],
                remedy="Resample the label map to the image; `segwright check` lists every such case.",
            )
        )
    shutil.copyfile(case.label_path, folder / "gt_segmentations" / f"{case.case_id}{dataset.description.file_ending}")
    for configuration in configurations:
        store = PreprocessedStore(folder / configuration.data_identifier)
        result = preprocess_case(
            image,
            label_map,
            plan=plan,
            configuration=configuration,
            labels=dataset.description.labels,
            where=f"case '{case.case_id}', {case.image_paths[0].name}",
        )
        store.write(case.case_id, result.data, result.seg, result.properties, patch_size=configuration.patch_size)


def _is_missing(case: Case, dataset: RawDataset, configurations: Sequence[Configuration], folder: Path) -> bool:
    assert case.label_path is not None
    reference = folder / "gt_segmentations" / f"{case.case_id}{dataset.description.file_ending}"
    changed = max(path.stat().st_mtime for path in (*case.image_paths, case.label_path))
    for configuration in configurations:
        data_folder = folder / configuration.data_identifier
        written = data_folder / f"{case.case_id}.pkl"
        if not PreprocessedStore(data_folder).is_complete(case.case_id) or written.stat().st_mtime < changed:
            return True
    return not reference.is_file()


def _record(plan: Plan, configuration: Configuration, dataset: RawDataset) -> dict[str, Any]:
    """Everything that decides the arrays, so that a changed plan is not served old ones."""
    raw = configuration.raw
    keys = [key for key in raw if key.startswith(("resampling_", "normalization", "use_mask"))]
    intensities = plan.foreground_intensity_properties_per_channel
    value = {
        "image_reader_writer": plan.image_reader_writer,
        "transpose_forward": plan.transpose_forward,
        "spacing": configuration.spacing_mm,
        **{key: raw[key] for key in sorted(keys)},
        "foreground_intensity_properties_per_channel": intensities,
        "labels": dataset.description.raw["labels"],
    }
    record: dict[str, Any] = json.loads(json.dumps(value, default=dict))
    return record


def _prepare_folder(
    preprocessed_folder: Path, plan: Plan, configuration: Configuration, dataset: RawDataset, *, overwrite: bool
) -> None:
    folder = preprocessed_folder / configuration.data_identifier
    record_file = folder / RECORD_FILE
    record = _record(plan, configuration, dataset)
    store = PreprocessedStore(folder)
    # A folder without a record is nnU-Net's own, and is taken as it is.
    stale = overwrite or (record_file.is_file() and read_json(record_file) != record)
    if stale and folder.is_dir():
        for case_id in store.case_ids():
            store.remove(case_id)
    if stale or not folder.is_dir() or not store.case_ids():
        folder.mkdir(exist_ok=True)
        write_json_atomic(record_file, record)


def _copy_splits(raw: Path, preprocessed: Path) -> None:
    if not raw.is_file():
        return
    if preprocessed.is_file() and read_json(raw) != read_json(preprocessed):
        raise DatasetError(
            message(
                raw,
                expected=f"the same splits as in {preprocessed}",
                got="others",
                remedy="Delete the one of the two files that is not meant.",
            )
        )
    shutil.copyfile(raw, preprocessed)


def _bytes_per_worker(plan: Plan, configurations: Sequence[Configuration]) -> int:
    channels = len(configurations[0].normalization_schemes)
    original = float(np.prod(plan.original_median_shape))
    largest = max(float(np.prod(configuration.median_image_size_in_voxels)) for configuration in configurations)
    return WORKER_BASE_BYTES + int(BYTES_PER_VOXEL * channels * max(original, largest))
