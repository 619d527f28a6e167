from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from segwright.dataset import case_size
from segwright.dataset.case_size import largest_case_voxels, workers_for_reading
from segwright.dataset.cases import Case


def make_case(folder: Path, case_id: str, shape: tuple[int, ...]) -> Case:
    path = folder / f"{case_id}_0000.nii"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros(shape, np.uint8)), str(path))
    return Case(case_id, (path,), None)


def test_the_largest_case_counts(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, f"c{number}", (2, 3, number + 1)) for number in range(20)]
    assert largest_case_voxels(cases, 1) == 2 * 3 * 20
    assert largest_case_voxels(cases, 2) == 2 * 3 * 20 // 2  # both channels in one file
    assert largest_case_voxels([], 1) == 0
    assert largest_case_voxels([Case("gone", (tmp_path / "gone.nii",), None)], 1) == 0


def test_fewer_workers_read_larger_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [make_case(tmp_path, f"c{number}", (100, 100, 100)) for number in range(9)]
    monkeypatch.setattr("segwright.parallel.available_cores", lambda: 8)
    monkeypatch.setattr("segwright.parallel.available_memory_bytes", lambda: 3 << 30)
    assert workers_for_reading(cases, 1) == 7
    monkeypatch.setattr(case_size, "largest_case_voxels", lambda cases, num_channels: 512 * 512 * 700)
    assert workers_for_reading(cases, 1) == 1
