"""Case ids that are valid in file names, and whose files do not collide with those of other cases.

The files of a case `x` are `x_0000.nii.gz`, ..., `x.nii.gz`, `x.b2nd`, `x_seg.b2nd` and `x.pkl`. So `x_seg` and
`x_0000` are valid ids, but not together with `x`; on a file system that ignores case, neither is `X`.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from segwright.dataset.problems import Problem
from segwright.io.leftovers import temporary_prefix
from segwright.names import A_NAME, name_fault

_LIKE_A_FILE = re.compile(r"(.+)_(seg|[0-9]{4})", re.IGNORECASE | re.DOTALL)


def name_problem(case_id: str, file: str) -> Problem | None:
    """The problem of an id from a folder listing that is not a valid file name."""
    fault = name_fault(case_id)
    if fault is None:
        return None
    return Problem("error", "files", case_id, file, f"expected {A_NAME}, got {case_id!r}, {fault}", "Rename it.")


def collisions(case_ids: Sequence[str], num_channels: int | None, *, ignore_case: bool = False) -> list[Problem]:
    """The cases with a file that would have the name of another case's file.

    With `num_channels=None` only files `CASE.ending` are considered, such as predictions.
    """
    taken = {_without_case(case_id) for case_id in case_ids}
    return [
        Problem(
            "error",
            "files",
            case_id,
            None,
            f"expected an id that matches no file of another case, got {case_id!r} beside {other!r}",
            f"Rename it to {_new_id(case_id, taken)}: its images, its label map, and the entries in dataset.json and "
            "splits_final.json.",
        )
        for case_id, other in _colliding(case_ids, num_channels, ignore_case).items()
    ]


def collisions_elsewhere(case_ids: Sequence[str], num_channels: int) -> list[Problem]:
    """Warnings about ids that are safe here, but not on file systems that ignore case, or for nnU-Net."""
    here = _colliding(case_ids, num_channels, False)
    found = [
        (
            case_id,
            f"expected an id that differs from {other!r} in more than upper and lower case",
            "the files cannot be moved to a file system that ignores case, as on Windows and macOS",
        )
        for case_id, other in _colliding(case_ids, num_channels, True).items()
        if case_id not in here
    ]
    found += [
        (case_id, "expected an id that does not end in _seg", "nnU-Net mistakes its arrays for a label map")
        for case_id in case_ids
        if case_id.endswith("_seg") and case_id not in here
    ]
    taken = {_without_case(case_id) for case_id in case_ids}
    return [
        Problem("warning", "files", case_id, None, what, f"Rename it to {_new_id(case_id, taken)}, otherwise {else_}.")
        for case_id, what, else_ in found
    ]


def require_apart(case_ids: Sequence[str], num_channels: int | None, folder: Path) -> None:
    """Refuse cases whose files would have the same name in `folder`, which may not exist yet (see `collisions`).

    Raises:
        DatasetError
    """
    found = collisions(case_ids, num_channels)
    if not found and _colliding(case_ids, num_channels, True) and ignores_case(folder):
        found = collisions(case_ids, num_channels, ignore_case=True)
    if found:
        raise found[0].as_error()


def ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder, which may not exist yet, ignores upper and lower case in names."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    folder = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=there))
    try:
        return folder.with_name(folder.name.upper()).exists()
    finally:
        folder.rmdir()


def _colliding(case_ids: Sequence[str], num_channels: int | None, ignore_case: bool) -> dict[str, str]:
    """For each case whose files collide with another's, the other's id."""
    keys = {case_id: _without_case(case_id) if ignore_case else case_id for case_id in case_ids}
    first: dict[str, str] = {}
    for case_id, key in keys.items():
        first.setdefault(key, case_id)
    found = {}
    for case_id, key in keys.items():
        if (other := first[key]) != case_id:
            found[case_id] = other
        elif (owner := first.get(_without_ending(key, num_channels))) is not None:
            found[case_id] = owner
    return found


def _without_ending(key: str, num_channels: int | None) -> str:
    """The id of the case that could have a file with this id as its name; empty if there is none."""
    match = _LIKE_A_FILE.fullmatch(key)
    if match is None or num_channels is None:
        return ""
    is_file = match[2] == "seg" or (match[2].isdecimal() and int(match[2]) < num_channels)
    return match[1] if is_file else ""


def _without_case(case_id: str) -> str:
    return unicodedata.normalize("NFC", case_id).casefold()


def _new_id(case_id: str, taken: set[str]) -> str:
    match = _LIKE_A_FILE.fullmatch(case_id)
    new = f"{match[1]}-{match[2]}" if match else f"{case_id}-2"
    while _without_case(new) in taken:
        new += "-2"
    return new
