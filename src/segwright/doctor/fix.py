"""A corrected copy of a raw data set. The original is read and never written to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segwright.dataset.case_size import workers_for_reading
from segwright.dataset.cases import Case, holds_all_channels, reader_for_cases, scan_dataset, scan_images, short_name
from segwright.dataset.description import FILE_NAME, DatasetDescription
from segwright.dataset.problems import some
from segwright.dataset.raw import require_description
from segwright.dataset.splits import FILE_NAME as SPLITS_NAME
from segwright.dataset.splits import Split, read_splits, write_splits
from segwright.doctor.case_fix import (
    Change,
    FixedCase,
    FixTask,
    ValuesTask,
    copy_case,
    copy_file,
    fix_case,
    label_values,
)
from segwright.doctor.label_mapping import changed_values, declared_mapping, label_mapping, renumbered
from segwright.errors import DatasetError, SegwrightError, SettingsError, message
from segwright.io import ImageReaderWriter
from segwright.io.atomic import atomic_path, write_json_atomic
from segwright.io.json_file import read_json
from segwright.names import printable
from segwright.parallel import CaseFailure, Progress, run_cases

TRAINING, TEST = ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")


@dataclass(frozen=True)
class FixReport:
    """What differs between a data set and its corrected copy, and what could not be fixed."""

    folder: Path
    copy: Path
    num_cases: int
    changes: tuple[Change, ...]
    unfixed: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a program to read."""
        return {
            "folder": str(self.folder),
            "copy": str(self.copy),
            "num_cases": self.num_cases,
            "changes": [asdict(change) for change in self.changes],
            "unmended": [asdict(change) for change in self.unfixed],
        }


@dataclass
class _Record:
    changes: list[Change] = field(default_factory=list)
    unfixed: list[Change] = field(default_factory=list)

    def left_out(self, case_id: str | None, file: str | None, why: str) -> None:
        self.changes.append(Change(case_id, file, f"left out: {why}"))


@dataclass(frozen=True)
class _Work:
    """How to read the cases, and in how many processes."""

    reader: ImageReaderWriter
    num_channels: int
    workers: int
    progress: Progress | None


def fix_dataset(
    folder: Path,
    output: Path,
    *,
    workers: int | None = 1,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> FixReport:
    """Write a copy of a raw data set to `output` with everything fixed that needs no guessing.

    Fixes label values that are not 0, 1, 2, ..., label maps on another grid than their image's, NaN and infinite
    voxels, and numTraining; incomplete and duplicate cases are left out. The copy is written completely or not at all.
    `environ` holds the environment variables of an explicit file list, whose files are copied too. `workers=None` uses
    as many as cores and memory allow.

    Raises:
        SettingsError: `output` is in use, or one of it and the data set contains the other.
        MissingFileError, DatasetError: there is no such data set, or its problems leave nothing to copy.
    """
    folder, output = Path(folder), Path(output)
    require_description(folder)
    _refuse_output(folder, output)
    raw = read_json(folder / FILE_NAME)
    declared = declared_mapping(raw) if isinstance(raw, Mapping) else {}
    fixed = {**renumbered(raw, declared), "numTraining": 0} if isinstance(raw, Mapping) else raw
    description = DatasetDescription.from_json(fixed, where=str(folder / FILE_NAME))
    record = _Record()
    cases = _complete_cases(folder, description, environ or {}, record)
    num_channels = len(description.channel_names)
    workers = workers or workers_for_reading(cases, num_channels)
    work = _Work(reader_for_cases(description, cases), num_channels, workers, progress)
    found = _found_values(cases, work)
    mapping = label_mapping(
        frozenset().union(*found.values()), declared, declares_ignore=description.labels.ignore_label is not None
    )
    if mapping is None:  # reported for each label map; the numbering stays
        mapping = {value: value for value in declared}
        fixed = {**raw, "numTraining": 0}
        description = _with_its_numbering(folder, fixed, found)
    if raw["labels"] != fixed["labels"]:
        record.changes.append(Change(None, FILE_NAME, f"labels renumbered: {changed_values(declared)}"))
    with atomic_path(_real(output)) as temporary:  # a link stays a link, to the copy
        tasks = _tasks(temporary, TRAINING, cases, description, work, mapping)
        tests = _tasks(temporary, TEST, _test_cases(folder, description), description, work, mapping)
        _copy_other_files(folder, temporary, description.file_ending, [*tasks, *tests], record)
        results = _fix_cases([*tasks, *tests], work)
        originals = _drop_copies(tasks, results, record)
        kept = [task.case.case_id for task in tasks if task.case.case_id not in originals]
        for result in results.values():
            record.changes += result.changes
            record.unfixed += result.unfixed
        _write_description(temporary / FILE_NAME, raw, fixed, len(kept), record)
        _fix_splits(temporary / SPLITS_NAME, kept, originals, record)
    return FixReport(folder, output, len(kept), *(_sorted(part) for part in (record.changes, record.unfixed)))


def _refuse_output(folder: Path, output: Path) -> None:
    source, target = _real(folder), _real(output)
    if printable(output) != str(output):
        got = "a name that is not UTF-8, which ITK does not take, or that has control characters"
    elif source == target or source in target.parents or target in source.parents:
        got = "the data set itself" if source == target else "one in the other"
    elif os.path.isdir(target) and any(target.iterdir()):
        got = "a folder with something in it"
    elif not next(path for path in (target, *target.parents) if os.path.exists(path)).is_dir():
        got = "a file" if os.path.exists(target) else "a place below a file"
    else:
        return
    raise SettingsError(
        message(
            f"--fix {printable(output)}",
            expected="a new or empty folder for the copy, outside the data set",
            got=got,
            remedy="Choose another, such as a new folder beside the data set.",
        )
    )


def _real(path: Path) -> Path:
    """The path without links; unlike Path.resolve it also works for a link to itself."""
    return Path(os.path.realpath(path))


def _complete_cases(
    folder: Path, description: DatasetDescription, environ: Mapping[str, str], record: _Record
) -> list[Case]:
    """The training cases that have all their files; the others are reported."""
    cases, problems = scan_dataset(folder, description, environ)
    num_channels = len(description.channel_names)
    for problem in problems:
        record.left_out(problem.case_id, problem.file, problem.what)
    troubled = {problem.case_id for problem in problems}
    complete = []
    for case in cases:
        if case.case_id in troubled:
            continue
        files = [path for path in (*case.image_paths, case.label_path) if path is not None]
        odd = [path.name for path in files if not path.name.endswith(description.file_ending)]
        unreadable = [short_name(path) for path in files if not _may_be_copied(path)]
        if unreadable:
            record.left_out(case.case_id, None, f"expected files that can be read, got {some(unreadable)}")
        elif odd:
            expected = f"expected files like CASE_0000{description.file_ending}"
            record.left_out(case.case_id, None, f"{expected}, got {some(odd)}")
        elif len(case.image_paths) < num_channels and not holds_all_channels(files[0], description.file_ending):
            record.left_out(case.case_id, FILE_NAME, f"expected {num_channels} images, one per channel, got 1")
        else:
            complete.append(case)
    if not complete:
        raise DatasetError(
            message(
                folder,
                expected="at least one case with all its files",
                got=f"none: {record.changes[0].text.rstrip('.')}" if record.changes else "none",
                remedy="Fix that first.",
            )
        )
    if description.explicit_cases is not None:
        what = "the list of files, key 'dataset', was replaced by copies with the usual names in imagesTr and labelsTr"
        record.changes.append(Change(None, FILE_NAME, what))
    return complete


def _may_be_copied(path: Path) -> bool:
    """Whether a path is a file, or a link to one, that can be read: pipes and devices never end."""
    return os.path.isfile(path) and os.access(path, os.R_OK)  # unlike Path.is_file, never raises


def _test_cases(folder: Path, description: DatasetDescription) -> list[Case]:
    """Cases of imagesTs that have a label map in labelsTs: their labels must be numbered like the training cases'."""
    try:
        cases, _ = scan_images(folder / TEST[0], description.file_ending, len(description.channel_names))
    except SegwrightError:  # no test images, which is fine
        return []
    labels = {case.case_id: folder / TEST[1] / f"{case.case_id}{description.file_ending}" for case in cases}
    return [
        Case(case.case_id, case.image_paths, labels[case.case_id])
        for case in cases
        if all(map(_may_be_copied, (*case.image_paths, labels[case.case_id])))
    ]


def _found_values(cases: Sequence[Case], work: _Work) -> dict[str, frozenset[float]]:
    """The values in each case's label map, by the case's id."""
    tasks = [ValuesTask(case, work.reader.name) for case in cases]
    found = {}
    for task, result in run_cases(
        label_values, tasks, workers=work.workers, case_id=_case_id, what="reading labels", progress=work.progress
    ):
        if not isinstance(result, CaseFailure):  # reported when this case is fixed
            found[task.case.case_id] = frozenset(result)
    return found


def _with_its_numbering(
    folder: Path, raw: Mapping[str, Any], found: Mapping[str, frozenset[float]]
) -> DatasetDescription:
    """Parse a dataset.json whose labels cannot be renumbered, as the label maps hold others.

    Raises:
        DatasetError: its numbering cannot be kept either; with the undeclared values and their cases.
    """
    try:
        return DatasetDescription.from_json(raw, where=str(folder / FILE_NAME))
    except DatasetError as error:
        declared = declared_mapping(raw)
        odd = {case_id: sorted(values - set(declared)) for case_id, values in found.items()}
        listed = [
            f"{', '.join(f'{value:g}' for value in odd[case_id])} in {case_id}" for case_id in odd if odd[case_id]
        ]
        raise DatasetError(
            message(
                folder / TRAINING[1],
                expected=f"the declared values {', '.join(map(str, declared))}, which are to be renumbered",
                got=some(listed, "; "),
                remedy=f"Set these to declared values, or declare them in {FILE_NAME}.",
            )
        ) from error


def _tasks(
    copy: Path,
    folders: tuple[str, str],
    cases: Sequence[Case],
    description: DatasetDescription,
    work: _Work,
    mapping: Mapping[int, int],
) -> list[FixTask]:
    ending, (images, labels) = description.file_ending, folders
    return [
        FixTask(
            case=case,
            image_copies=tuple(
                copy / images / f"{case.case_id}_{channel:04d}{ending}" for channel in range(len(case.image_paths))
            ),
            label_copy=copy / labels / f"{case.case_id}{ending}",
            reader_name=work.reader.name,
            num_channels=work.num_channels,
            mapping=mapping,
        )
        for case in cases
    ]


def _copy_other_files(folder: Path, copy: Path, file_ending: str, tasks: Sequence[FixTask], record: _Record) -> None:
    """Copy the files that belong to no fixed case, except training images and label maps that were left out."""
    in_tasks = {path for task in tasks for path in (*task.case.image_paths, task.case.label_path)}
    training = [folder / name for name in TRAINING]
    for path in _visible_files(folder, record):
        left_out = path.parent in training and path.name.endswith(file_ending)
        if not left_out and path not in in_tasks:
            copy_file(path, copy / path.relative_to(folder))


def _visible_files(folder: Path, record: _Record) -> Iterator[Path]:
    """The files of a data set whose name and folders are not hidden; reports unreadable folders.

    Folders in it may be links, but not those below, which might be circular.
    """

    def report(error: OSError) -> None:
        name = str(Path(error.filename).relative_to(folder))
        record.left_out(None, name, f"expected a readable folder, got {error.strerror}")

    tops = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    yield from (path for path in tops if path.is_file())
    for top in (path for path in tops if path.is_dir()):
        for place, folders, names in os.walk(top, onerror=report):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = (Path(place, name) for name in sorted(names) if not name.startswith("."))
            yield from (path for path in paths if path.is_file())


def _fix_cases(tasks: Sequence[FixTask], work: _Work) -> dict[Path, FixedCase]:
    """Fix every case; returns the results by the label map's path in the copy."""
    results: dict[Path, FixedCase] = {}
    for task, result in run_cases(
        fix_case, tasks, workers=work.workers, case_id=_case_id, what="fixing cases", progress=work.progress
    ):
        if isinstance(result, CaseFailure):
            copy_case(task)
            result = FixedCase((), (Change(task.case.case_id, None, result.message.rstrip(".")),), None)
        results[task.label_copy] = result
    return results


def _drop_copies(tasks: Sequence[FixTask], results: dict[Path, FixedCase], record: _Record) -> Mapping[str, str]:
    """Remove cases whose image and label map equal an earlier one's; maps their ids to that case's."""
    first: dict[bytes, str] = {}
    originals = {}
    for task in tasks:
        case_id, digest = task.case.case_id, results[task.label_copy].digest
        if digest is not None and first.setdefault(digest, case_id) != case_id:
            originals[case_id] = first[digest]
            record.left_out(case_id, None, f"image and label map are those of case {first[digest]}")
            del results[task.label_copy]
            for path in task.copies:
                path.unlink()
    return originals


def _write_description(
    path: Path, raw: Mapping[str, Any], fixed: Mapping[str, Any], num_cases: int, record: _Record
) -> None:
    if raw.get("numTraining") != num_cases:
        record.changes.append(Change(None, FILE_NAME, f"numTraining: {raw.get('numTraining')} -> {num_cases}"))
    content = {key: value for key, value in {**fixed, "numTraining": num_cases}.items() if key != "dataset"}
    if content != raw:
        write_json_atomic(path, content)


def _fix_splits(path: Path, case_ids: Sequence[str], originals: Mapping[str, str], record: _Record) -> None:
    """Remove the cases that are not in the copy from its splits file; a duplicate is replaced by the original."""
    if not path.is_file():
        return
    try:
        splits = read_splits(path)
    except SegwrightError as error:
        record.unfixed.append(Change(None, SPLITS_NAME, str(error).removeprefix(f"{path}, ").rstrip(".")))
        return
    fixed = [_fix_split(split, frozenset(case_ids), originals) for split in splits]
    for fold, (old, new) in enumerate(zip(splits, fixed, strict=True)):
        for part, before, after in (("train", old.train, new.train), ("val", old.val, new.val)):
            if before and not after:
                fixed[fold] = old
                what = f"fold {fold}, key '{part}': none of its cases is in the copy, or all are in the other part"
                record.unfixed.append(Change(None, SPLITS_NAME, what))
    if fixed != splits:
        write_splits(path, fixed)
        taken_out = {case_id for old, new in zip(splits, fixed, strict=True) for case_id in _named(old) - _named(new)}
        put_in = {case_id for old, new in zip(splits, fixed, strict=True) for case_id in _named(new) - _named(old)}
        changes = (("removed", taken_out), ("added in place of their copies", put_in))
        what = "; ".join(f"{words}: {some(sorted(ids))}" for words, ids in changes if ids)
        record.changes.append(Change(None, SPLITS_NAME, what))


def _fix_split(split: Split, known: frozenset[str], originals: Mapping[str, str]) -> Split:
    """A fold of known cases. A replacement of a copy is not added if it is in either part already."""
    taken = _named(split) & known
    parts: tuple[list[str], list[str]] = ([], [])
    for ids, part in zip(parts, (split.train, split.val), strict=True):
        for case_id in part:
            original = originals.get(case_id, case_id)
            if case_id in known or (original in known and original not in taken):
                taken.add(original)
                ids.append(original)
    return Split(*map(tuple, parts))


def _named(split: Split) -> set[str]:
    return {*split.train, *split.val}


def _case_id(task: FixTask | ValuesTask) -> str:
    return task.case.case_id


def _sorted(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Those of the data set first, then case by case."""
    return tuple(sorted(changes, key=lambda change: (change.case_id is not None, change.case_id or "")))
