"""How many examples a property is tried on."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def examples(count: int, **others: Any) -> settings:
    """`count` examples in `make test`, and as many times more as the profile in use has more than 100."""
    return settings(max_examples=max(1, count * settings().max_examples // 100), **others)
