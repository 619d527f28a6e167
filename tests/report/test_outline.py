from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from examples import examples
from segwright.report.outline import outlines

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7)))


def area(lines):
    """Area that closed lines surround (shoelace); holes run the other way round and count negative."""
    return sum((x0 * y1 - x1 * y0) / 2 for line in lines for (x0, y0), (x1, y1) in pairwise(line))


def num_corners(mask):
    """Corners of the voxels' outline: grid points where it turns; at a diagonal touch it turns twice."""
    padded = np.pad(mask, 1).astype(int)
    inside = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
    diagonal = (inside == 2) & (padded[:-1, :-1] == padded[1:, 1:])
    convex = np.count_nonzero(inside == 1) + 2 * np.count_nonzero(diagonal)
    return convex, np.count_nonzero(inside == 3)


@examples(150)
@given(MASKS)
def test_the_area_is_that_of_the_voxels_less_the_cut_corners(mask):
    convex, concave = num_corners(mask)
    assert area(outlines(mask)) == pytest.approx(mask.sum() - convex / 8 + concave / 8)


@examples(60)
@given(MASKS)
def test_every_line_is_closed_and_inside_the_slice(mask):
    for line in outlines(mask):
        assert line[0] == line[-1]
        assert all(0 <= x <= mask.shape[1] and 0 <= y <= mask.shape[0] for x, y in line)


def test_one_voxel_is_a_diamond():
    (line,) = outlines(np.array([[0, 0], [0, 1]]))
    assert set(line) == {(1.5, 1.0), (2.0, 1.5), (1.5, 2.0), (1.0, 1.5)}


def test_voxels_that_touch_at_a_corner_stay_apart():
    assert len(outlines(np.eye(2))) == 2


def test_holes_that_touch_at_a_corner_are_one_outline():
    mask = np.ones((4, 6), bool)
    mask[1, 2] = mask[2, 1] = False
    assert len(outlines(mask)) == 2


def test_a_straight_edge_has_no_points_in_between():
    (line,) = outlines(np.ones((1, 50)))
    assert len(line) <= 9


def test_a_border_between_two_labels_is_traced_once():
    length_of_a_square = sum(
        np.hypot(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(outlines(np.ones((9, 9)))[0])
    )
    lines = outlines(np.repeat([[1, 2]], 9, axis=1).repeat(9, axis=0))
    length = sum(np.hypot(x1 - x0, y1 - y0) for line in lines for (x0, y0), (x1, y1) in pairwise(line))
    assert length <= 2 * length_of_a_square - 8 + 1e-9  # the nine voxels of the border have eight steps in between
    assert any(line[0] != line[-1] for line in lines)


def test_nothing_to_outline():
    assert outlines(np.zeros((3, 3))) == ()
