"""Import the names of a package on first use, so that importing the package costs nothing."""

from __future__ import annotations

TYPE_CHECKING = False  # nothing is imported before the command can be interrupted without a traceback
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package; `places` maps each name to its module, with `:other` if named so there."""

    def get(name: str) -> Any:
        import importlib

        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = places[name].partition(":")
        value = getattr(importlib.import_module(f"{package}.{module}"), attribute or name)
        setattr(importlib.import_module(package), name, value)
        return value

    return get
