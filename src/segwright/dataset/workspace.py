"""nnU-Net v2's three root folders, and finding a data set in them by id, name or path."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segwright.dataset.description import FILE_NAME
from segwright.errors import DatasetError, MissingFileError, message
from segwright.names import parse_name

DEFAULT_FOLDER = "segwright"
ENVIRONMENT = {"raw": "nnUNet_raw", "preprocessed": "nnUNet_preprocessed", "results": "nnUNet_results"}


@dataclass(frozen=True)
class DatasetLocation:
    """Where the raw, preprocessed and result files of a data set are, or will be."""

    name: str
    raw: Path
    preprocessed: Path
    results: Path


@dataclass(frozen=True)
class Workspace:
    """The roots of raw data sets, preprocessed data sets and results."""

    raw: Path
    preprocessed: Path
    results: Path

    @classmethod
    def resolve(cls, folder: Path | None, environ: Mapping[str, str], cwd: Path) -> Workspace:
        """Choose the roots: in `folder`, otherwise nnU-Net's variable of each, otherwise in `cwd`/segwright."""
        base = folder if folder is not None else cwd / DEFAULT_FOLDER
        variables = {} if folder is not None else environ
        roots = {
            root: Path(value) if (value := variables.get(variable)) else base / root
            for root, variable in ENVIRONMENT.items()
        }
        return cls(**roots)

    def find_dataset(self, wanted: str) -> DatasetLocation:
        """Find a data set by the path of its raw folder, by its id ("4", "004") or by its name.

        Raises:
            MissingFileError: there is none; the message lists the existing ones and the folders searched.
            DatasetError: several names fit.
        """
        path = Path(wanted)
        if (path / FILE_NAME).is_file():
            name = self._name_if_preprocessed_or_result(path)
            return self._location(name) if name else self._location(path.resolve().name, raw=path)
        if len(path.parts) > 1:
            raise MissingFileError(
                message(
                    path,
                    expected="the folder of a raw data set",
                    got=f"a folder without {FILE_NAME}" if path.is_dir() else "no such folder",
                    remedy=f"Give the folder that contains {FILE_NAME}, or a data set's id or name.",
                )
            )
        present = self.dataset_names()
        fitting = [name for name in present if _fits(wanted)(name)]
        if len(fitting) == 1:
            return self._location(fitting[0])
        if wanted in fitting:
            return self._location(wanted)
        if fitting:
            raise DatasetError(
                message(
                    f"data set {wanted!r}",
                    expected="one data set of this id or name",
                    got=f"{', '.join(fitting)} in {self._places()}",
                    remedy="Give the full name, or rename all but one.",
                )
            )
        raise MissingFileError(
            message(
                f"data set {wanted!r}",
                expected="the folder of a raw data set, or the id or name of one in the workspace",
                got=f"none such among {', '.join(present)}" if present else f"no data set at all in {self._places()}",
                remedy=f"Searched in {self._places()}; choose another workspace with --workspace.",
            )
        )

    def dataset_names(self) -> tuple[str, ...]:
        """Names of all data sets in any of the three roots, sorted."""
        names = {
            entry.name
            for root in (self.raw, self.preprocessed, self.results)
            if root.is_dir()
            for entry in root.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        }
        return tuple(sorted(names))

    def _name_if_preprocessed_or_result(self, path: Path) -> str | None:
        """Name of the data set whose preprocessed data or model is at `path`, which has a dataset.json as well."""
        resolved = path.resolve()
        roots = [Path(os.path.realpath(root)) for root in (self.raw, self.preprocessed, self.results)]
        around = [root for root in roots if root in resolved.parents]
        innermost = max(around, key=lambda root: len(root.parts), default=None)
        if innermost is None or innermost == roots[0]:
            return None
        return resolved.relative_to(innermost).parts[0]

    def _location(self, name: str, *, raw: Path | None = None) -> DatasetLocation:
        parse_name(name, where=f"data set {name!r}", error=DatasetError)
        return DatasetLocation(name, raw or self.raw / name, self.preprocessed / name, self.results / name)

    def _places(self) -> str:
        return ", ".join(str(root) for root in (self.raw, self.preprocessed, self.results))


def _fits(wanted: str) -> Callable[[str], bool]:
    """Test whether a folder's name is the requested data set: an id has exactly three digits in the name."""
    identifier = re.fullmatch(r"(?:Dataset)?(\d{1,3})", wanted)
    if identifier:
        pattern = rf"Dataset{int(identifier[1]):03d}(_.*)?"
    else:
        pattern = rf"(Dataset\d{{3}}_)?{re.escape(wanted)}"
    return lambda name: re.fullmatch(pattern, name) is not None
