from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.dataset import DatasetDescription
from segwright.errors import DatasetError, GeometryError, ImageError, PlanError
from segwright.geometry import Geometry
from segwright.io import Image
from segwright.labels import Labels
from segwright.planning.plan import Plan
from segwright.preprocessing.pipeline import PreprocessedCase, crop_case, fit_case, preprocess_case
from tasks import task_of

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = json.loads((GOLDEN / "preprocessing" / "cases.json").read_text())


def image_of(array: Any, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Image:
    return Image(
        array=np.asarray(array, dtype=np.float32),
        geometry=Geometry(spacing),  # type: ignore[arg-type]
        properties={"spacing": list(spacing)},
    )


def plan_of(name: str, configuration: str, **entries: Any) -> Plan:
    plan = json.loads((GOLDEN / "plans" / f"{name}__nnUNetPlans.json").read_text())
    plan["configurations"][configuration].update(entries)
    return Plan.from_json(plan)


def description_of(name: str, **entries: Any) -> DatasetDescription:
    value = json.loads((GOLDEN / "plans" / f"{name}__dataset.json").read_text())
    return DatasetDescription.from_json({**value, **entries})


def run(image: Image, label_map: Image | None, **entries: Any) -> PreprocessedCase:
    """With the plan of a small isotropic data set of one channel with two labels."""
    name = "Dataset903_Hippo"
    plan = plan_of(name, "3d_fullres", **entries)
    labels = description_of(name).labels
    return preprocess_case(image, label_map, task=task_of(plan, "3d_fullres", labels), where="case a")


@pytest.mark.parametrize("name", CASES)
def test_cases_equal_golden_ones(name: str) -> None:
    golden = CASES[name]
    plan = plan_of(golden["plans"], golden["configuration"], spacing=golden["target_spacing"])
    labels = description_of(
        golden["plans"], labels=golden["labels"], regions_class_order=golden["regions_class_order"]
    ).labels
    with np.load(GOLDEN / "preprocessing" / f"{name}.npz") as arrays:
        result = preprocess_case(
            image_of(arrays["image"], tuple(golden["spacing"])),
            image_of(arrays["labels"], tuple(golden["spacing"])),
            task=task_of(plan, golden["configuration"], labels),
        )
        assert result.data.dtype == np.float32
        np.testing.assert_allclose(result.data, arrays["data"], atol=1e-5 * np.ptp(arrays["data"]))
        assert result.seg.dtype == arrays["seg"].dtype == np.int8
        np.testing.assert_array_equal(result.seg, arrays["seg"])
        locations = result.properties.pop("class_locations")
        assert json.loads(json.dumps(list(locations))) == golden["located"]
        for number, voxels in enumerate(locations.values()):
            np.testing.assert_array_equal(voxels, arrays[f"locations_{number}"])
    assert json.loads(json.dumps(result.properties)) == golden["properties"]
    assert list(result.properties) == list(golden["properties"])


def test_inputs_stay_as_they_are_and_a_repeated_run_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    image = image_of(rng.random((1, 10, 12, 14)))
    label_map = image_of(rng.integers(0, 3, (1, 10, 12, 14)))
    before = image.array.copy(), label_map.array.copy()
    first = run(image, label_map, spacing=[0.8, 1.1, 1.0])
    second = run(image, label_map, spacing=[0.8, 1.1, 1.0])
    np.testing.assert_array_equal(image.array, before[0])
    np.testing.assert_array_equal(label_map.array, before[1])
    np.testing.assert_array_equal(first.data, second.data)
    assert "shape_before_cropping" not in image.properties


def test_intensities_that_may_be_used_up_give_the_same() -> None:
    name, configuration = "Dataset903_Hippo", "3d_fullres"
    array = np.random.default_rng(0).random((1, 10, 12, 14)).astype(np.float32)
    array[:, :2] = 0
    labels, plan = description_of(name).labels, plan_of(name, configuration)
    results = []
    for in_place in (False, True):
        image = image_of(array.copy())
        cropped = crop_case(image, image_of(np.ones_like(array)), plan=plan, labels=labels)
        results.append(fit_case(cropped, task=task_of(plan, configuration, labels), in_place=in_place))
        assert np.array_equal(image.array, array) != in_place
    assert np.array_equal(results[0].data, results[1].data)
    assert np.array_equal(results[0].seg, results[1].seg)


def test_without_a_label_map_the_segmentation_tells_the_nonzero_region() -> None:
    array = np.zeros((1, 8, 9, 10))
    array[0, 2:6, 3:7, 4] = 1
    array[0, 2:6, 3, 4:8] = 1
    result = run(image_of(array), None)
    assert result.properties["bbox_used_for_cropping"] == [[2, 6], [3, 7], [4, 8]]
    assert "class_locations" not in result.properties
    assert set(np.unique(result.seg)) == {-1, 0}
    np.testing.assert_array_equal(result.seg[0] == 0, array[0, 2:6, 3:7, 4:8] > 0)


def test_an_image_of_zeros_is_kept_whole() -> None:
    result = run(image_of(np.zeros((1, 6, 7, 8))), image_of(np.zeros((1, 6, 7, 8))), use_mask_for_norm=[True])
    assert result.data.shape == (1, 6, 7, 8)
    assert not result.data.any()
    assert (result.seg == -1).all()
    assert result.properties["class_locations"] == {1: [], 2: []}
    assert result.properties["bbox_used_for_cropping"] == [[0, 6], [0, 7], [0, 8]]


def test_a_thin_image_keeps_at_least_one_voxel_an_axis() -> None:
    result = run(image_of(np.random.default_rng(0).random((1, 1, 20, 20))), None, spacing=[4.0, 1.0, 1.0])
    assert result.data.shape == (1, 1, 20, 20)


def test_a_spacing_at_which_a_case_cannot_fit_into_the_memory_is_refused() -> None:
    with pytest.raises(PlanError, match=r"case a.*key 'spacing'"):
        run(image_of(np.ones((1, 4, 5, 6))), None, spacing=[1e-6, 1e-6, 1e-6])


def test_properties_hold_plain_numbers() -> None:
    image = image_of(np.ones((1, 4, 5, 6)))
    image = replace(
        image, properties={"spacing": [np.float64(1), 1.0, 1.0], "sitk_stuff": {"origin": (np.float32(2), 0.0)}}
    )
    properties = run(image, None).properties
    assert type(properties["spacing"][0]) is float
    assert properties["sitk_stuff"] == {"origin": (2.0, 0.0)}
    assert type(properties["sitk_stuff"]["origin"][0]) is float
    assert all(type(size) is int for size in properties["shape_before_cropping"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_refused(value: float) -> None:
    array = np.ones((1, 4, 5, 6))
    array[0, 0, 0, :3] = value
    with pytest.raises(ImageError, match=r"case a: .*channel 0.* 3 of 120 "):
        run(image_of(array), None)


def test_labels_that_are_not_declared_are_named() -> None:
    label_map = np.zeros((1, 4, 5, 6))
    label_map[0, 0, 0, :2] = 7
    with pytest.raises(DatasetError, match=r"case a, label map: .* 0, 1, 2.* 7 in 2\b"):
        run(image_of(np.ones((1, 4, 5, 6))), image_of(label_map))


@pytest.mark.parametrize("value", [0.5, -1, 40000, np.nan])
def test_values_that_are_no_labels_are_refused(value: float) -> None:
    label_map = np.zeros((1, 4, 5, 6))
    label_map[0, 1, 1, 1] = value
    with pytest.raises(ImageError, match=r"label map: .*32767"):
        run(image_of(np.ones((1, 4, 5, 6))), image_of(label_map))


def test_shapes_and_channels_must_fit() -> None:
    with pytest.raises(GeometryError, match=r"\(4, 5, 6\).*\(4, 5, 7\)"):
        run(image_of(np.ones((1, 4, 5, 6))), image_of(np.zeros((1, 4, 5, 7))))
    with pytest.raises(PlanError, match=r"\b1 channels?\b.* 2\b"):
        run(image_of(np.ones((2, 4, 5, 6))), None)


def test_labels_by_the_thousand_are_not_all_listed() -> None:
    image, label_map = image_of(np.ones((1, 4, 5, 6))), image_of(np.full((1, 4, 5, 6), 30_000))
    labels = Labels.from_json({"background": 0, **{f"l{value}": value for value in range(1, 20_000)}})
    plan = plan_of("Dataset903_Hippo", "3d_fullres")
    with pytest.raises(DatasetError, match="30000") as refused:
        crop_case(image, label_map, plan=plan, labels=labels)
    assert len(str(refused.value)) < 3000


def test_labels_above_127_need_16_bits() -> None:
    labels = {"background": 0, **{f"organ {value}": value for value in range(1, 200)}}
    plan = plan_of("Dataset903_Hippo", "3d_fullres")
    label_map = np.zeros((1, 4, 5, 6))
    label_map[0, 0, 0, 0] = 199
    result = preprocess_case(
        image_of(np.ones((1, 4, 5, 6))),
        image_of(label_map),
        task=task_of(plan, "3d_fullres", description_of("Dataset903_Hippo", labels=labels).labels),
    )
    assert result.seg.dtype == np.int16
    assert result.seg.max() == 199
