from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segwright import fingerprint as module
from segwright.cropping import crop_to_nonzero
from segwright.dataset import RawDataset
from segwright.doctor.check import check
from segwright.errors import CasesFailedError, DatasetError, MissingFileError, PlanError
from segwright.fingerprint import Fingerprint, case_measure, combine_measurements, fingerprint_dataset

GOLDEN = sorted((Path(__file__).parent / "golden" / "plans").glob("*__dataset_fingerprint.json"))
VALUE: dict[str, Any] = json.loads(GOLDEN[0].read_text())


def write_volume(array: Any, path: Path, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(path))


def make_dataset(folder: Path, cases: dict[str, tuple[NDArray[Any], NDArray[Any]]]) -> RawDataset:
    channels = next(iter(cases.values()))[0].shape[0]
    for number, (case_id, (image, labels)) in enumerate(cases.items()):
        spacing = (2.0, 1.0, 1.0 + number)
        for channel, array in enumerate(image):
            write_volume(array, folder / "imagesTr" / f"{case_id}_{channel:04d}.mha", spacing)
        write_volume(labels, folder / "labelsTr" / f"{case_id}.mha", spacing)
    description = {
        "channel_names": {str(channel): "T1" for channel in range(channels)},
        "labels": {"background": 0, "organ": 1, "tumour": 2},
        "numTraining": len(cases),
        "file_ending": ".mha",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return RawDataset.open(folder)


def random_cases(count: int, *, channels: int = 2) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    rng = np.random.default_rng(0)
    cases = {}
    for number in range(count):
        shape = (8 + number, 9, 10)
        image = rng.normal(100, 30, (channels, *shape)).astype(np.float32)
        image[:, :2] = 0
        cases[f"case_{number}"] = (image, rng.integers(0, 3, shape).astype(np.uint8))
    return cases


def slow_intensities(cases: dict[str, tuple[NDArray[Any], NDArray[Any]]], samples: int) -> dict[str, dict[str, float]]:
    """nnU-Net's own way: draw, concatenate, take numpy's statistics."""
    drawn: list[list[NDArray[Any]]] = []
    for image, labels in cases.values():
        cropped, seg, _ = crop_to_nonzero(image, labels[np.newaxis])
        rng = np.random.RandomState(1234)
        foreground = [channel[seg[0] > 0] for channel in cropped]
        drawn.append(
            [rng.choice(values, samples, replace=True) if len(values) else np.zeros(0) for values in foreground]
        )
    result = {}
    for channel in range(len(drawn[0])):
        values = np.concatenate([case[channel] for case in drawn]).astype(np.float64)
        low, median, high = np.percentile(values, (0.5, 50, 99.5))
        result[str(channel)] = {
            "max": values.max(),
            "mean": values.mean(),
            "median": median,
            "min": values.min(),
            "percentile_00_5": low,
            "percentile_99_5": high,
            "std": values.std(),
        }
    return result


@pytest.mark.parametrize("workers", [1, 2])
def test_measurements_equal_the_slow_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(module, "_TOTAL_SAMPLES", 9000.0)
    cases = random_cases(4)
    cases["case_9"] = (cases["case_0"][0], np.zeros((8, 9, 10), np.uint8))  # nothing to draw from
    result = fingerprint_dataset(make_dataset(tmp_path, cases), workers=workers)
    assert result.shapes_after_crop == tuple((6 + number, 9, 10) for number in (0, 1, 2, 3, 0))
    assert result.spacings_mm == tuple((2.0, 1.0, 1.0 + number) for number in range(5))
    sizes = [np.prod((6 + number, 9, 10)) / np.prod((8 + number, 9, 10)) for number in (0, 1, 2, 3, 0)]
    assert result.median_relative_size_after_cropping == np.median(sizes)
    expected = slow_intensities(cases, 1800)
    for channel, properties in result.foreground_intensity_properties_per_channel.items():
        assert properties == pytest.approx(expected[channel], rel=1e-12)
        for key in ("max", "min", "median"):
            assert properties[key] == expected[channel][key]


def test_cases_are_measured_while_they_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOTAL_SAMPLES", 9000.0)
    dataset = make_dataset(tmp_path, random_cases(4))
    report = check(tmp_path, measure=case_measure(dataset), workers=2)
    assert combine_measurements(report.measurements, dataset) == fingerprint_dataset(dataset)


def test_a_case_with_an_error_is_not_measured(tmp_path: Path) -> None:
    cases = random_cases(3)
    cases["case_1"][0][0, 3, 3, 3] = np.nan
    dataset = make_dataset(tmp_path, cases)
    assert set(check(tmp_path, measure=case_measure(dataset)).measurements) == {"case_0", "case_2"}
    assert check(tmp_path).measurements == {}


@pytest.mark.parametrize("num_values", [0, 1, 2, 3, 255, 256, 257, 5000])
@pytest.mark.parametrize("max_kept", [0, 1 << 10, 1 << 23])
def test_what_is_drawn_is_what_numpy_draws(monkeypatch: pytest.MonkeyPatch, num_values: int, max_kept: int) -> None:
    monkeypatch.setattr(module, "_MAX_KEPT", max_kept)
    monkeypatch.setattr(module, "_MAX_DRAWN_AT_ONCE", 3000)
    drawn = list(module._times_drawn(num_values, 10_000, 3))
    rng = np.random.RandomState(1234)
    assert len(drawn) == 3
    for times in drawn:
        expected = rng.choice(num_values, 10_000, replace=True) if num_values else np.zeros(0, int)
        np.testing.assert_array_equal(times, np.bincount(expected, minlength=num_values))


@pytest.mark.parametrize("number", [1, 2, 3, 10, 1001])
def test_quantiles_are_numpys(number: int) -> None:
    rng = np.random.default_rng(number)
    values, counts = rng.normal(size=number).astype(np.float32), rng.integers(1, 5, number)
    samples = module._count(values, counts)
    repeated = np.repeat(values, counts)
    for fraction in (0, 0.005, 0.3, 0.5, 0.995, 1):
        expected = np.percentile(repeated.astype(np.float64), 100 * fraction)
        assert module._quantile(samples, fraction) == pytest.approx(expected, rel=1e-12)


def test_every_case_that_fails_is_named(tmp_path: Path) -> None:
    cases = random_cases(4, channels=1)
    cases["case_1"][0][0, 3, 3, 3] = np.nan
    dataset = make_dataset(tmp_path, cases)
    (tmp_path / "labelsTr" / "case_2.mha").write_bytes(b"no image")
    seen: list[tuple[str, int, int]] = []
    with pytest.raises(CasesFailedError, match="2 of 4 ") as caught:
        fingerprint_dataset(dataset, progress=lambda *at: seen.append(at))
    assert set(caught.value.failures) == {"case_1", "case_2"}
    assert "case_1" in str(caught.value)
    assert "case_2" in str(caught.value)
    assert seen[-1] == ("measuring cases", 4, 4)


def test_label_maps_of_another_shape_are_refused(tmp_path: Path) -> None:
    cases = random_cases(2, channels=1)
    cases["case_1"] = (cases["case_1"][0], np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(CasesFailedError) as caught:
        fingerprint_dataset(make_dataset(tmp_path, cases))
    assert list(caught.value.failures) == ["case_1"]
    assert "(3, 3, 3)" in caught.value.failures["case_1"]


def test_label_maps_that_hold_no_numbers_are_refused(tmp_path: Path) -> None:
    cases = {case_id: (image, labels.astype(np.float32)) for case_id, (image, labels) in random_cases(1).items()}
    cases["case_0"][1][4, 4, :2] = np.nan
    with pytest.raises(CasesFailedError, match=r"case_0, label map: .*channel 0.* 2 of 720 "):
        fingerprint_dataset(make_dataset(tmp_path, cases))


def test_a_data_set_without_foreground_is_refused(tmp_path: Path) -> None:
    cases = {case_id: (image, 0 * labels) for case_id, (image, labels) in random_cases(2).items()}
    with pytest.raises(DatasetError, match="label"):
        fingerprint_dataset(make_dataset(tmp_path, cases))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name[:10])
def test_nnunets_files_are_read_and_written(path: Path, tmp_path: Path) -> None:
    fingerprint = Fingerprint.read(path)
    fingerprint.write(tmp_path / "again.json")
    assert Fingerprint.read(tmp_path / "again.json") == fingerprint
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())


def test_keys_are_in_nnunets_order() -> None:
    value = Fingerprint.from_json(VALUE).to_json()
    assert list(value) == sorted(value)
    for properties in value["foreground_intensity_properties_per_channel"].values():
        assert list(properties) == sorted(properties)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spacings": None}, "key 'spacings'"),
        ({"spacings": [[1, 1]]}, r"spacings.*\[1, 1\]"),
        ({"spacings": [[1, 1, 0]]}, r"spacings.*\[1, 1, 0\]"),
        ({"spacings": [[1, 1, 1]], "shapes_after_crop": [[1, 1, 1.5]]}, r"shapes_after_crop.*1\.5"),
        ({"spacings": [[1, 1, 1]], "shapes_after_crop": [[1, 1, 1], [2, 2, 2]]}, r"shapes_after_crop.* 1 .* 2\b"),
        ({"foreground_intensity_properties_per_channel": {}}, "foreground_intensity_properties_per_channel"),
        ({"foreground_intensity_properties_per_channel": {"0": {"max": 1}}}, "'mean'"),
        ({"foreground_intensity_properties_per_channel": {"0": 3}}, r"channel\.0"),
        ({"median_relative_size_after_cropping": 0}, "median_relative_size_after_cropping"),
        ({"median_relative_size_after_cropping": "1"}, "median_relative_size_after_cropping"),
    ],
)
def test_wrong_files_are_refused_by_key(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        Fingerprint.from_json({**VALUE, **changes})


def test_files_that_are_missing_or_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        Fingerprint.read(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"spacings": [')
    with pytest.raises(PlanError, match=r"torn\.json, line 1\b"):
        Fingerprint.read(tmp_path / "torn.json")
    with pytest.raises(PlanError, match=r"list|\[\]"):
        Fingerprint.from_json([])


def test_measuring_needs_no_torch() -> None:
    code = "import sys, segwright.fingerprint; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
