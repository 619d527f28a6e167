"""`segwright plan` without images: the golden plans from their fingerprints, byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
PLANNERS = {
    "nnUNetPlans": None,
    "nnUNetResEncUNetMPlans": "nnUNetPlannerResEncM",
    "nnUNetResEncUNetLPlans": "nnUNetPlannerResEncL",
}
CASES = [
    (path.name.split("__")[0], plans_name)
    for path in sorted(GOLDEN.glob("*__dataset.json"))
    for plans_name in PLANNERS
    if path.with_name(f"{path.name.split('__')[0]}__{plans_name}.json").is_file()
]


def files_of(name: str, folder: Path = GOLDEN) -> list[object]:
    stem = f"{name}__" if folder == GOLDEN else ""
    return [
        "--fingerprint",
        folder / f"{stem}dataset_fingerprint.json",
        "--dataset-json",
        folder / f"{stem}dataset.json",
    ]


@pytest.mark.parametrize(("name", "plans_name"), CASES)
def test_golden_plans_byte_for_byte(segwright, tmp_path: Path, name: str, plans_name: str) -> None:
    planner = PLANNERS[plans_name]
    more = [] if planner is None else ["--planner", planner]
    outcome = segwright("plan", *files_of(name), "--output", tmp_path / "P.json", *more)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "P.json").read_text() == (GOLDEN / f"{name}__{plans_name}.json").read_text()


def test_the_name_of_the_data_set_is_that_of_its_folder(segwright, tmp_path: Path) -> None:
    name, _ = CASES[0]
    folder = tmp_path / "Dataset012_Other"
    folder.mkdir()
    for file in ("dataset.json", "dataset_fingerprint.json"):
        shutil.copy(GOLDEN / f"{name}__{file}", folder / file)
    outcome = segwright("plan", *files_of(name, folder), "--output", tmp_path / "P.json", "--json")
    assert json.loads(outcome.out) == json.loads((tmp_path / "P.json").read_text())
    assert json.loads(outcome.out)["dataset_name"] == "Dataset012_Other"


def test_without_cases_there_is_nothing_to_group(segwright, tmp_path: Path) -> None:
    words = [*files_of(CASES[0][0]), "--output", tmp_path / "P.json", "--group-by", "(patient[0-9]+)"]
    outcome = segwright("plan", *words)
    assert outcome.code == 2
    assert "DATASET" in outcome.err
    assert not (tmp_path / "P.json").exists()


def test_nothing_is_written_where_the_plan_cannot_be_made(segwright, tmp_path: Path) -> None:
    name, _ = CASES[0]
    (tmp_path / "f.json").write_text("{}")
    words = ["--fingerprint", tmp_path / "f.json", *files_of(name)[2:], "--output", tmp_path / "P.json"]
    outcome = segwright("plan", *words)
    assert outcome.code == 2
    assert "f.json" in outcome.err
    assert not (tmp_path / "P.json").exists()
    assert segwright("plan", *files_of(name), "--output", tmp_path / "P.json", "--planner", "Mine").code == 2
    assert not (tmp_path / "P.json").exists()
