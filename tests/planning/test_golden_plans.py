"""Plans equal the reference's files, key by key, in order, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segwright.dataset.description import DatasetDescription
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.planning.planner import make_plan

GOLDEN = Path(__file__).parents[1] / "golden"
MADE_UP = sorted((GOLDEN / "plans").glob("*__*Plans.json"))
PUBLISHED = sorted((GOLDEN / "published").glob("*/plans.json"))
REPLANNED = [path for path in PUBLISHED if path.with_name("dataset_fingerprint.json").exists()]


def plan_like(golden: dict[str, Any], fingerprint: Path, description: Path) -> Plan:
    return make_plan(
        Fingerprint.read(fingerprint),
        DatasetDescription.read(description),
        dataset_name=golden["dataset_name"],
        image_reader_writer=golden["image_reader_writer"],
        planner=golden["experiment_planner_used"],
        plans_name=golden["plans_name"],
    )


def test_all_golden_plans_are_there() -> None:
    assert len(MADE_UP) == 35
    assert len(REPLANNED) == 4


@pytest.mark.parametrize("path", MADE_UP, ids=lambda path: path.stem)
def test_plans_of_made_up_data_equal_the_references(path: Path) -> None:
    golden = json.loads(path.read_text())
    stem = path.name.split("__")[0]
    plan = plan_like(
        golden, path.with_name(f"{stem}__dataset_fingerprint.json"), path.with_name(f"{stem}__dataset.json")
    )
    assert json.dumps(plan.raw) == json.dumps(golden)


@pytest.mark.parametrize("path", REPLANNED, ids=lambda path: path.parent.name)
def test_published_plans_are_planned_again(path: Path) -> None:
    golden = json.loads(path.read_text())
    plan = plan_like(golden, path.with_name("dataset_fingerprint.json"), path.with_name("dataset.json"))
    assert json.dumps(plan.raw) == json.dumps(golden)


@pytest.mark.parametrize("path", MADE_UP + PUBLISHED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_plan_is_written_as_it_was_read(path: Path, tmp_path: Path) -> None:
    plan = Plan.read(path)
    for name in plan.configuration_names:
        configuration = plan.configuration(name)
        assert all(
            edge % stride == 0
            for edge, stride in zip(configuration.patch_size, configuration.architecture.total_stride, strict=True)
        )
    plan.write(tmp_path / "plans.json")
    assert json.dumps(json.loads((tmp_path / "plans.json").read_text())) == json.dumps(json.loads(path.read_text()))


def test_planner_modules_are_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys, segwright.planning, segwright.planning.planner, segwright.explain.explanation\n"
        "print(sorted({'torch', 'numba', 'scipy', 'SimpleITK'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
