from __future__ import annotations

import pytest

from segwright.augmentation.geometry import geometry_for
from segwright.errors import PlanError


@pytest.mark.parametrize(
    ("patch", "initial"),
    [
        ((128, 128, 128), (205, 205, 205)),
        ((40, 56, 40), (73, 80, 64)),
        ((64, 192, 160), (178, 289, 200)),
        ((20, 320, 256), (20, 376, 376)),
        ((512, 512), (602, 602)),
    ],
)
def test_initial_patch_size_is_nnunets(patch: tuple[int, ...], initial: tuple[int, ...]) -> None:
    assert geometry_for(patch).initial_patch_size == initial


@pytest.mark.parametrize(
    ("patch", "rotation", "dummy_2d"),
    [
        ((128, 128, 128), ((-30.0, 30.0),) * 3, False),
        ((48, 144, 144), ((-30.0, 30.0),) * 3, False),  # exactly three times is not more than three times
        ((48, 145, 144), ((-180.0, 180.0),), True),
        ((64, 16, 128), ((-30.0, 30.0),) * 3, False),  # only the first axis counts as the slice axis
        ((512, 512), ((-180.0, 180.0),), False),
        ((300, 200), ((-180.0, 180.0),), False),
        ((301, 200), ((-15.0, 15.0),), False),
    ],
)
def test_rotation_follows_the_shape_of_the_patch(
    patch: tuple[int, ...], rotation: tuple[tuple[float, float], ...], dummy_2d: bool
) -> None:
    geometry = geometry_for(patch)
    assert geometry.rotation_degrees == rotation
    assert geometry.dummy_2d is dummy_2d
    assert geometry.mirror_axes == tuple(range(len(patch)))


@pytest.mark.parametrize("patch", [(8,), (8, 8, 8, 8), (0, 8)])
def test_a_patch_of_another_kind_is_refused(patch: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match="patch_size"):
        geometry_for(patch)
