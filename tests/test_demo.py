"""The demo's data and its small configuration, and (slowly) the demo itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segwright import demo
from segwright.cli.main import main
from segwright.dataset import RawDataset, find_cases
from segwright.fingerprint import fingerprint_dataset
from segwright.planning import make_plan


def test_the_excerpt_is_small_credited_and_whole(tmp_path: Path) -> None:
    raw = demo.copy_raw_data(tmp_path / "raw")
    files = [path for path in demo.DATA_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    dataset = RawDataset.open(raw)
    assert len(dataset.cases) == 48
    unseen = find_cases(raw / "imagesTs", ".nii.gz", 1)
    assert len(unseen) == 16
    assert not {case.case_id for case in unseen} & {case.case_id for case in dataset.cases}
    assert {path.name for path in (raw / "labelsTs").iterdir()} == {f"{case.case_id}.nii.gz" for case in unseen}
    credit = (tmp_path / "raw" / "CREDITS.md").read_text()
    assert "CC" in credit
    assert "Antonelli" in credit


def test_the_small_configuration_is_a_valid_one(tmp_path: Path) -> None:
    dataset = RawDataset.open(demo.copy_raw_data(tmp_path))
    plan = make_plan(
        fingerprint_dataset(dataset), dataset.description, dataset_name=dataset.name, image_reader_writer="SimpleITKIO"
    )
    small = demo.with_demo_configuration(plan).configuration(demo.CONFIGURATION)
    assert small.patch_size == plan.configuration("3d_fullres").patch_size
    assert small.architecture.features_per_stage[0] == demo.FEATURES_IN_FIRST_STAGE
    assert small.batch_size == demo.BATCH_SIZE


@pytest.mark.slow
def test_the_demo_reaches_its_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    found = re.fullmatch(r"mean foreground Dice (0\.\d{3}) on 16 unseen cases, \d+ min \d+ s", last)
    assert found is not None, last
    assert float(found[1]) >= 0.84
    assert (tmp_path / "demo" / "report.html").stat().st_size > 50_000
