from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.geometry import Geometry, shape_at_spacing


def test_spacing_and_position_are_compared_with_nnunets_tolerance() -> None:
    geometry = Geometry((3.0, 1.0, 1.0), origin_mm=(100.0, 0.0, 0.0))
    assert geometry.same_spacing(Geometry((3.00001, 1.0, 1.0)))
    assert not geometry.same_spacing(Geometry((3.001, 1.0, 1.0)))
    assert geometry.same_position(Geometry((9.0, 9.0, 9.0), origin_mm=(100.0005, 0.0, 0.0)))
    assert not geometry.same_position(Geometry((3.0, 1.0, 1.0), origin_mm=(101.0, 0.0, 0.0)))
    turned = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    assert not geometry.same_position(Geometry((3.0, 1.0, 1.0), (100.0, 0.0, 0.0), turned))


def test_a_2d_position_is_never_that_of_a_3d_image() -> None:
    flat = Geometry((999.0, 1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    assert not flat.same_position(Geometry((999.0, 1.0, 1.0)))
    assert re.search(r"\(0, 0\).*\(1, 0, 0, 1\)", flat.position_in_words())


def test_halves_are_rounded_to_even_as_nnunet_does() -> None:
    assert shape_at_spacing((5, 7, 10), (1.0, 1.0, 1.0), (2.0, 2.0, 4.0)) == (2, 4, 2)


def test_as_many_spacings_as_axes_are_needed() -> None:
    with pytest.raises(ValueError, match=r"\(5, 5\)"):
        shape_at_spacing((5, 5), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


@given(
    st.tuples(*[st.integers(1, 600)] * 3),
    st.tuples(*[st.floats(0.1, 20)] * 3),
    st.tuples(*[st.floats(0.1, 20)] * 3),
)
def test_the_extent_is_kept_to_half_a_voxel(
    shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...]
) -> None:
    new_shape = shape_at_spacing(shape, spacing, target)
    assert shape_at_spacing(shape, spacing, spacing) == shape
    for old, new, old_mm, new_mm in zip(shape, new_shape, spacing, target, strict=True):
        assert abs(new * new_mm - old * old_mm) <= new_mm * 0.5 * (1 + 1e-9)
