from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segwright.planning.topology import choose_topology

ISOTROPIC, FLAT = (3, 3, 3), (1, 3, 3)


def test_small_isotropic_images() -> None:
    topology = choose_topology((1, 1, 1), (36, 50, 35))
    assert topology.num_pool_per_axis == (3, 3, 3)
    assert topology.patch_size == (40, 56, 40)
    assert topology.kernel_sizes == (ISOTROPIC,) * 4
    assert {stop.reason for stop in topology.stops} == {"too short"}


def test_cube() -> None:
    topology = choose_topology((1, 1, 1), (128, 128, 128))
    assert topology.strides == ((1, 1, 1), *((2, 2, 2),) * 5)
    assert topology.patch_size == (128, 128, 128)


def test_coarse_slices_are_halved_late_and_their_kernels_flat_until_then() -> None:
    topology = choose_topology((3, 0.8, 0.8), (28, 256, 224))
    assert topology.num_pool_per_axis == (2, 5, 5)
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert topology.kernel_sizes == (FLAT, *(ISOTROPIC,) * 5)


def test_very_coarse_slices() -> None:
    topology = choose_topology((10, 1.25, 1.25), (10, 224, 224))
    assert topology.num_pool_per_axis == (1, 5, 5)
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    assert topology.kernel_sizes[:3] == (FLAT,) * 3
    assert choose_topology((5, 1.5625, 1.5625), (16, 256, 208)).patch_size == (16, 256, 224)


def test_an_axis_left_alone_needs_a_longer_edge() -> None:
    topology = choose_topology((1, 1, 1), (4, 4, 11))
    assert topology.num_stages == 1
    assert topology.stops[2].reason == "alone and too short"
    assert choose_topology((1, 1, 1), (4, 4, 12)).num_pool_per_axis == (0, 0, 1)


def test_an_axis_that_stays_coarse_says_so() -> None:
    # the fine axis could go on but for being alone, so the coarse one, long enough, never gets its turn
    topology = choose_topology((100, 1), (32, 11))
    assert topology.num_pool_per_axis == (0, 0)
    assert topology.stops[0].reason == "too coarse"
    assert topology.stops[1].reason == "alone and too short"


def test_half_voxels_of_median_shapes_are_rounded_up() -> None:
    assert choose_topology((1, 1), (3.5, 20.5)).patch_size == (4, 22)


edges = st.lists(st.integers(1, 600), min_size=2, max_size=3)


@given(edges, st.data())
def test_patches_are_divisible_hold_the_image_and_keep_an_edge_of_four(size: list[int], data: st.DataObject) -> None:
    spacing = data.draw(st.lists(st.floats(0.05, 50), min_size=len(size), max_size=len(size)))
    topology = choose_topology(spacing, size)
    for axis, (edge, padded, divisor) in enumerate(zip(size, topology.patch_size, topology.divisor, strict=True)):
        assert padded % divisor == 0
        assert edge <= padded < edge + divisor
        assert padded // divisor == topology.stops[axis].edge
        assert divisor == 1 or padded // divisor >= 4
        product = 1
        for stride in topology.strides:
            product *= stride[axis]
        assert product == divisor
    assert len(topology.strides) == len(topology.kernel_sizes)
