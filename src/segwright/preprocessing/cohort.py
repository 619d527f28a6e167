"""Preprocess a data set: every case for every configuration, in parallel, skipping what is done."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from segwright.dataset.case_ids import require_apart
from segwright.dataset.case_size import largest_case_voxels
from segwright.dataset.cases import Case, read_case_image
from segwright.dataset.description import FILE_NAME as DESCRIPTION_NAME
from segwright.dataset.raw import RawDataset
from segwright.dataset.sources import Sources, sources_of
from segwright.dataset.splits import FILE_NAME as SPLITS_NAME
from segwright.errors import DatasetError, LockedError, PlanError, message
from segwright.io import reader_named
from segwright.io.atomic import flush_folders, write_errors_explained, write_json_atomic, write_text_atomic
from segwright.io.json_file import read_json
from segwright.io.kept_folder import kept_folder, refuse_lost_folder
from segwright.io.notes import add_note, read_notes
from segwright.parallel import CaseFailure, Progress, run_cases, workers_for
from segwright.planning.configuration import Configuration
from segwright.planning.plan import Plan
from segwright.preprocessing.ownership import prepare_folder, refuse_foreign, remove_abandoned
from segwright.preprocessing.pipeline import crop_case, fit_case
from segwright.preprocessing.record import record_of
from segwright.preprocessing.store import OWN_FOLDER, PreprocessedStore
from segwright.task import Task

REFERENCES_NAME = "gt_segmentations"
SOURCES_NAME = Path(OWN_FOLDER) / "sources.jsonl"
# there while cases are written that are not flushed to the disk yet
_UNFLUSHED_NAME = Path(OWN_FOLDER) / "unflushed"
_WORKER_BYTES = 300 << 20
_BYTES_PER_VOXEL = 30
_BYTES_PER_VOXEL_AND_CHANNEL = 12


@dataclass(frozen=True)
class PreprocessResult:
    """Case ids by what became of them. A case is skipped if it was done before for all configurations.

    Removed from the folders are cases that the data set does not have any more.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[CaseFailure, ...]
    removed: tuple[str, ...] = ()

    @property
    def num_cases(self) -> int:
        """Cases of the data set."""
        return len(self.done) + len(self.skipped) + len(self.failures)


@dataclass(frozen=True)
class _Task:
    case: Case
    sources: Sources
    configurations: tuple[Configuration, ...]
    reference: Path | None


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
    """Preprocess all cases for some configurations of a plan into `preprocessed/DatasetXXX_Name`.

    Writes `<data_identifier>/` for each configuration, `gt_segmentations/`, dataset.json, and splits_final.json if
    the raw data set has one. A case is skipped if it is complete, newer than its image and label map, made of these
    very files, and with the same settings; with other settings, or `overwrite`, all are preprocessed again. Of
    nnU-Net's own folders, which say nothing of files and settings, newer cases are taken as they are. A case that the
    data set does not have any more is removed. Nothing but cases is ever deleted, and nothing of a folder that is a
    link. A case that fails is reported in the result and stops no other. By
    default there are as many workers as cores and memory allow.

    Raises:
        PlanError, DatasetError: before any case is touched.
        LockedError: another process preprocesses into the same folder.
        MissingFileError: the folder of a configuration was deleted or replaced meanwhile.
    """
    configurations = _one_a_folder(plan, configuration_names, dataset)
    preprocessed_folder.mkdir(parents=True, exist_ok=True)
    with _locked(preprocessed_folder):
        case_ids = [case.case_id for case in dataset.cases]
        require_apart(case_ids, len(dataset.description.channel_names), preprocessed_folder)
        records = {
            preprocessed_folder / each.data_identifier: record_of(Task(plan, each, dataset.description))
            for each in configurations
        }
        for folder, record in records.items():
            refuse_foreign(folder, record, case_ids, overwrite=overwrite)
        dataset.description.write(preprocessed_folder / DESCRIPTION_NAME)
        _copy_splits(dataset.folder / SPLITS_NAME, preprocessed_folder / SPLITS_NAME)
        for folder, record in records.items():
            prepare_folder(folder, record, overwrite=overwrite)
        removed = {case_id for folder in records for case_id in remove_abandoned(folder, case_ids)}
        noted = {folder: read_notes(folder / SOURCES_NAME) for folder in records}
        tasks = [_task(case, configurations, dataset, preprocessed_folder, noted) for case in dataset.cases]
        unflushed = [
            preprocessed_folder / each.data_identifier
            for each in configurations
            if any(each in task.configurations for task in tasks)
            or (preprocessed_folder / each.data_identifier / _UNFLUSHED_NAME).exists()
        ]
        with _kept(tuple(records)), _flushed_at_the_end(unflushed):
            result = _run(tasks, dataset, plan, configurations, preprocessed_folder, workers, progress)
    return replace(result, removed=tuple(sorted(removed)))


def _run(
    tasks: Sequence[_Task],
    dataset: RawDataset,
    plan: Plan,
    configurations: Sequence[Configuration],
    folder: Path,
    workers: int | None,
    progress: Progress | None,
) -> PreprocessResult:
    wanted = [task for task in tasks if task.configurations or task.reference]
    done: list[str] = []
    failures: list[CaseFailure] = []
    for task, result in run_cases(
        partial(_preprocess, dataset=dataset, plan=plan, folder=folder),
        wanted,
        workers=workers_for(len(wanted), _bytes_per_worker(dataset, plan, configurations))
        if workers is None
        else workers,
        case_id=_case_id,
        what="preprocessing " + ", ".join(configuration.name for configuration in configurations),
        progress=progress,
    ):
        for configuration in configurations:
            refuse_lost_folder(folder / configuration.data_identifier)  # a worker makes a missing one again
        if isinstance(result, CaseFailure):
            failures.append(result)
        else:
            done.append(task.case.case_id)
            for configuration in task.configurations:
                add_note(folder / configuration.data_identifier / SOURCES_NAME, task.case.case_id, task.sources)
    return PreprocessResult(
        done=tuple(sorted(done)),
        skipped=tuple(task.case.case_id for task in tasks if task not in wanted),
        failures=tuple(sorted(failures, key=lambda failure: failure.case_id)),
    )


def _case_id(task: _Task) -> str:
    return task.case.case_id


def _preprocess(task: _Task, *, dataset: RawDataset, plan: Plan, folder: Path) -> None:
    case = task.case
    assert case.label_path is not None
    if task.configurations:
        reader = reader_named(plan.image_reader_writer)
        where = f"case {case.case_id}"
        cropped = crop_case(
            read_case_image(reader, case, len(dataset.description.channel_names)),
            reader.read_labels(case.label_path),
            plan=plan,
            labels=dataset.description.labels,
            where=where,
        )
    for configuration in task.configurations:
        # not kept in a variable: two of them at once may be more memory than there is
        PreprocessedStore(folder / configuration.data_identifier).write(
            case.case_id,
            fit_case(
                cropped,
                task=Task(plan, configuration, dataset.description),
                where=where,
                in_place=configuration is task.configurations[-1],
            ),
            configuration.patch_size,
        )
    if task.reference is not None:
        unfinished = task.reference.with_name(f".{task.reference.name}.part")
        with write_errors_explained(task.reference):
            task.reference.parent.mkdir(exist_ok=True)
            unfinished.unlink(missing_ok=True)  # were it a link, another file would be written to
            shutil.copyfile(case.label_path, unfinished)
            os.replace(unfinished, task.reference)


def _task(
    case: Case,
    configurations: Sequence[Configuration],
    dataset: RawDataset,
    folder: Path,
    noted: Mapping[Path, Mapping[str, Sources]],
) -> _Task:
    """What is left to do for a case; `noted` has what its arrays were made of, by their folder."""
    assert case.label_path is not None
    try:
        sources = sources_of(case)
        label = case.label_path.stat()
        changed = max(label.st_mtime, *(path.stat().st_mtime for path in case.image_paths))
    except OSError:  # a broken link, which its reader reports
        return _Task(case=case, sources=[], configurations=tuple(configurations), reference=None)
    reference = folder / REFERENCES_NAME / f"{case.case_id}{dataset.description.file_ending}"
    copy = reference.stat() if reference.is_file() else None
    copied = copy is not None and copy.st_mtime >= label.st_mtime and copy.st_size == label.st_size
    left = []
    for configuration in configurations:
        made_in = folder / configuration.data_identifier
        made_of = noted[made_in].get(case.case_id, sources)
        if made_of != sources or not _is_done(case.case_id, made_in, changed):
            left.append(configuration)
    return _Task(
        case=case, sources=sources, configurations=tuple(left), reference=None if copied and not left else reference
    )


def _is_done(case_id: str, folder: Path, changed: float) -> bool:
    store = PreprocessedStore(folder)
    if not store.is_complete(case_id) or ((folder / _UNFLUSHED_NAME).exists() and not store.is_whole(case_id)):
        return False
    return (folder / f"{case_id}.pkl").stat().st_mtime >= changed


@contextmanager
def _kept(folders: Sequence[Path]) -> Iterator[None]:
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(kept_folder(folder))
        yield


@contextmanager
def _flushed_at_the_end(folders: Sequence[Path]) -> Iterator[None]:
    """Flush once for all cases. The mark stays if the power is cut, and the cases are looked at closely then."""
    for folder in folders:
        write_text_atomic(folder / _UNFLUSHED_NAME, "")
    yield
    flush_folders(folders)
    for folder in folders:
        (folder / _UNFLUSHED_NAME).unlink()


def _one_a_folder(plan: Plan, names: Sequence[str], dataset: RawDataset) -> tuple[Configuration, ...]:
    """Configurations that differ in training only share a folder, which is made once."""
    chosen: dict[str, Configuration] = {}
    for name in names:
        configuration = plan.configuration(name)
        if configuration.data_identifier.lower() in (REFERENCES_NAME, OWN_FOLDER):
            raise PlanError(
                message(
                    f"plans, configuration '{name}', key 'data_identifier'",
                    expected="a separate folder for the arrays",
                    got=repr(configuration.data_identifier),
                    remedy="nnU-Net's is made of the names of plan and configuration.",
                )
            )
        first = chosen.setdefault(configuration.data_identifier, configuration)
        records = [record_of(Task(plan, each, dataset.description)) for each in (first, configuration)]
        if records[0] != records[1]:
            raise PlanError(
                message(
                    f"plans, configurations '{first.name}' and '{name}', key 'data_identifier'",
                    expected="two names, because their arrays differ",
                    got=f"{configuration.data_identifier!r} in both",
                    remedy=f"Give '{name}' its own data_identifier.",
                )
            )
    return tuple(chosen.values())


def _copy_splits(raw: Path, preprocessed: Path) -> None:
    if not raw.is_file():
        return
    splits = read_json(raw)
    if preprocessed.is_file() and read_json(preprocessed) != splits:
        raise DatasetError(
            message(
                raw,
                expected=f"the splits of {preprocessed}",
                got="others",
                remedy="Delete the file that is not meant.",
            )
        )
    if not preprocessed.is_file():
        write_json_atomic(preprocessed, splits)


def _bytes_per_worker(dataset: RawDataset, plan: Plan, configurations: Sequence[Configuration]) -> int:
    """Memory for the largest case, by the headers, and for what becomes of it at the finest spacing."""
    num_channels = len(dataset.description.channel_names)
    largest = largest_case_voxels(dataset.cases, num_channels)
    median = math.prod(plan.original_median_shape)
    resampled = [
        math.prod(configuration.median_image_size_in_voxels)
        * (plan.original_median_shape[0] if configuration.is_2d else 1)
        for configuration in configurations
    ]
    voxels = largest * max(median, *resampled) / median
    return _WORKER_BYTES + int(voxels * (_BYTES_PER_VOXEL + _BYTES_PER_VOXEL_AND_CHANNEL * num_channels))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = folder / ".preprocessing.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockedError(
            message(
                folder,
                expected="to preprocess into it alone",
                got="another process that does so",
                remedy="Wait until it has ended.",
            )
        ) from error
    try:
        yield
    finally:
        lock.release()
