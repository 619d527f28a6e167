from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from examples import examples
from segwright.cropping import bounding_box, box_slices, crop_to_nonzero, nonzero_box


@st.composite
def images(draw: st.DrawFn) -> NDArray[np.float32]:
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    channels = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    share = draw(st.sampled_from([0.05, 0.5, 0.8, 1.0]))
    return (rng.random((channels, *shape)) < share).astype(np.float32)


@given(images(), st.booleans())
@examples(150)
def test_cropping_equals_masking_then_cropping(image: NDArray[np.float32], with_labels: bool) -> None:
    mask = binary_fill_holes((image != 0).any(axis=0))
    labels = np.random.default_rng(0).integers(0, 3, (1, *image.shape[1:])) if with_labels else None
    cropped, seg, box = crop_to_nonzero(image, labels)
    where = np.argwhere(mask)
    expected_box = (
        [[low, high + 1] for low, high in zip(where.min(0), where.max(0), strict=True)]
        if len(where)
        else [[0, size] for size in mask.shape]
    )
    assert box == nonzero_box(image) == expected_box
    inside = box_slices(box)
    np.testing.assert_array_equal(cropped, image[(slice(None), *inside)])
    expected = np.zeros(mask.shape) if labels is None else labels[0].copy()
    expected[(expected == 0) & ~mask] = -1
    np.testing.assert_array_equal(seg[0], expected[inside])
    assert seg.dtype == np.int16


def test_the_box_is_half_open_and_plain() -> None:
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 2, 3:6] = True
    assert bounding_box(mask) == [[1, 3], [2, 3], [3, 6]]
    assert all(type(edge) is int for pair in bounding_box(mask) for edge in pair)


def test_the_label_map_given_is_not_changed() -> None:
    labels = np.zeros((1, 3, 3, 3))
    image = np.zeros((1, 3, 3, 3), np.float32)
    image[0, 1, 1, 1] = 5
    crop_to_nonzero(image, labels)
    assert not labels.any()
