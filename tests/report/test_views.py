from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from imageio import v3 as imageio

from segwright.geometry import Geometry
from segwright.report.slices import CaseImages, choose_cuts, plane_of
from segwright.report.views import LONGER_SIDE_PIXELS, case_planes, case_views

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def case(shape, foreground=None, *, spacing=(1.0, 1.0, 1.0), direction=LPS, oriented=False, is_rgb=False, channels=1):
    image = np.random.default_rng(0).normal(100, 20, (channels, *shape)).astype(np.float32)
    labels = np.zeros(shape, dtype=np.int16)
    if foreground is not None:
        labels[foreground] = 1
    return CaseImages(
        image=image,
        reference=labels,
        prediction=labels,
        geometry=Geometry(spacing, (0.0, 0.0, 0.0), direction),
        is_rgb=is_rgb,
        oriented=oriented,
        channel_name="T1",
    )


def views(images):
    return case_views(images, case_id="c1", dice_in_words="Dice: a 0.9.")


def test_a_volume_is_cut_three_ways_where_it_holds_most():
    images = case((30, 20, 40), np.s_[4:8, 11:13, 20:30])
    images.reference[5, 2:18, 20:30] = 1
    assert [cut.axis for cut in choose_cuts(images)] == [0, 1, 2]
    assert choose_cuts(images)[0].index == 5
    assert len(views(images)) == 3


def test_thick_slices_are_shown_in_parallel():
    images = case((10, 64, 64), np.s_[1:9, 20:40, 20:40], spacing=(8.0, 1.0, 1.0))
    assert [(cut.axis, cut.index) for cut in choose_cuts(images)] == [(0, 2), (0, 5), (0, 7)]
    along_x = case((64, 64, 10), np.s_[20:40, 20:40, 3:4], spacing=(1.0, 1.0, 8.0))
    assert [(cut.axis, cut.index) for cut in choose_cuts(along_x)] == [(2, 3)]


def test_no_foreground_shows_the_middle():
    assert [cut.index for cut in choose_cuts(case((30, 20, 40)))] == [15, 10, 20]
    assert [cut.index for cut in choose_cuts(case((9, 64, 64), spacing=(9.0, 1.0, 1.0)))] == [4]


def test_a_flat_volume_is_not_cut_to_stripes():
    assert [cut.axis for cut in choose_cuts(case((5, 64, 64), spacing=(2.0, 1.0, 1.0)))] == [0]


@pytest.mark.parametrize(
    "signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, 1)], ids=["LPS", "RAS", "mixed", "left is right"]
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_every_orientation_is_shown_the_same_way_up(signs, order):
    """A volume of world coordinates, stored along any axes: left must be right of patient, top front or head."""
    world = np.stack(np.meshgrid(np.arange(14), np.arange(16), np.arange(18), indexing="ij"))  # x, y, z of each voxel
    direction = np.zeros((3, 3))
    stored = world
    for axis in range(3):  # array axis 2 - k runs along world axis order[k]
        direction[order[axis], axis] = signs[axis]
    stored = np.moveaxis(stored, [1 + order[2], 1 + order[1], 1 + order[0]], [1, 2, 3])
    for axis in range(3):
        if signs[axis] < 0:
            stored = np.flip(stored, axis=3 - axis)
    images = case(stored.shape[1:], oriented=True, direction=tuple(direction.ravel()))
    found = {}
    for cut in choose_cuts(images):
        x, y, z = (plane_of(stored[k], cut) for k in range(3))
        found[cut.plane] = cut.edges
        columns, rows = {"axial": (x, y), "coronal": (x, -z), "sagittal": (y, -z)}[cut.plane]
        assert (np.diff(columns, axis=1) == 1).all()
        assert (np.diff(rows, axis=0) == 1).all()
    assert found == {
        "axial": ("R", "A", "L", "P"),
        "coronal": ("R", "H", "L", "F"),
        "sagittal": ("A", "H", "P", "F"),
    }


def test_an_unknown_orientation_is_not_named():
    for view in views(case((20, 20, 20))):
        assert view.edges is None
        assert view.caption.startswith("Slice ")


def test_the_aspect_follows_the_spacing():
    sizes = [view.size_mm for view in views(case((20, 30, 40), spacing=(2.0, 1.0, 1.5)))]
    assert sizes == [(60.0, 30.0), (60.0, 40.0), (30.0, 40.0)]


def test_small_foreground_is_shown_in_detail():
    (view,) = (v for v in views(case((16, 200, 200), np.s_[8, 90:100, 90:100], spacing=(9.0, 1.0, 1.0))))
    assert view.size_in_voxels == (42, 42)
    assert "detail" in view.caption
    xs = [x for line in view.reference_outline for x, _ in line]
    assert (min(xs), max(xs)) == (16, 26)


def test_small_slices_are_enlarged_by_a_whole_factor():
    images = case((1, 20, 30))
    (view,) = views(images)
    pixels = imageio.imread(BytesIO(view.png), extension=".png")
    assert pixels.shape == (320, 480)
    blocks = pixels.reshape(20, 16, 30, 16)
    assert (blocks == blocks[:, :1, :, :1]).all()


def test_large_slices_are_reduced_with_their_outlines():
    images = case((1, 2500, 1300), np.s_[0, :, :650])
    whole, detail = case_planes(images)
    assert max(whole.shown.shape) <= LONGER_SIDE_PIXELS
    assert whole.reference.shape == whole.shown.shape
    assert whole.size_mm == (1300, 2500)
    assert "detail" in detail.words


def test_the_detail_of_an_image_is_where_the_two_differ():
    images = case((1, 300, 300), np.s_[0, :, :200])
    images = CaseImages(images.image, images.reference, images.reference.copy(), images.geometry)
    images.prediction[0, 200:230, 250:280] = 1
    detail = case_planes(images)[1]
    assert np.count_nonzero(detail.reference != detail.prediction) == 900


def test_rgb_keeps_its_colours():
    images = case((1, 40, 40), is_rgb=True, channels=3)
    images.image[:] = np.array([250, 10, 128], dtype=np.float32).reshape(3, 1, 1, 1)
    (view,) = views(images)
    pixels = imageio.imread(BytesIO(view.png), extension=".png")
    assert (pixels == [250, 10, 128]).all()


def test_intensities_that_are_no_numbers_are_black():
    images = case((1, 40, 40))
    images.image[0, 0, 0, 0] = np.nan
    images.image[0, 0, 0, 1] = np.inf
    (plane,) = case_planes(images)
    assert plane.shown[0, 0] == 0
    images.image[:] = np.nan
    assert case_planes(images)[0].shown.max() == 0


def test_alt_texts_say_case_place_and_score():
    for view in views(case((20, 20, 20), np.s_[5:10, 5:10, 5:10], oriented=True)):
        assert "Case c1" in view.alt
        assert "slice" in view.alt
        assert " 25 pixels" in view.alt
        assert "a 0.9" in view.alt
