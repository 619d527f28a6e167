from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from segwright.doctor.placement import place_on_image
from segwright.errors import GeometryError
from segwright.geometry import Geometry
from segwright.io import Image

SHAPE = (6, 7, 8)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Geometry((3.0, 1.0, 0.5), (10.0, -20.0, 30.0), IDENTITY)
SOMEWHERE = {"sitk_stuff": {}}


def volume(array: np.ndarray, geometry: Geometry = GRID, properties: dict[str, Any] = SOMEWHERE) -> Image:
    return Image(array[None].astype(np.float32), geometry, properties)


def numbered(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A label map in which every voxel has a value of its own."""
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


@examples(50)
@given(st.lists(st.booleans(), min_size=3, max_size=3), st.permutations([0, 1, 2]), st.integers(0, 2**31))
def test_a_label_map_stored_with_other_axes_comes_back(flips: list[bool], order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    spacing, origin = rng.uniform(0.5, 4, 3), rng.uniform(-100, 100, 3)  # x, y, z
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    image = Geometry(tuple(spacing[::-1]), tuple(origin), tuple(rotation.ravel()))
    sizes = np.array(SHAPE[::-1])
    signs = np.where(flips, -1, 1)
    corner = origin + rotation @ (np.where(flips, sizes - 1, 0) * spacing)
    stored = Geometry(tuple(spacing[order][::-1]), tuple(corner), tuple((rotation * signs)[:, order].ravel()))
    wanted = numbered()
    array = wanted.transpose(2, 1, 0)[tuple(slice(None, None, sign) for sign in signs)]  # x, y, z
    label_map = array.transpose(order).transpose(2, 1, 0)
    if label_map.shape == SHAPE and not np.allclose(stored.spacing_mm, image.spacing_mm):
        return  # the header is taken for wrong where the shape is the image's
    placed, what = place_on_image(volume(label_map, stored), volume(np.zeros(SHAPE), image))
    np.testing.assert_array_equal(placed, wanted)
    assert (what is None) == (not any(flips) and list(order) == [0, 1, 2])


def test_a_label_map_that_is_there_is_left() -> None:
    placed, what = place_on_image(volume(numbered()), volume(np.zeros(SHAPE)))
    assert what is None
    np.testing.assert_array_equal(placed, numbered())


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (Geometry((1.0, 1.0, 1.0), (10.0, -20.0, 30.0)), "spacing 1 x 1 x 1 mm .* 3 x 1"),
        (Geometry((3.0, 1.0, 0.5), (10.1, -20.0, 30.0)), r"position .* 0\.2 voxels"),
        (Geometry((3.0, 1.0, 0.5)), "position"),
        (Geometry((3.0, 1.0, 0.5), (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)), "position"),
    ],
)
def test_a_wrong_header_changes_no_voxel(header: Geometry, said: str) -> None:
    placed, what = place_on_image(volume(numbered(), header), volume(np.zeros(SHAPE)))
    np.testing.assert_array_equal(placed, numbered())
    assert what is not None
    assert re.search(said, what), what


def test_a_shifted_label_map_goes_where_its_header_says() -> None:
    label_map = np.zeros(SHAPE)
    label_map[2:4, 2:4, 2:4] = 1
    shifted = Geometry(GRID.spacing_mm, (11.0, -20.0, 27.0))  # 2 voxels along x, -1 along z
    placed, what = place_on_image(volume(label_map, shifted), volume(np.zeros(SHAPE)))
    np.testing.assert_array_equal(placed, np.roll(label_map, (-1, 0, 2), (0, 1, 2)))
    assert str(what).count("(6, 7, 8)") == 2


def test_a_finer_grid_is_sampled_at_the_images_voxels() -> None:
    fine = np.repeat(np.repeat(np.repeat(numbered(), 2, 0), 2, 1), 2, 2)
    header = Geometry((1.5, 0.5, 0.25), tuple(np.array(GRID.origin_mm) - np.array([0.124, 0.24, 0.74])))
    placed, what = place_on_image(volume(fine, header), volume(np.zeros(SHAPE)))
    np.testing.assert_array_equal(placed, numbered())
    assert re.search(r"\(12, 14, 16\).*\(6, 7, 8\)", str(what))


def test_what_is_lost_is_told() -> None:
    label_map = np.zeros((8, 7, 8))
    label_map[0:4] = 1
    label_map[7, 0, 0] = 2
    placed, what = place_on_image(volume(label_map), volume(np.zeros(SHAPE)))
    np.testing.assert_array_equal(placed, label_map[:6])
    assert re.search(r"0\.44%.* 2$", str(what))


@pytest.mark.parametrize("shape", [SHAPE, (6, 7, 9)])
def test_a_label_map_beside_its_image_is_refused(shape: tuple[int, ...]) -> None:
    away = Geometry(GRID.spacing_mm, (500.0, -20.0, 30.0))
    with pytest.raises(GeometryError, match=" 0%"):
        place_on_image(volume(numbered(shape), away), volume(np.zeros(SHAPE)))


def test_another_shape_without_a_header_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"\(1, 7, 9\).*\(1, 7, 8\)"):
        place_on_image(volume(np.ones((1, 7, 9)), properties={}), volume(np.zeros((1, 7, 8)), properties={}))


def test_2d_images_lie_in_a_plane() -> None:
    plane = Geometry((999.0, 1.0, 2.0), (5.0, 6.0), (1.0, 0.0, 0.0, 1.0))
    mirrored = Geometry((999.0, 1.0, 2.0), (19.0, 6.0), (-1.0, 0.0, 0.0, 1.0))
    label_map = numbered((1, 7, 8))
    placed, _ = place_on_image(volume(label_map, mirrored), volume(np.zeros((1, 7, 8)), plane))
    np.testing.assert_array_equal(placed, label_map[:, :, ::-1])
