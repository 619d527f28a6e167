"""What holds for every image: orders of axes, orientations and crops lead there and back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes

from examples import examples
from segwright.cropping import box_slices, crop_to_nonzero
from segwright.geometry import Geometry, shape_at_spacing
from segwright.inference.export import logits_to_label_map
from segwright.io import Image, reader_named
from segwright.labels import Labels
from segwright.planning.plan import Plan
from segwright.planning.spacing import choose_transpose
from segwright.preprocessing.pipeline import preprocess_case
from tasks import task_of

GOLDEN = Path(__file__).parent / "golden" / "plans" / "Dataset903_Hippo__nnUNetPlans.json"
ORIENTATIONS = [
    "".join(axes) for order in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*order)
]
LABELS = Labels.from_json({"background": 0, "a": 1, "b": 2})

shapes = st.tuples(*[st.integers(1, 7)] * 3)
spacings = st.tuples(*[st.floats(0.1, 20)] * 3)
orders = st.permutations([0, 1, 2]).map(tuple)
seeds = st.integers(0, 10_000)


def labels_of(shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


@given(shapes, spacings, spacings, orders)
def test_a_shape_at_another_spacing_keeps_the_order_of_axes(
    shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...], order: tuple[int, ...]
) -> None:
    turned = [tuple(values[axis] for axis in order) for values in (shape, spacing, target)]
    expected = shape_at_spacing(shape, spacing, target)
    assert shape_at_spacing(*turned) == tuple(expected[axis] for axis in order)


@given(spacings, st.booleans(), shapes, seeds)
def test_an_order_of_axes_is_undone_by_its_inverse(
    spacing: tuple[float, ...], suppress: bool, shape: tuple[int, ...], seed: int
) -> None:
    forward, backward = choose_transpose(spacing, suppress=suppress)
    array = labels_of(shape, seed)
    np.testing.assert_array_equal(array.transpose(forward).transpose(backward), array)
    assert suppress or spacing[forward[0]] == max(spacing)


@given(orders, orders, shapes, seeds)
def test_orders_of_axes_compose(
    first: tuple[int, ...], second: tuple[int, ...], shape: tuple[int, ...], seed: int
) -> None:
    array = labels_of(shape, seed)
    together = tuple(first[axis] for axis in second)
    np.testing.assert_array_equal(array.transpose(first).transpose(second), array.transpose(together))


@given(shapes, st.integers(1, 2), st.floats(0, 1), seeds)
def test_what_is_cropped_away_is_zero_and_the_box_puts_the_rest_back(
    shape: tuple[int, ...], channels: int, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.random((channels, *shape)) * (rng.random((channels, *shape)) < density**3)).astype(np.float32)
    cropped, seg, box = crop_to_nonzero(image)
    whole = np.zeros_like(image)
    whole[(slice(None), *box_slices(box))] = cropped
    np.testing.assert_array_equal(whole, image)
    np.testing.assert_array_equal(seg[0] == 0, binary_fill_holes((image != 0).any(axis=0))[box_slices(box)])
    again, _, same = crop_to_nonzero(cropped)
    np.testing.assert_array_equal(again, cropped)
    assert same == [[0, size] for size in cropped.shape[1:]]


@given(shapes, orders, seeds)
@examples(50)
def test_a_perfect_prediction_leads_back_to_the_label_map(
    shape: tuple[int, ...], order: tuple[int, ...], seed: int
) -> None:
    """Transposed, cropped, and both undone; nothing is resampled, so nothing may change."""
    raw = json.loads(GOLDEN.read_text())
    raw["transpose_forward"], raw["transpose_backward"] = list(order), [order.index(axis) for axis in range(3)]
    raw["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.0, 1.0]
    plan = Plan.from_json(raw)
    task = task_of(plan, "3d_fullres", LABELS)
    label_map = labels_of(shape, seed)
    margin = [(1, 2), (0, 3), (2, 0)]
    image, wanted = (np.pad(part, margin) for part in (np.ones(shape, np.float32), label_map))
    case = preprocess_case(image_of(image), image_of(wanted), task=task, where="a")
    assert case.data.shape[1:] == tuple(shape[axis] for axis in order)
    logits = np.stack([case.seg[0] == value for value in range(3)]).astype(np.float32)
    result = logits_to_label_map(logits, properties=case.properties, task=task)
    np.testing.assert_array_equal(result, wanted)


def image_of(array: Any) -> Image:
    spacing = (1.0, 1.0, 1.0)
    return Image(np.asarray(array, np.float32)[np.newaxis], Geometry(spacing), {"spacing": list(spacing)})


def oriented(array: Any, spacing: tuple[float, ...], code: str, path: Path) -> sitk.Image:
    """Write an array (z, y, x) as a file whose axes run to the sides named in `code`, x first."""
    image = sitk.GetImageFromArray(array)
    direction = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code)
    image.SetDirection(direction)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((-12.5, 30.25, 7.75))
    sitk.WriteImage(image, str(path))
    return image


@pytest.mark.parametrize("name", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
@given(code=st.sampled_from(ORIENTATIONS), shape=shapes, seed=seeds)
@examples(25)
def test_labels_are_written_where_they_were_read_in_every_orientation(
    tmp_path_factory: pytest.TempPathFactory, name: str, code: str, shape: tuple[int, ...], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("oriented")
    array = labels_of(shape, seed)
    source = oriented(array, (2.5, 0.75, 1.25), code, folder / "source.nii")
    reader = reader_named(name)
    read = reader.read_labels(folder / "source.nii")
    reader.write_labels(read.array[0].astype(np.uint8), folder / "written.nii", read.properties)
    written = sitk.ReadImage(str(folder / "written.nii"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), array)
    for get in (sitk.Image.GetOrigin, sitk.Image.GetSpacing, sitk.Image.GetDirection):
        np.testing.assert_allclose(get(written), get(source), atol=1e-6)


@pytest.mark.parametrize("name", ["SimpleITKIOWithReorient", "NibabelIOWithReorient"])
@given(code=st.sampled_from(ORIENTATIONS), shape=shapes, seed=seeds)
@examples(25)
def test_a_reorienting_reader_gives_the_same_whatever_the_orientation_on_disk(
    tmp_path_factory: pytest.TempPathFactory, name: str, code: str, shape: tuple[int, ...], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("oriented")
    array = labels_of(shape, seed)
    source = oriented(array, (2.5, 0.75, 1.25), "RAS", folder / "ras.nii")
    sitk.WriteImage(sitk.DICOMOrient(source, code), str(folder / "other.nii"))
    plain, other = (reader_named(name).read_labels(folder / file) for file in ("ras.nii", "other.nii"))
    np.testing.assert_array_equal(plain.array[0], array)  # a file that lies in RAS is left as it is
    np.testing.assert_array_equal(other.array, plain.array)
    assert other.properties["spacing"] == pytest.approx(plain.properties["spacing"])
