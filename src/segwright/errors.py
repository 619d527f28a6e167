"""Every error Segwright raises on purpose.

SegwrightError                    an error the user can fix; the command line prints it and exits with 2
├── DatasetError (ValueError)         dataset.json, the cases it names, or the splits are wrong
├── MissingFileError (FileNotFoundError)  a file or folder that must exist does not
├── ImageError (OSError)              an image file cannot be read or written, or holds invalid values
├── WriteError (OSError)              a file cannot be written: the disk is full, or the folder is read-only
├── GeometryError (ValueError)        images that belong together disagree in shape, spacing or position
├── PlanError (ValueError)            a plans file, fingerprint or configuration is wrong
├── SettingsError (ValueError)        a training or prediction setting is out of its range, or unknown
├── TrainerError (LookupError)        a trainer class cannot be found or used
├── CheckpointError (ValueError)      a checkpoint is damaged, foreign or does not fit the network
├── TrainingError (RuntimeError)      training cannot continue (non-finite loss, a batch that cannot be loaded)
├── CasesFailedError (RuntimeError)   some cases of a cohort failed, the others are done
└── LockedError (RuntimeError)        another process works on the same folder
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

_LONGEST_PART = 1000


class SegwrightError(Exception):
    """Base of all errors that the user can fix. `str()` is one message: what, where, expected, got, remedy."""


class DatasetError(SegwrightError, ValueError):
    """dataset.json, the cases it describes or the splits are wrong."""


class MissingFileError(SegwrightError, FileNotFoundError):
    """A file or folder that must exist does not."""


class ImageError(SegwrightError, OSError):
    """An image file cannot be read or written, or holds invalid values."""


class WriteError(SegwrightError, OSError):
    """A file cannot be written: the disk is full, the folder is read-only."""


class GeometryError(SegwrightError, ValueError):
    """Images that belong together disagree in shape, spacing or position."""


class PlanError(SegwrightError, ValueError):
    """A plans file, a fingerprint or a configuration in it is wrong."""


class SettingsError(SegwrightError, ValueError):
    """A setting of training or prediction is unknown or out of its range."""


class TrainerError(SegwrightError, LookupError):
    """A trainer class cannot be found, imported or used."""


class CheckpointError(SegwrightError, ValueError):
    """A checkpoint is damaged, refused as unsafe, or does not fit the network."""


class TrainingError(SegwrightError, RuntimeError):
    """Training cannot continue."""


class LockedError(SegwrightError, RuntimeError):
    """Another process works on the same folder."""


class CasesFailedError(SegwrightError, RuntimeError):
    """Some cases of a cohort failed; the others are done. `failures` maps a case id to its message."""

    def __init__(self, message: str, failures: Mapping[str, str]) -> None:
        super().__init__(message)
        self.failures = dict(failures)


def message(where: object, *, expected: str, got: object, remedy: str) -> str:
    """Write an error in the one form used everywhere: ``WHERE: expected ..., got .... REMEDY``.

    Example:
        >>> message("dataset.json, key 'numTraining'", expected="a whole number", got="'ten'", remedy="Write 10.")
        "dataset.json, key 'numTraining': expected a whole number, got 'ten'. Write 10."
    """
    return f"{where}: expected {_shortened(expected)}, got {_shortened(str(got))}. {remedy}".rstrip()


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_PART else text[:_LONGEST_PART] + " ..."


def shown_short(value: object) -> str:
    """Show the beginning of any value, however deep or long."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        return f"{type(value).__name__} with a number of too many digits"
