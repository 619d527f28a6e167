"""Numbers read as people write them."""

from __future__ import annotations

import pytest

from segwright.planning.wording import ordinal, times


@pytest.mark.parametrize(
    ("factor", "told"), [(0.847, "0.85"), (2.06, "2.1"), (14.2, "14"), (123.4, "123"), (7763.0, "7,760")]
)
def test_factors_have_two_or_three_digits_and_no_exponent(factor: float, told: str) -> None:
    assert times(factor) == told


def test_axes_are_named_by_their_place() -> None:
    assert [ordinal(axis) for axis in range(3)] == ["first", "second", "third"]
