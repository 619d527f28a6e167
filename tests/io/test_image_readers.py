"""What each reader makes of a file, in nnU-Net's terms; the expected values are written out by hand."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from imageio import v3 as imageio

from segwright.errors import GeometryError, ImageError, MissingFileError
from segwright.io import reader_named

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
ROTATION = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def write_itk(
    path: Path,
    array: np.ndarray = VOXELS,
    spacing: tuple[float, ...] = (0.5, 0.75, 3.0),
    origin: tuple[float, ...] = (1.0, 2.0, 3.0),
    direction: tuple[float, ...] | None = None,
) -> Path:
    image = SimpleITK.GetImageFromArray(array, isVector=False)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_itk_gives_channel_first_float32_and_spacing_in_array_order(tmp_path: Path, ending: str) -> None:
    path = write_itk(tmp_path / f"a_0000{ending}", direction=ROTATION)
    image = reader_named("SimpleITKIO").read_image([path])
    assert image.array.dtype == np.float32
    assert image.array.flags.c_contiguous
    np.testing.assert_array_equal(image.array, VOXELS[None].astype(np.float32))
    assert image.properties["spacing"] == [3.0, 0.75, 0.5]
    assert image.geometry.spacing_mm == (3.0, 0.75, 0.5)
    assert [key for key in image.properties if key != "segwright"] == ["sitk_stuff", "spacing"]
    assert image.properties["sitk_stuff"]["spacing"] == (0.5, 0.75, 3.0)
    assert image.properties["sitk_stuff"]["origin"] == (1.0, 2.0, 3.0)
    np.testing.assert_allclose(image.properties["sitk_stuff"]["direction"], ROTATION, atol=1e-7)
    assert image.warnings == ()


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_itk_reads_voxels_that_a_header_names_beside_itself(tmp_path: Path, ending: str) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = tmp_path / f"image{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    header = path.read_text()
    assert "image.raw" in header
    path.write_text(header.replace("image.raw", "./image.raw"))
    image = reader_named("SimpleITKIO").read_image([path])
    np.testing.assert_array_equal(image.array[0], array)
    path.write_text(header.replace("image.raw", f"../{tmp_path.name}/image.raw"))
    with pytest.raises(ImageError, match=f"image{ending}"):
        reader_named("SimpleITKIO").read_image([path])


def test_itk_reads_2d_as_one_slice_999_times_as_thick_as_its_largest_pixel_side(tmp_path: Path) -> None:
    path = write_itk(tmp_path / "a_0000.mha", VOXELS[0], spacing=(0.5, 0.75), origin=(1.0, 2.0))
    image = reader_named("SimpleITKIO").read_image([path])
    assert image.array.shape == (1, 1, 3, 4)
    assert image.properties["spacing"] == [0.75 * 999, 0.75, 0.5]


def test_itk_reads_the_fourth_dimension_as_channels(tmp_path: Path) -> None:
    volumes = np.stack([VOXELS, VOXELS + 100])
    path = write_itk(tmp_path / "a_0000.nii.gz", volumes, spacing=(0.5, 0.75, 3.0, 2.0), origin=(1.0, 2.0, 3.0, 0.0))
    image = reader_named("SimpleITKIO").read_image([path])
    np.testing.assert_array_equal(image.array, volumes.astype(np.float32))
    assert image.properties["spacing"] == [3.0, 0.75, 0.5]
    assert len(image.geometry.origin_mm) == 3


def test_a_label_map_for_a_4d_image_is_written_in_3d(tmp_path: Path) -> None:
    volumes = np.stack([VOXELS, VOXELS])
    path = write_itk(tmp_path / "a_0000.nii.gz", volumes, spacing=(0.5, 0.75, 3.0, 2.0), origin=(1.0, 2.0, 3.0, 0.0))
    reader = reader_named("SimpleITKIO")
    image = reader.read_image([path])
    reader.write_labels(VOXELS, tmp_path / "out.nii.gz", image.properties)
    written = reader.read_labels(tmp_path / "out.nii.gz")
    assert written.geometry == image.geometry
    np.testing.assert_array_equal(written.array[0], VOXELS)


def test_itk_reorient_brings_axes_to_ras_and_writes_them_back(tmp_path: Path) -> None:
    flipped_x = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    path = write_itk(tmp_path / "a_0000.nii.gz", direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    reader = reader_named("SimpleITKIOWithReorient")
    image = reader.read_image([path])
    # Identity is LPS in ITK's frame, so RAS turns x and y around.
    np.testing.assert_array_equal(image.array[0], VOXELS[:, ::-1, ::-1].astype(np.float32))
    assert image.properties["sitk_stuff"]["original_orientation"] == "LPS"
    assert image.properties["sitk_stuff"]["direction"] == flipped_x
    reader.write_labels(image.array[0].astype(np.int16), tmp_path / "out.nii.gz", image.properties)
    written, original = (reader_named("SimpleITKIO").read_labels(each) for each in (tmp_path / "out.nii.gz", path))
    np.testing.assert_array_equal(written.array, original.array)
    assert written.geometry == original.geometry


def test_itk_refuses_colours_in_a_volume(tmp_path: Path) -> None:
    colours = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(tmp_path / "a_0000.nrrd"))
    with pytest.raises(ImageError, match=r"a_0000\.nrrd.*vector"):
        reader_named("SimpleITKIO").read_image([tmp_path / "a_0000.nrrd"])


def test_integers_scaled_by_the_header_are_read_whole(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS.transpose(2, 1, 0), affine=np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / "a_0000.nii.gz")
    expected = nibabel.load(tmp_path / "a_0000.nii.gz").get_fdata().transpose(2, 1, 0)
    for name in ("SimpleITKIO", "NibabelIO"):
        np.testing.assert_array_equal(reader_named(name).read_image([tmp_path / "a_0000.nii.gz"]).array[0], expected)


def write_nifti(path: Path, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(4, 3, 2), affine=affine), path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nibabel_transposes_to_zyx(tmp_path: Path, ending: str) -> None:
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    affine[:3, 3] = 5, 6, 7
    path = write_nifti(tmp_path / f"a_0000{ending}", affine)
    image = reader_named("NibabelIO").read_image([path])
    np.testing.assert_array_equal(image.array[0], np.arange(24, dtype=np.float32).reshape(4, 3, 2).transpose(2, 1, 0))
    assert image.array.flags.c_contiguous
    assert image.properties["spacing"] == [3.0, 0.75, 0.5]
    np.testing.assert_array_equal(image.properties["nibabel_stuff"]["original_affine"], affine)
    assert image.geometry.origin_mm == (5.0, 6.0, 7.0)
    assert image.geometry.direction == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def test_nibabel_reorient_brings_axes_to_ras_and_writes_them_back(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0, -3.0, 4], [-0.5, 0, 0, 5], [0, 0.75, 0, 6], [0, 0, 0, 1]])
    path = write_nifti(tmp_path / "a_0000.nii.gz", affine)
    reader = reader_named("NibabelIOWithReorient")
    image = reader.read_image([path])
    assert list(image.properties["nibabel_stuff"]) == ["original_affine", "reoriented_affine"]
    ras = image.properties["nibabel_stuff"]["reoriented_affine"]
    assert nibabel.aff2axcodes(ras) == ("R", "A", "S")
    assert image.properties["spacing"] == [0.75, 0.5, 3.0]
    voxels = np.arange(24).reshape(4, 3, 2)
    # File axes are (P, S, L): S, A, R from them is axis 1, axis 0 turned around, axis 2 turned around.
    np.testing.assert_array_equal(image.array[0], voxels.transpose(1, 0, 2)[:, ::-1, ::-1])
    reader.write_labels(image.array[0], tmp_path / "out.nii.gz", image.properties)
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), voxels)
    np.testing.assert_array_equal(written.affine, affine)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_colour_picture_is_three_channels_of_one_slice(tmp_path: Path, ending: str) -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    path = tmp_path / f"a_0000{ending}"
    if ending == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        imageio.imwrite(path, pixels)
    image = reader_named("NaturalImage2DIO").read_image([path])
    np.testing.assert_array_equal(image.array, pixels.transpose(2, 0, 1)[:, None].astype(np.float32))
    assert image.properties == {"spacing": [999, 1, 1]}


def test_a_tiff_with_colour_planes_first_is_read_as_scikit_image_does(tmp_path: Path) -> None:
    from skimage import io as skimage_io

    planes = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
    tifffile.imwrite(tmp_path / "a_0000.tif", planes, photometric="rgb", planarconfig="separate")
    image = reader_named("NaturalImage2DIO").read_image([tmp_path / "a_0000.tif"])
    reference = skimage_io.imread(tmp_path / "a_0000.tif")
    np.testing.assert_array_equal(image.array, reference.transpose(2, 0, 1)[:, None])


def test_16_bit_grey_pictures_keep_their_values(tmp_path: Path) -> None:
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    imageio.imwrite(tmp_path / "a_0000.png", pixels)
    image = reader_named("NaturalImage2DIO").read_image([tmp_path / "a_0000.png"])
    np.testing.assert_array_equal(image.array[0, 0], pixels)


def test_a_coloured_label_picture_is_refused(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "a.png", np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(ImageError, match=r"a\.png.* 3 channels"):
        reader_named("NaturalImage2DIO").read_labels(tmp_path / "a.png")


def test_tiff_stacks_take_their_spacing_from_the_json_beside_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a_0000.tif", VOXELS, photometric="minisblack")
    tifffile.imwrite(tmp_path / "a_0001.tif", VOXELS + 1, photometric="minisblack")
    reader = reader_named("Tiff3DIO")
    paths = [tmp_path / "a_0000.tif", tmp_path / "a_0001.tif"]
    assert reader.read_image(paths).properties == {"spacing": [1, 1, 1]}
    (tmp_path / "a.json").write_text('{"spacing": [3, 0.75, 0.5]}')
    image = reader.read_image(paths)
    assert image.properties == {"spacing": [3, 0.75, 0.5]}
    assert image.geometry.spacing_mm == (3.0, 0.75, 0.5)
    np.testing.assert_array_equal(image.array, np.stack([VOXELS, VOXELS + 1]).astype(np.float32))


@pytest.mark.parametrize("content", ['{"spacing": [1, 2]}', '{"spacing": "1"}', "[]", '{"spacing": [1, 2, true]}'])
def test_a_malformed_spacing_file_is_named(tmp_path: Path, content: str) -> None:
    tifffile.imwrite(tmp_path / "a_0000.tif", VOXELS, photometric="minisblack")
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ImageError, match=r"a\.json, key 'spacing'"):
        reader_named("Tiff3DIO").read_image([tmp_path / "a_0000.tif"])


def test_channels_of_different_shape_are_refused_with_both_shapes(tmp_path: Path) -> None:
    first, second = write_itk(tmp_path / "a_0000.mha"), write_itk(tmp_path / "a_0001.mha", VOXELS[:, :2])
    with pytest.raises(GeometryError, match=r"a_0001\.mha.*a_0000\.mha, \(2, 3, 4\).*\(2, 2, 4\)"):
        reader_named("SimpleITKIO").read_image([first, second])


def test_channels_of_different_spacing_are_refused_with_both_spacings(tmp_path: Path) -> None:
    first = write_itk(tmp_path / "a_0000.mha")
    second = write_itk(tmp_path / "a_0001.mha", spacing=(0.5, 0.75, 2.0))
    with pytest.raises(GeometryError, match=r"\(3\.0, 0\.75, 0\.5\).*\(2\.0, 0\.75, 0\.5\)"):
        reader_named("SimpleITKIO").read_image([first, second])


def test_channels_that_lie_elsewhere_are_a_warning(tmp_path: Path) -> None:
    first = write_itk(tmp_path / "a_0000.mha")
    second = write_itk(tmp_path / "a_0001.mha", origin=(1.0, 2.0, 4.0))
    image = reader_named("SimpleITKIO").read_image([first, second])
    assert image.properties["sitk_stuff"]["origin"] == (1.0, 2.0, 3.0)
    (warning,) = image.warnings
    assert all(part in warning for part in ("a_0001.mha", "a_0000.mha", "(1, 2, 4)"))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    reader = reader_named("SimpleITKIO")
    with pytest.raises(MissingFileError, match=r"a_0000\.mha"):
        reader.read_image([tmp_path / "a_0000.mha"])
    (tmp_path / "b_0000.mha").mkdir()
    with pytest.raises(ImageError, match=r"b_0000\.mha"):
        reader.read_image([tmp_path / "b_0000.mha"])
    (tmp_path / "c_0000.mha").symlink_to(tmp_path / "gone.mha")
    with pytest.raises(MissingFileError, match=r"c_0000\.mha"):
        reader.read_image([tmp_path / "c_0000.mha"])
