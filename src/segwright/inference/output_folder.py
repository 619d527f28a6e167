"""A folder of predictions: which results in it are done, what they were made with, and who works on it now.

A result counts as done only if model, settings and input are those that it was made with. They are noted in a hidden
folder, which nnU-Net and listings pass over:

.segwright/predictions.jsonl    what each result was made with
.segwright/folder.lock          held for a moment by a process that begins
.segwright/*.process            held by each process that works on the folder; the name begins with what it predicts by
.segwright/*.claim              held by the process that predicts this case

The locks are the system's, which releases them however a process ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from filelock import FileLock, Timeout

from segwright.errors import LockedError, SegwrightError, message
from segwright.io import ImageReaderWriter
from segwright.io.atomic import make_folder, write_errors_explained
from segwright.io.kept_folder import kept_folder, refuse_lost_folder
from segwright.io.notes import add_note, read_notes

OWN_FOLDER = ".segwright"
NOTES_NAME = "predictions.jsonl"
_HEADER_BYTES = 4096

State = Literal["done", "absent", "unknown", "model", "settings", "input", "damaged"]
"""Of a result: done, not there, of unknown origin, made with another model, settings or input, or no label map now."""

Inputs = list[list[Any]] | None
"""Name, size, time of the last change in ns, and a digest of the beginning, of each file; None if one is not there."""


@dataclass(frozen=True)
class Origin:
    """What label maps are made with: the digest of a model, and the settings that change its predictions, as JSON."""

    model: str
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Short digest of model and settings."""
        return hashlib.sha256(json.dumps([self.model, self.settings], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(eq=False)
class OutputFolder:
    """The label maps in a folder, seen by a process that makes them of one `origin`. See `open_output_folder`."""

    path: Path
    file_ending: str
    origin: Origin
    reader: ImageReaderWriter
    _claims: dict[str, FileLock] = field(default_factory=dict)
    _notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _bytes_read: int = 0

    def result(self, case_id: str) -> Path:
        """The label map of a case, there or not."""
        return self.path / f"{case_id}{self.file_ending}"

    def state(self, case_id: str, inputs: Inputs) -> State:
        """Whether the label map of a case is what this process would make of these files now."""
        note = self._noted().get(case_id)
        if not self.result(case_id).is_file():
            return "absent"
        if note is None:
            return "unknown"
        if note.get("model") != self.origin.model:
            return "model"
        if note.get("settings") != self.origin.settings:
            return "settings"
        if inputs is None or note.get("input") != inputs:
            return "input"
        return "done" if self._is_whole(case_id, note) else "damaged"

    @contextmanager
    def replacing(self, case_id: str, inputs: Inputs) -> Iterator[Path]:
        """Give the path of a case's label map, and note what it was made of when the block has written it."""
        self.withdraw(case_id)  # no kill may leave a new label map with the note of an old one
        yield self.result(case_id)
        note = {"model": self.origin.model, "settings": self.origin.settings, "input": inputs}
        self._add(case_id, {**note, "result": inputs_of([self.result(case_id)])})

    def withdraw(self, case_id: str) -> None:
        """Forget what is noted of a case, so that it does not count as done."""
        if case_id in self._noted():
            self._add(case_id, None)

    def of_other_models(self) -> tuple[str, ...]:
        """Ids of the label maps there that this model did not make, or of which that is not known."""
        refuse_lost_folder(self.path)
        names = sorted(
            path.name.removesuffix(self.file_ending)
            for path in self.path.iterdir()
            if path.name.endswith(self.file_ending) and not path.name.startswith(".") and path.is_file()
        )
        return tuple(name for name in names if self._noted().get(name, {}).get("model") != self.origin.model)

    def claim(self, case_id: str) -> bool:
        """Take a case for this process, unless another one has it."""
        lock = _try_lock(self.path / OWN_FOLDER / f"{case_id}.claim")
        if lock is not None:
            self._claims[case_id] = lock
        return lock is not None

    def release(self, case_id: str) -> None:
        """Release a case, finished or not, for other processes."""
        _unlock_and_remove(self._claims.pop(case_id))

    def release_all(self) -> None:
        """Leave every case that this process holds."""
        for case_id in list(self._claims):
            self.release(case_id)

    def _is_whole(self, case_id: str, note: Mapping[str, Any]) -> bool:
        """Whether a label map is as it was written, or can be read at least: it may have been corrected by hand."""
        path = self.result(case_id)
        if note.get("result") == inputs_of([path]):
            return True
        try:
            self.reader.read_labels(path)
        except SegwrightError:
            return False
        return True

    def _noted(self) -> Mapping[str, Mapping[str, Any]]:
        path = self.path / OWN_FOLDER / NOTES_NAME
        size = path.stat().st_size if path.is_file() else 0
        if size != self._bytes_read:  # this process, or another, has added to it
            self._notes = {name: note for name, note in read_notes(path).items() if isinstance(note, Mapping)}
            self._bytes_read = size
        return self._notes

    def _add(self, case_id: str, note: Mapping[str, Any] | None) -> None:
        path = self.path / OWN_FOLDER / NOTES_NAME
        refuse_lost_folder(path)
        with write_errors_explained(path):
            add_note(path, case_id, note)


@contextmanager
def open_output_folder(
    path: Path, file_ending: str, origin: Origin, reader: ImageReaderWriter
) -> Iterator[OutputFolder]:
    """Work on a folder of predictions together with other processes that predict with the same model and settings.

    Label maps there that were changed since they were written are looked at by `reader`.

    Raises:
        LockedError: another process works there with another model or other settings.
        WriteError: the folder cannot be written to.
        MissingFileError: by what writes there, once the folder is deleted, moved or replaced.
    """
    own = path / OWN_FOLDER
    make_folder(own)
    with write_errors_explained(own), FileLock(own / "folder.lock"):
        _refuse_another_origin(path, origin)
        presence = FileLock(own / f"{origin.digest}-{uuid4().hex}.process")
        presence.acquire()
    folder = OutputFolder(path, file_ending, origin, reader)
    try:
        with kept_folder(path):
            yield folder
    finally:
        folder.release_all()
        _unlock_and_remove(presence)


def inputs_of(paths: Sequence[Path]) -> Inputs:
    """Look at the files of a case as they are now, without reading more than their beginning."""
    try:
        return [_identity(path) for path in paths]
    except OSError:
        return None


def _identity(path: Path) -> list[Any]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for someone to write to it
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        beginning = hashlib.sha256(file.read(_HEADER_BYTES)).hexdigest()[:16]
    return [path.name, status.st_size, status.st_mtime_ns, beginning]


def _refuse_another_origin(path: Path, origin: Origin) -> None:
    for file in (path / OWN_FOLDER).glob("*.process"):
        lock = _try_lock(file)
        if lock is not None:  # its process has ended
            _unlock_and_remove(lock)
        elif not file.name.startswith(origin.digest):
            raise LockedError(
                message(
                    path,
                    expected="a folder that no process with another model or other settings is using",
                    got="another process that predicts into it with another model or other settings",
                    remedy="Choose another folder, or wait for it to end.",
                )
            )


def _try_lock(file: Path) -> FileLock | None:
    refuse_lost_folder(file)  # to lock a file makes its folder
    # A label map is claimed by one thread and may be released by another.
    lock = FileLock(file, thread_local=False)
    try:
        with write_errors_explained(file):
            lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _unlock_and_remove(lock: FileLock) -> None:
    """Who opened the file before may still lock it: then it looks at the notes again, and finds the case done."""
    with contextlib.suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
