from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from segwright.doctor.alignment import axis_codes, displacement
from segwright.geometry import Geometry

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


def test_other_axes_are_turned_and_two_dimensions_say_nothing() -> None:
    turned = scan(direction=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    found = displacement(geometry(turned), geometry(scan()), SHAPE)
    assert found is not None
    assert found.text == "turned"
    flat = Geometry((999.0, 1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    assert displacement(flat, flat, SHAPE) is None
    assert axis_codes(flat) is None


@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR", "AIL", "IRP"])
def test_axes_are_named_as_itk_names_them(code: str) -> None:
    turned = sitk.DICOMOrient(scan(), code)
    assert axis_codes(geometry(turned)) == code
