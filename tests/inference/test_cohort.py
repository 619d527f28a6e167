from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from model_folders import write_image, write_model
from segwright.dataset import Case, find_cases, read_case_image
from segwright.errors import DatasetError, MissingFileError
from segwright.inference import Predictor, predict_cases, predict_folder
from segwright.io import Image


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.from_folder(write_model(tmp_path_factory.mktemp("models") / "model"), mirroring=False)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b", "c")):
        write_image(tmp_path / "images" / f"{name}_0000.nii.gz", seed=number)
    return tmp_path / "images"


def test_every_case_is_predicted_on_its_grid(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    result = predict_folder(predictor, images, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert result.done == ("a", "b", "c")
    assert (result.skipped, result.failures) == ((), ())
    assert calls[0] == ("predict", 0, 3)
    assert calls[-1] == ("predict", 3, 3)
    written = SimpleITK.ReadImage(str(tmp_path / "out" / "a.nii.gz"))
    source = SimpleITK.ReadImage(str(images / "a_0000.nii.gz"))
    assert written.GetPixelID() == SimpleITK.sitkUInt8
    for property_name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, property_name)(), getattr(source, property_name)())


def test_the_header_of_a_prediction_has_the_geometry_of_its_image_to_the_bit(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    for name, codes, units in (("a", (1, 4), 2), ("b", (2, 1), 10), ("c", (0, 2), 3)):
        image = nibabel.load(images / f"{name}_0000.nii.gz")
        image.set_sform(image.affine + np.eye(4)[[3]] * 0.1, codes[1])
        image.header["pixdim"][1:4] *= np.float32(1.1 * (1000 if units == 3 else 1))
        image.header["qform_code"], image.header["xyzt_units"] = codes[0], units
        image.header["dim_info"] = 57
        image.to_filename(images / f"{name}_0000.nii.gz")
    assert predict_folder(predictor, images, tmp_path / "out").failures == ()
    for name in "abc":
        source = gzip.decompress((images / f"{name}_0000.nii.gz").read_bytes())
        written = gzip.decompress((tmp_path / "out" / f"{name}.nii.gz").read_bytes())
        for first, end in ((39, 48), (76, 108), (123, 124), (252, 328)):  # sizes, pixdim, units, qform and sform
            assert written[first:end] == source[first:end]


def test_nnunets_files_lie_beside_the_predictions(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_folder(predictor, images, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()} - {"a.nii.gz", "b.nii.gz", "c.nii.gz"}
    assert names == {".segwright", "dataset.json", "plans.json", "predict_from_raw_data_args.json"}
    assert json.loads((tmp_path / "out" / "plans.json").read_text()) == predictor.plan.raw
    arguments = json.loads((tmp_path / "out" / "predict_from_raw_data_args.json").read_text())
    assert arguments["list_of_lists_or_source_folder"] == str(images)


def test_what_is_done_is_skipped_unless_overwritten(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_folder(predictor, images, out)
    (out / "b.nii.gz").unlink()
    before = (out / "a.nii.gz").stat().st_mtime_ns
    result = predict_folder(predictor, images, out)
    assert (result.done, result.skipped) == (("b",), ("a", "c"))
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    assert predict_folder(predictor, images, out, overwrite=True).done == ("a", "b", "c")
    assert (out / "a.nii.gz").stat().st_mtime_ns > before


@pytest.mark.parametrize("overlap", [False, True])
def test_a_bad_case_stops_no_other(predictor: Predictor, images: Path, tmp_path: Path, overlap: bool) -> None:
    (images / "b_0000.nii.gz").write_bytes((images / "b_0000.nii.gz").read_bytes()[:200])
    result = predict_cases(predictor, find_cases(images, ".nii.gz", 1), tmp_path / "out", overlap=overlap)
    assert result.done == ("a", "c")
    assert [failure.case_id for failure in result.failures] == ["b"]
    assert result.failures[0].expected
    assert "b_0000.nii.gz" in result.failures[0].message
    assert not (tmp_path / "out" / "b.nii.gz").exists()


def test_overlapping_changes_no_result(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    cases = find_cases(images, ".nii.gz", 1)
    for overlap in (False, True):
        predict_cases(predictor, cases, tmp_path / str(overlap), overlap=overlap)
    for case in cases:
        one, other = (
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / folder / f"{case.case_id}.nii.gz")))
            for folder in ("False", "True")
        )
        assert np.array_equal(one, other)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_label_map_that_cannot_be_written_is_a_failure(
    predictor: Predictor, images: Path, tmp_path: Path, overlap: bool
) -> None:
    (tmp_path / "out" / "c.nii.gz").mkdir(parents=True)
    result = predict_cases(predictor, find_cases(images, ".nii.gz", 1), tmp_path / "out", overlap=overlap)
    assert result.done == ("a", "b")
    assert [failure.case_id for failure in result.failures] == ["c"]


def test_an_image_with_nan_is_a_failure_that_names_the_case(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(reader: Any, case: Case, num_channels: int) -> Image:
        image = read_case_image(reader, case, num_channels)
        if case.case_id == "b":
            image.array[0, 1, 2, 3] = np.nan
        return image

    monkeypatch.setattr("segwright.inference.cohort.read_case_image", read)  # SimpleITK reads NaN in NIfTI as 0
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.done == ("a", "c")
    assert "case b" in result.failures[0].message


def test_an_incomplete_case_is_a_failure_and_the_rest_goes_on(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    write_image(images / "d_0001.nii.gz")
    (images / "strange.nii.gz").write_bytes(b"")
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.done == ("a", "b", "c")
    assert sorted(failure.case_id for failure in result.failures) == ["d", "images/strange.nii.gz"]


def test_a_folder_without_a_usable_image_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"\.nii\.gz"):
        predict_folder(predictor, tmp_path / "empty", tmp_path / "out")
    write_image(tmp_path / "wrong" / "a_0003.nii.gz")
    with pytest.raises(DatasetError, match="case a"):
        predict_folder(predictor, tmp_path / "wrong", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_within_a_case_counts_tiles(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    calls: list[Any] = []
    predict_folder(predictor, images, tmp_path / "out", tile_progress=lambda *call: calls.append(call))
    totals = [call for call in calls if call[1] == call[2]]
    assert len(totals) == 3


def test_outputs_that_would_have_one_name_are_refused_before_anything_is_written(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("case", "Case", "x", "X_seg")):
        write_image(tmp_path / "images" / f"{name}_0000.nii.gz", seed=number)
    if len(list((tmp_path / "images").iterdir())) < 4:
        pytest.skip("needs a disk that takes upper and lower case for two")
    monkeypatch.setattr("segwright.dataset.case_ids.ignores_case", lambda folder: True)
    with pytest.raises(DatasetError, match="Case"):
        predict_folder(predictor, tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "images" / "Case_0000.nii.gz").unlink()
    assert predict_folder(predictor, tmp_path / "images", tmp_path / "out").done == ("X_seg", "case", "x")
