"""The public names: few, sorted, typed, and imported only when they are asked for."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import segwright

HEAVY = ("torch", "numpy", "numba", "scipy", "SimpleITK", "matplotlib", "nibabel")


def imported_for_type_checkers() -> dict[str, str]:
    """Public names and the modules that `if TYPE_CHECKING:` takes them from."""
    tree = ast.parse(Path(segwright.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: str(statement.module)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def test_the_list_of_names_is_sorted_and_short() -> None:
    assert segwright.__all__ == sorted(set(segwright.__all__))
    assert 10 <= len(segwright.__all__) <= 20


@pytest.mark.parametrize("name", segwright.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(segwright, name)
    assert inspect.getdoc(value), name
    assert value.__module__.startswith("segwright."), name
    assert getattr(segwright, name) is value


def test_type_checkers_see_the_same_objects() -> None:
    declared = imported_for_type_checkers()
    assert sorted(declared) == segwright.__all__
    namespace: dict[str, object] = {}
    for name, module in declared.items():
        exec(f"from {module} import {'check' if name == 'check_dataset' else name} as {name}", namespace)
        assert namespace[name] is getattr(segwright, name), name


def test_names_are_listed_for_completion() -> None:
    assert set(segwright.__all__) <= set(dir(segwright))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'segwright'.*'segmnet'"):
        _ = segwright.segmnet  # type: ignore[attr-defined]


def test_a_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from segwright import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(segwright.__all__)


@pytest.mark.parametrize("module", ["segwright", "segwright.planning", "segwright.dataset", "segwright.cli.main"])
def test_importing_a_light_module_loads_no_heavy_library(module: str) -> None:
    heavy = HEAVY if module in ("segwright", "segwright.cli.main") else ("torch", "numba", "scipy")
    program = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert segwright.__version__ == version("segwright")
