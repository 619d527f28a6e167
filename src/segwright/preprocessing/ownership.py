"""What may be deleted of a folder of preprocessed cases: the cases themselves, and never anything else in it.

The record of the settings marks a folder as ours. One without it is nnU-Net's if it has cases, and what is in a folder
with neither is not ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from segwright.dataset.problems import some
from segwright.errors import DatasetError, PlanError, message
from segwright.io.atomic import write_json_atomic
from segwright.io.json_file import read_json
from segwright.preprocessing.record import RECORD_NAME, Record
from segwright.preprocessing.store import FILE_ENDINGS, OWN_FOLDER, PreprocessedStore


def refuse_foreign(folder: Path, record: Record, case_ids: Collection[str], *, overwrite: bool) -> None:
    """Refuse a folder in which cases cannot be written, or those removed that have to be, before anything is touched.

    Raises:
        PlanError: something else than cases is in it, or its record is damaged.
        DatasetError: cases that must go are in a folder of nnU-Net's, or in one that is a link.
    """
    if not os.path.lexists(folder):
        return
    stored = PreprocessedStore(folder).case_ids()
    is_ours = (folder / RECORD_NAME).is_file()
    if not is_ours and not stored and (others := _foreign(folder)):
        raise PlanError(
            message(
                f"{folder}, which the key 'data_identifier' of the plan names",
                expected="a new folder, or one with preprocessed cases",
                got=some(others),
                remedy="Move that elsewhere, or give the configuration another data_identifier.",
            )
        )
    stale = overwrite or _has_other_settings(folder, record)
    surplus = sorted(set(stored) if stale else set(stored) - set(case_ids))
    if surplus and folder.is_symlink():
        raise DatasetError(
            message(
                folder,
                expected="a folder in its place, as cases must be removed from it",
                got=f"a link to {folder.resolve()}, which is not followed to delete {some(surplus)}",
                remedy="Delete these cases there, or remove the link.",
            )
        )
    if surplus and not is_ours and not overwrite:
        raise DatasetError(
            message(
                folder,
                expected="cases of the data set only",
                got=f"also {some(surplus)}, which Segwright did not write",
                remedy="Remove their files, or preprocess all cases again with --overwrite.",
            )
        )


def prepare_folder(folder: Path, record: Record, *, overwrite: bool) -> None:
    """Remove the cases that were made with other settings, and note the settings of a folder that is begun.

    Raises:
        PlanError: the record that is there is damaged.
    """
    store = PreprocessedStore(folder)
    if overwrite or _has_other_settings(folder, record):
        for case_id in store.case_ids():
            store.remove(case_id)
        if (folder / RECORD_NAME).is_file():  # last, as cases without it would pass for nnU-Net's
            shutil.rmtree(folder / OWN_FOLDER)
    if not (folder / RECORD_NAME).is_file() and not store.case_ids():
        write_json_atomic(folder / RECORD_NAME, record)


def remove_abandoned(folder: Path, case_ids: Collection[str]) -> set[str]:
    """Remove cases that are not among `case_ids`, which would be trained on (nnU-Net preprocesses everything again)."""
    store = PreprocessedStore(folder)
    abandoned = set(store.case_ids()) - set(case_ids)
    for case_id in abandoned:
        store.remove(case_id)
    return abandoned


def _has_other_settings(folder: Path, record: Record) -> bool:
    path = folder / RECORD_NAME
    return path.is_file() and read_json(path, error=PlanError) != record


def _foreign(folder: Path) -> list[str]:
    """What a folder contains other than the files of cases and hidden ones."""
    if not folder.is_dir():
        return ["a link to nothing" if folder.is_symlink() else "a file"]
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return [name for name in names if name != OWN_FOLDER and not name.endswith(FILE_ENDINGS)]
