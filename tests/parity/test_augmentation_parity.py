from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segwright.augmentation import intensity
from segwright.augmentation.deep_supervision import downsample_labels
from segwright.augmentation.geometry import geometry_for
from segwright.augmentation.spatial import SpatialParameters, transform

pytestmark = pytest.mark.parity

Arrays = dict[str, NDArray[Any]]

SPATIAL: list[dict[str, Any]] = [
    {"crop": crop, "patch_size": patch, "angles_degrees": angles, "scale": scale, "mirrored_axes": mirrored}
    for crop, patch, variants in [
        (
            (36, 40, 32),  # even edges: an axis that is not turned is sampled at voxel centres, where no labels tie
            (20, 28, 20),
            [([25.0, 0.0, 0.0], 1.0, []), ([0.0, -17.0, 0.0], 1.0, []), ([0.0, 0.0, 11.0], 1.0, [])],
        ),
        (
            (36, 41, 33),
            (20, 28, 20),
            [
                ([], 1.0, [0, 2]),
                ([12.0, -29.0, 21.0], 0.73, [1]),
                ([-30.0, 8.0, 15.0], 1.39, [0, 1, 2]),
                ([], 0.81, [2]),
            ],
        ),
        ((71, 60), (60, 41), [([], 1.0, [1]), ([133.0], 1.0, []), ([-41.0], 1.33, [0]), ([], 0.77, [0, 1])]),
        ((6, 47, 50), (6, 40, 31), [([], 1.0, [0]), ([77.0], 1.0, [0, 2]), ([-170.0], 0.9, [1])]),
    ]
    for angles, scale, mirrored in variants
]

INTENSITY: list[dict[str, Any]] = [
    {"shape": shape, "name": name, "value": value}
    for shape in [(20, 28, 24), (45, 38)]
    for name, value in [
        ("blur", [0.52, 0.97, 0.71][: len(shape)]),
        ("blur", [0.6, 0.5, 1.0][: len(shape)]),
        ("contrast", 0.76),
        ("contrast", 1.24),
        ("low_resolution", [0.53] * len(shape)),
        ("low_resolution", [1.0, 0.87, 0.87][: len(shape)]),
        ("gamma", 0.7),
        ("gamma", 1.5),
        ("gamma_inverted", 0.8),
        ("gamma_inverted", 1.3),
    ]
]

DOWNSAMPLING: list[dict[str, Any]] = [
    {"shape": (2, 20, 28, 20), "scales": [[1, 1, 1], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0.5, 0.25, 0.25]]},
    {"shape": (1, 49, 35), "scales": [[0.5, 0.5], [0.25, 0.5]]},
]

GEOMETRY: list[tuple[int, ...]] = [
    tuple(int(edge) for edge in np.random.default_rng(seed).integers(4, 321, 2 + seed % 2)) for seed in range(300)
]


def _smooth_labels(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int16]:
    coarse = rng.integers(-1, 4, [edge // 4 + 1 for edge in shape])
    for axis in range(len(shape)):
        coarse = coarse.repeat(4, axis)
    cropped: NDArray[np.int16] = coarse[tuple(slice(edge) for edge in shape)].astype(np.int16)
    return cropped


@pytest.fixture(scope="module")
def given() -> Arrays:
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for i, case in enumerate(SPATIAL):
        case["key"] = f"spatial_{i}"
        case["dummy_2d"] = case["crop"][0] == 6
        arrays[f"spatial_{i}_image"] = rng.standard_normal((2, *case["crop"]), dtype=np.float32)
        arrays[f"spatial_{i}_seg"] = _smooth_labels(case["crop"], rng)[None]
    for i, case in enumerate(INTENSITY):
        case["key"] = f"intensity_{i}"
        arrays[case["key"]] = (rng.standard_normal(case["shape"]) * 2 + 1).astype(np.float32)
    for i, case in enumerate(DOWNSAMPLING):
        case["key"] = f"downsampling_{i}"
        arrays[case["key"]] = rng.integers(0, 5, case["shape"]).astype(np.int16)
    return arrays


@pytest.fixture(scope="module")
def peers(given: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    python = os.environ.get("SEGWRIGHT_PEER")
    if not python:
        pytest.fail("Set SEGWRIGHT_PEER to the Python of an environment with nnunetv2, or run `make parity`.")
    folder = tmp_path_factory.mktemp("augmentation")
    np.savez(folder / "arrays.npz", **given)
    geometry = [
        {"patch_size": patch, "limit_degrees": geometry_for(patch).rotation_degrees[0][1]} for patch in GEOMETRY
    ]
    cases = {"spatial": SPATIAL, "intensity": INTENSITY, "downsampling": DOWNSAMPLING, "geometry": geometry}
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    script = Path(__file__).with_name("peer_augmentation.py")
    files = [str(folder / name) for name in ("arrays.npz", "cases.json", "out.npz")]
    done = subprocess.run([python, str(script), *files], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"The peer failed:\n{done.stderr}")
    with np.load(folder / "out.npz") as out:
        return dict(out)


@pytest.mark.parametrize("number", range(len(SPATIAL)))
def test_crop_rotation_scaling_and_mirroring_equal_the_peers(number: int, given: Arrays, peers: Arrays) -> None:
    case = SPATIAL[number]
    parameters = SpatialParameters(tuple(case["angles_degrees"]), case["scale"], tuple(case["mirrored_axes"]))
    image, seg = transform(
        given[f"spatial_{number}_image"],
        given[f"spatial_{number}_seg"],
        parameters,
        crop_size=case["crop"],
        patch_size=case["patch_size"],
        dummy_2d=case["dummy_2d"],
        window=tuple(slice(0, edge) for edge in case["crop"]),
    )
    np.testing.assert_allclose(image, peers[f"spatial_{number}_image"], atol=1e-4)
    # the peer rounds its scores to half precision, so labels whose shares differ by less than 0.001 may differ
    assert (seg == peers[f"spatial_{number}_seg"]).mean() > 0.999


@pytest.mark.parametrize("number", range(len(INTENSITY)))
def test_intensity_transforms_equal_the_peers(number: int, given: Arrays, peers: Arrays) -> None:
    case = INTENSITY[number]
    channel = given[case["key"]].copy()
    if case["name"] == "blur":
        intensity.blur(channel, case["value"])
    elif case["name"] == "contrast":
        intensity.contrast(channel, case["value"])
    elif case["name"] == "low_resolution":
        intensity.simulate_low_resolution(channel, case["value"])
    else:
        intensity.gamma(channel, case["value"], inverted=case["name"] == "gamma_inverted")
    np.testing.assert_allclose(channel, peers[case["key"]], atol=2e-5)


@pytest.mark.parametrize("number", range(len(DOWNSAMPLING)))
def test_downsampled_labels_equal_the_peers(number: int, given: Arrays, peers: Arrays) -> None:
    case = DOWNSAMPLING[number]
    for i, seg in enumerate(downsample_labels(given[case["key"]], case["scales"])):
        np.testing.assert_array_equal(seg, peers[f"{case['key']}_{i}"])


def test_initial_patch_sizes_equal_the_peers(peers: Arrays) -> None:
    for i, patch in enumerate(GEOMETRY):
        geometry = geometry_for(patch)
        wanted = list(peers[f"geometry_{i}"])
        if geometry.dummy_2d:
            wanted[0] = patch[0]
        assert list(geometry.initial_patch_size) == wanted, patch
