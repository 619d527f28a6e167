from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from segwright.errors import ImageError
from segwright.io import reader_named

ITK_PROPERTIES: dict[str, Any] = {
    "sitk_stuff": {
        "spacing": (0.1, 0.3, 2.7182818284590451),
        "origin": (-101.30000000000001, 1e-7, 33.333333333333336),
        "direction": (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    },
    "spacing": [2.7182818284590451, 0.3, 0.1],
}
FORMATS = [
    ("SimpleITKIO", ".nii.gz", ITK_PROPERTIES),
    ("SimpleITKIO", ".nrrd", ITK_PROPERTIES),
    ("SimpleITKIO", ".mha", ITK_PROPERTIES),
    ("SimpleITKIO", ".gipl", ITK_PROPERTIES),
    ("NibabelIO", ".nii.gz", {"nibabel_stuff": {"original_affine": np.diag([1, 2, 3, 1.0])}, "spacing": [3, 2, 1]}),
    ("NibabelIO", ".nii", {"nibabel_stuff": {"original_affine": np.diag([1, 2, 3, 1.0])}, "spacing": [3, 2, 1]}),
    ("Tiff3DIO", ".tif", {"spacing": [3, 0.5, 0.5]}),
    ("Tiff3DIO", ".tiff", {"spacing": [3, 0.5, 0.5]}),
    ("NaturalImage2DIO", ".png", {"spacing": [999, 1, 1]}),
    ("NaturalImage2DIO", ".tif", {"spacing": [999, 1, 1]}),
    ("NaturalImage2DIO", ".bmp", {"spacing": [999, 1, 1]}),
]


@pytest.mark.parametrize(("name", "ending", "properties"), FORMATS)
@pytest.mark.parametrize("highest", [2, 254, 300])
def test_labels_come_back_as_they_were_written(
    tmp_path: Path, name: str, ending: str, properties: dict[str, Any], highest: int
) -> None:
    if (ending, highest) == (".bmp", 300):
        pytest.skip("BMP holds no 16-bit grey values")
    depth = 1 if name == "NaturalImage2DIO" else 4
    label_map = np.random.default_rng(0).integers(0, highest + 1, (depth, 5, 6))
    label_map.flat[0] = highest
    reader, path = reader_named(name), tmp_path / f"case{ending}"
    reader.write_labels(label_map, path, properties)
    np.testing.assert_array_equal(reader.read_labels(path).array[0], label_map)


@pytest.mark.parametrize(("highest", "kind"), [(254, np.uint8), (255, np.uint16), (65535, np.uint16)])
def test_the_smallest_type_that_nnunet_would_take_is_written(tmp_path: Path, highest: int, kind: type) -> None:
    label_map = np.full((1, 2, 3), highest, dtype=np.int64)
    reader_named("Tiff3DIO").write_labels(label_map, tmp_path / "a.tif", {"spacing": [1, 1, 1]})
    assert tifffile.imread(tmp_path / "a.tif").dtype == kind


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_geometry_comes_back_to_the_bit(tmp_path: Path, ending: str) -> None:
    reader = reader_named("SimpleITKIO")
    reader.write_labels(np.zeros((4, 5, 6), np.uint8), tmp_path / f"a{ending}", ITK_PROPERTIES)
    read = reader.read_labels(tmp_path / f"a{ending}").properties
    assert {key: read[key] for key in ITK_PROPERTIES} == ITK_PROPERTIES


@examples(40)
@given(
    spacing=st.lists(st.floats(0.015625, 50, width=32), min_size=3, max_size=3),
    origin=st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
)
def test_geometry_of_a_nifti_on_the_axes_survives_reading_and_writing_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, spacing: list[float], origin: list[float], signs: tuple[float, ...]
) -> None:
    folder = tmp_path_factory.mktemp("geometry")
    image = SimpleITK.Image(3, 4, 5, SimpleITK.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.diag(signs).ravel().tolist())
    SimpleITK.WriteImage(image, str(folder / "a_0000.nii.gz"))
    reader = reader_named("SimpleITKIO")
    read = reader.read_image([folder / "a_0000.nii.gz"])
    reader.write_labels(read.array[0].astype(np.uint8), folder / "a.nii.gz", read.properties)
    assert reader.read_labels(folder / "a.nii.gz").properties == read.properties


def test_compressed_formats_are_compressed(tmp_path: Path) -> None:
    label_map = np.zeros((20, 50, 50), np.uint8)
    for ending in (".nii.gz", ".nrrd", ".mha"):
        reader_named("SimpleITKIO").write_labels(label_map, tmp_path / f"a{ending}", ITK_PROPERTIES)
        assert (tmp_path / f"a{ending}").stat().st_size < label_map.nbytes / 10
    reader_named("Tiff3DIO").write_labels(label_map, tmp_path / "a.tif", {"spacing": [1, 1, 1]})
    assert (tmp_path / "a.tif").stat().st_size < label_map.nbytes / 2


@pytest.mark.parametrize(
    ("label_map", "said"),
    [
        (np.full((1, 2, 2), -1), "int64.* -1 .* -1"),
        (np.full((1, 2, 2), 70000), "int64.* 70000 .* 70000"),
        (np.full((1, 2, 2), 0.5), r"float64.* 0\.5 .* 0\.5"),
        (np.full((1, 2, 2), np.nan), "float64.* nan .* nan"),
        (np.zeros((2, 2), np.uint8), r"\(z, y, x\).*\(2, 2\)"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, label_map: np.ndarray, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        reader_named("SimpleITKIO").write_labels(label_map, tmp_path / "a.nii.gz", ITK_PROPERTIES)
    assert list(tmp_path.iterdir()) == []


def test_another_readers_properties_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"SimpleITKIO.*'sitk_stuff'"):
        reader_named("SimpleITKIO").write_labels(np.zeros((1, 2, 2), np.uint8), tmp_path / "a.nii.gz", {"spacing": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_cannot_hold_the_values_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.bmp.*NaturalImage2DIO"):
        reader_named("NaturalImage2DIO").write_labels(np.full((1, 4, 4), 300), tmp_path / "a.bmp", {})
    assert list(tmp_path.iterdir()) == []


def test_a_stack_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.png.*z = 1"):
        reader_named("NaturalImage2DIO").write_labels(np.zeros((2, 4, 4), np.uint8), tmp_path / "a.png", {})


@pytest.mark.parametrize("ending", [".mhd", ".nhdr", ".hdr"])
def test_a_format_of_two_files_is_refused_before_half_of_it_is_lost(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    with pytest.raises(ImageError, match=rf"case\{ending}"):
        reader_named("SimpleITKIO").write_labels(np.zeros((2, 3, 4), np.uint8), path, ITK_PROPERTIES)
    assert list(tmp_path.iterdir()) == []
