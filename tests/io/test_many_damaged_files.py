"""Hundreds of damaged files: each is refused by name or read right, with little memory, soon, and without a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from damage import Specimen, all_specimens, whole_files

READ_DAMAGED = Path(__file__).with_name("read_damaged.py")


@dataclass(frozen=True)
class Reading:
    """What came of one file with one reader, as `read_damaged.py` tells it."""

    specimen: Specimen
    path: Path
    reader: str
    answer: dict[str, Any]

    def fault(self) -> str | None:
        """What must not be, if anything."""
        kind, text = self.answer["kind"], self.answer["text"]
        printed = self.answer.get("printed", "")
        # ITK's reader of MetaImage says by itself what it does not understand
        if "Traceback" in printed or (printed and self.path.suffix not in (".mha", ".mhd")):
            return f"the terminal got {printed}"
        if kind == "refused":
            told = "case" in text.split(": expected ")[0] and ", got " in text and text.rstrip().endswith(".")
            return None if told else f"an error that does not say what and where: {text}"
        if kind != "image":
            return f"{kind}: {text}"
        if not self.answer["sane"]:
            return f"no sane image: {text}"
        if self.specimen.verdict == "refused":
            return f"an image: {text}"
        return None if self.specimen.verdict == "refused or sane" or self.is_right() else f"another image: {text}"

    def is_right(self) -> bool:
        right = self.specimen.right
        shape = sorted(size for size in self.answer["shape"] if size > 1)
        total = float(np.abs(right.astype(np.float64)).sum())
        return shape == sorted(right.shape) and self.answer["sum"] == pytest.approx(total)


def read_all(specimens: Sequence[Specimen], folder: Path) -> list[Reading]:
    """Read every file in another process, which is started again after a crash."""
    jobs = []
    for number, specimen in enumerate(specimens):
        path = specimen.write(folder / f"{number:05d}")
        jobs.extend((specimen, path, reader) for reader in specimen.readers)
    answers: list[dict[str, Any]] = []
    while len(answers) < len(jobs):
        lines = [json.dumps({"path": str(path), "reader": reader}) for _, path, reader in jobs[len(answers) :]]
        child = subprocess.run(
            [sys.executable, READ_DAMAGED], input="\n".join(lines), capture_output=True, text=True, check=False
        )
        answers.extend(json.loads(line) for line in child.stdout.splitlines())
        if len(answers) < len(jobs):
            assert answers or child.returncode < 0, child.stderr
            answers.append({"kind": "the process died", "text": f"exit code {child.returncode}"})
    return [Reading(*job, answer) for job, answer in zip(jobs, answers, strict=True)]


def faults(readings: Sequence[Reading]) -> list[str]:
    found = ((reading, reading.fault()) for reading in readings)
    return [f"{reading.specimen.what}, {reading.reader}: {fault}" for reading, fault in found if fault]


def test_the_files_are_whole_before_they_are_damaged(tmp_path: Path) -> None:
    specimens = [whole.changed("whole", whole.content, "refused or right") for whole in whole_files(tmp_path / "made")]
    readings = read_all(specimens, tmp_path / "files")
    assert faults(readings) == []
    assert {reading.answer["kind"] for reading in readings} == {"image"}


def test_damaged_files_are_refused_by_name_or_read_right(tmp_path: Path) -> None:
    specimens = all_specimens(tmp_path / "made", seed=0, count=3)
    assert len(specimens) >= 800
    readings = read_all(specimens, tmp_path / "files")
    assert faults(readings) == []
    assert sum(reading.answer["kind"] == "refused" for reading in readings) > len(readings) / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_thousands_of_damaged_files_are_refused_by_name_or_read_right(tmp_path: Path, seed: int) -> None:
    assert faults(read_all(all_specimens(tmp_path / "made", seed=seed, count=150), tmp_path / "files")) == []
