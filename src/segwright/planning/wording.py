"""Numbers as the sentences of explanations write them."""

from __future__ import annotations

from collections.abc import Iterable

GIB = 1 << 30


def sizes(values: Iterable[float]) -> str:
    """Join the lengths of axes: `40 × 56 × 40`."""
    return " × ".join(f"{value:g}" for value in values)


def count(number: int, noun: str) -> str:
    """Say how many there are: `1 label`, `3 labels`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ordinal(axis: int) -> str:
    """Name an axis of a plan, counted from 0, by its place: `first`, `second`, `third`."""
    return ("first", "second", "third")[axis]


def gigabytes(size: float) -> str:
    """Say bytes in GB of 2^30, as memory is sold, or in MB: `5.8 GB`, `440 MB`."""
    if size < GIB:
        return f"{size / (1 << 20):.3g} MB" if size < 999 << 20 else "1 GB"
    return f"{size / GIB:.1f} GB"


def duration(hours: float) -> str:
    """Say a duration to two digits: `25 s`, `12 min`, `3.5 h`, `40 h`, `5.2 days`."""
    if hours < 1 / 60:
        return f"{3600 * hours:.2g} s"
    if hours < 1:
        return f"{60 * hours:.2g} min"
    if hours < 72:
        return f"{hours:.2g} h"
    return f"{hours / 24:.1f} days"


def times(factor: float) -> str:
    """Say a factor to two or three digits: `0.85`, `2.1`, `14`, `7,760`."""
    return f"{factor:.2g}" if factor < 100 else f"{float(f'{factor:.3g}'):,.0f}"
