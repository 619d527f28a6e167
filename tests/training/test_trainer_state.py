"""Only a trainer changes its own counters; whoever runs it calls its methods."""

from __future__ import annotations

import ast
from pathlib import Path

import segwright

COUNTERS = {"best_ema", "current_epoch", "data_wait_seconds", "history", "state"}


def test_nobody_else_assigns_the_counters_of_a_trainer() -> None:
    package = Path(segwright.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in [part for each in targets for part in getattr(each, "elts", [each])]:
                if (
                    isinstance(target, ast.Attribute)
                    and target.attr in COUNTERS
                    and isinstance(target.value, ast.Name)
                    and target.value.id == "trainer"
                ):
                    found.append(f"{path.relative_to(package)}, line {node.lineno}")
    assert found == []
