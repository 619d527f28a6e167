from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from segwright.geometry import Geometry, axis_codes, displacement

SHAPE = (4, 6, 5)  # (z, y, x)
SPACING = (3.0, 1.0, 0.5)


def geometry(image: sitk.Image) -> Geometry:
    z, y, x = image.GetSpacing()[::-1]
    return Geometry((z, y, x), image.GetOrigin(), image.GetDirection())


def scan(**position: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8))
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(position.get("origin", (10.0, -20.0, 30.0)))
    image.SetDirection(position.get("direction", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)))
    return image


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, 0, 1, 0, -1, 0)])
def test_a_flipped_grid_is_mirrored_and_nothing_else(direction: tuple[float, ...]) -> None:
    image = scan(direction=tuple(map(float, direction)))
    for axes, named in (((True, False, False), ("x",)), ((False, True, True), ("z", "y"))):
        found = displacement(geometry(sitk.Flip(image, axes)), geometry(image), SHAPE)
        assert found is not None
        assert found.mirrored == named
        assert found.shift == pytest.approx((0, 0, 0), abs=1e-6)
        assert found.text == f"mirrored along {' and '.join(named)}"


def test_a_cropped_and_padded_grid_is_shifted() -> None:
    image = scan(direction=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    moved = sitk.ConstantPad(sitk.Crop(image, (1, 0, 0), (0, 2, 0)), (0, 2, 0), (1, 0, 0))
    found = displacement(geometry(moved), geometry(image), SHAPE)
    assert found is not None
    assert found.text == "shifted by -2 voxels along y, +1 voxel along x"
    moved.SetOrigin(moved.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, 0.5)))
    found = displacement(geometry(moved), geometry(image), SHAPE)
    assert found is not None
    assert found.text == "shifted by +0.5 voxels along z, -2 voxels along y, +1 voxel along x"


def test_the_largest_displacement_of_a_corner_is_in_voxels_along_an_axis() -> None:
    image = Geometry(SPACING, (10.0, -20.0, 30.0))
    for moved, voxels in (
        (Geometry(SPACING, (10.0, -20.0, 33.0)), 1),
        (Geometry(SPACING, (10.5, -20.0, 31.5)), 1),
        (Geometry((3.0, 1.0, 1.0), (10.0, -20.0, 30.0)), 4),
    ):
        found = displacement(moved, image, SHAPE)
        assert found is not None
        assert found.voxels == pytest.approx(voxels)


def test_other_axes_are_turned() -> None:
    turned = scan(direction=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    found = displacement(geometry(turned), geometry(scan()), SHAPE)
    assert found is not None
    assert found.text == "turned"


def test_a_2d_grid_is_compared_in_its_plane() -> None:
    flat = Geometry((999.0, 1.0, 2.0), (5.0, 6.0), (1.0, 0.0, 0.0, 1.0))
    moved = Geometry((999.0, 1.0, 2.0), (7.0, 11.0), (1.0, 0.0, 0.0, -1.0))
    found = displacement(moved, flat, (1, 6, 5))
    assert found is not None
    assert found.mirrored == ("y",)
    assert found.shift == pytest.approx((0, 0, 1))
    assert axis_codes(flat) is None


def test_axes_in_one_plane_cannot_be_compared() -> None:
    singular = Geometry(SPACING, direction=(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    assert displacement(singular, Geometry(SPACING), SHAPE) is None
    assert displacement(Geometry(SPACING), singular, SHAPE) is None
    assert axis_codes(singular) is None


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0.6, -0.8, 0, 0, 0, 1, -0.8, -0.6, 0)])
def test_the_affine_is_where_itk_puts_the_voxels(direction: tuple[float, ...]) -> None:
    image = scan(direction=tuple(map(float, direction)))
    for index in ((0, 0, 0), (3, 5, 4), (1, 2, 3)):
        where = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(geometry(image).affine @ (*index, 1), (*where, 1), atol=1e-12)


@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR", "AIL", "IRP"])
def test_axes_are_named_as_itk_names_them(code: str) -> None:
    turned = sitk.DICOMOrient(scan(), code)
    assert axis_codes(geometry(turned)) == code
