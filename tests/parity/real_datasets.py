"""Raw data sets for the comparison: excerpts of ready ones, and some built from images as their makers publish them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import tifffile

from segwright.dataset import RawDataset

NUM_CASES = 3
Build = Callable[[Path, Path], None]
CORD = {"background": 0, "cord": 1}


@dataclass(frozen=True)
class Variant:
    """A data set, how it is built in a folder from the folder of all data, and how it is planned."""

    name: str
    build: Build
    planner: str = "ExperimentPlanner"
    arguments: Mapping[str, Any] = field(default_factory=dict)


def ready(name: str, **changes: Any) -> Build:
    """The first cases of a ready data set."""

    def build(data: Path, target: Path) -> None:
        source = RawDataset.open(data / name)
        for case in source.cases[:NUM_CASES]:
            assert case.label_path is not None
            for path in (*case.image_paths, case.label_path):
                place = target / path.parent.name / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
        describe(target, {**source.description.raw, **changes})

    return build


def listed(name: str) -> Build:
    """The first cases of a ready data set where they are, listed by path: one relative, one with a variable."""

    def build(data: Path, target: Path) -> None:
        source = RawDataset.open(data / name)
        target.mkdir(parents=True)

        def written(path: Path, number: int) -> str:
            if number == 0:
                return os.path.relpath(path, target)
            return str(path).replace(str(data), "${SEGWRIGHT_DATA}" if number == 1 else str(data), 1)

        cases = {}
        for number, case in enumerate(source.cases[:NUM_CASES]):
            assert case.label_path is not None
            images = [written(path, number) for path in case.image_paths]
            # a case that sorts after the others comes first, to see whose order counts
            cases[f"{9 - number}_{case.case_id}"] = {"images": images, "label": written(case.label_path, number)}
        raw = {**source.description.raw, "numTraining": len(cases), "dataset": cases}
        (target / "dataset.json").write_text(json.dumps(raw))

    return build


def spinal_cord(data: Path, target: Path) -> None:
    """Four contrasts in three orientations, slices of 1 to 17 mm."""
    folder = data / "other" / "sct_testing_data"
    for case_id, image, label in (
        ("t1", "t1/t1w", "t1/t1w_seg-manual"),
        ("t2", "t2/t2", "t2/t2_seg-manual"),
        ("t2s", "t2s/t2s", "t2s/t2s_seg"),
        ("mt1", "mt/mt1", "mt/mt1_seg"),
    ):
        copy(folder / f"{image}.nii.gz", target / "imagesTr" / f"{case_id}_0000.nii.gz")
        copy(folder / f"{label}.nii.gz", target / "labelsTr" / f"{case_id}.nii.gz")
    describe(target, {"channel_names": {"0": "MRI"}, "labels": CORD, "file_ending": ".nii.gz"})


def spinal_cord_read_by(reader: str) -> Build:
    def build(data: Path, target: Path) -> None:
        spinal_cord(data, target)
        raw = json.loads((target / "dataset.json").read_text())
        describe(target, {**raw, "overwrite_image_reader_writer": reader})

    return build


def registered_channels(labels: Mapping[str, Any], order: Sequence[int] | None = None, ignored: int = 0) -> Build:
    """Three registered contrasts with slices of 17 mm; cord 1, grey matter 2, and `ignored` slices labelled 3."""

    def build(data: Path, target: Path) -> None:
        folder = data / "other" / "sct_testing_data" / "mt"
        cord, grey = (read(folder / f"mt1_{name}.nii.gz") for name in ("seg", "gmseg_goldstandard"))
        label_map = sitk.GetArrayFromImage(cord).astype(np.uint8)
        label_map[sitk.GetArrayViewFromImage(grey) > 0] = 2
        label_map[:ignored] = 3
        for case_id, first in (("a", "mt0_reg_slicereg_goldstandard"), ("b", "mt0_reg_syn_goldstandard")):
            for number, name in enumerate((first, "mt1", "t1w")):
                copy(folder / f"{name}.nii.gz", target / "imagesTr" / f"{case_id}_{number:04d}.nii.gz")
            write_like(label_map, cord, target / "labelsTr" / f"{case_id}.nii.gz")
        raw = {"channel_names": {"0": "MT0", "1": "MT1", "2": "noNorm"}, "labels": dict(labels)}
        if order is not None:
            raw["regions_class_order"] = list(order)
        describe(target, {**raw, "file_ending": ".nii.gz"})

    return build


def one_file_of_channels(data: Path, target: Path) -> None:
    """Three registered contrasts in one file of four dimensions a case."""
    folder = data / "other" / "sct_testing_data" / "mt"
    joined = sitk.JoinSeries([sitk.Cast(read(folder / f"{name}.nii.gz"), sitk.sitkFloat32) for name in ("mt1", "t1w")])
    for case_id in ("a", "b"):
        (target / "imagesTr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(joined, str(target / "imagesTr" / f"{case_id}_0000.nii.gz"))
        copy(folder / "mt1_seg.nii.gz", target / "labelsTr" / f"{case_id}.nii.gz")
    describe(target, {"channel_names": {"0": "MT1", "1": "T1"}, "labels": CORD, "file_ending": ".nii.gz"})


def ct(data: Path, target: Path) -> None:
    """CT at 3 mm and one of 512 x 512 pixels from a DICOM series; up to 62 label values, made consecutive."""
    folder, series = data / "other" / "totalsegmentator_ct", data / "dicom" / "ct_series"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    cases = {
        "whole": (read(folder / "example_ct.nii.gz"), read(folder / "example_seg_fast_force_split.nii.gz")),
        "part": (read(folder / "example_ct_sm.nii.gz"), read(folder / "example_seg.nii.gz")),
        "series": (reader.Execute(), read(data / "dicom" / "ct_series_label.nii.gz")),
    }
    values = sorted(
        {int(value) for _, label in cases.values() for value in np.unique(sitk.GetArrayViewFromImage(label))}
    )
    for case_id, (image, label) in cases.items():
        label = sitk.Resample(label, image, sitk.Transform(), sitk.sitkNearestNeighbor)  # the series' map is mirrored
        consecutive = np.searchsorted(values, sitk.GetArrayViewFromImage(label)).astype(np.uint8)
        (target / "imagesTr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(target / "imagesTr" / f"{case_id}_0000.nii.gz"))
        write_like(consecutive, image, target / "labelsTr" / f"{case_id}.nii.gz")
    labels = {"background": 0, **{f"structure {value}": number for number, value in enumerate(values) if number}}
    describe(target, {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"})


def tiff_volume(data: Path, target: Path) -> None:
    """One 3D TIFF with its spacing in a file beside it, and a part of it without."""
    folder = data / "other" / "stardist_examples"
    image, label = tifffile.imread(folder / "img3d.tif"), tifffile.imread(folder / "mask3d.tif")
    for place in ("imagesTr", "labelsTr"):
        (target / place).mkdir(parents=True)
        (target / place / "spaced.json").write_text(json.dumps({"spacing": [2.0, 0.5, 0.5]}))
    for case_id, part in (("spaced", slice(None)), ("whole", slice(4, None))):
        tifffile.imwrite(target / "imagesTr" / f"{case_id}_0000.tif", image[part])
        tifffile.imwrite(target / "labelsTr" / f"{case_id}.tif", (label[part] > 0).astype(np.uint8))
    describe(
        target, {"channel_names": {"0": "light"}, "labels": {"background": 0, "nucleus": 1}, "file_ending": ".tif"}
    )


def tiff_picture(data: Path, target: Path) -> None:
    """One 16 bit grey picture in TIFF and its lower half."""
    folder = data / "other" / "stardist_examples"
    image, label = tifffile.imread(folder / "img2d.tif"), tifffile.imread(folder / "mask2d.tif")
    for place in ("imagesTr", "labelsTr"):
        (target / place).mkdir(parents=True)
    for case_id, part in (("all", slice(None)), ("half", slice(len(image) // 2, None))):
        tifffile.imwrite(target / "imagesTr" / f"{case_id}_0000.tif", image[part])
        tifffile.imwrite(target / "labelsTr" / f"{case_id}.tif", (label[part] > 0).astype(np.uint8))
    describe(
        target, {"channel_names": {"0": "light"}, "labels": {"background": 0, "nucleus": 1}, "file_ending": ".tif"}
    )


def nrrd(data: Path, target: Path) -> None:
    """Two brains with slices of 6.5 mm, in NRRD."""
    for number in (1, 2):
        source = data / "other" / "nrrd" / f"brain{number}"
        copy(Path(f"{source}_image.nrrd"), target / "imagesTr" / f"brain{number}_0000.nrrd")
        copy(Path(f"{source}_label.nrrd"), target / "labelsTr" / f"brain{number}.nrrd")
    describe(target, {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "tumour": 1}, "file_ending": ".nrrd"})


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def read(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def write_like(label_map: Any, image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = sitk.GetImageFromArray(label_map)
    written.CopyInformation(image)
    sitk.WriteImage(written, str(path))


def describe(target: Path, raw: Mapping[str, Any]) -> None:
    count = len(list((target / "labelsTr").glob(f"*{raw['file_ending']}")))
    (target / "dataset.json").write_text(json.dumps({**raw, "numTraining": count}))


PLAIN_LABELS = {"background": 0, "white": 1, "grey": 2}
REGIONS = {"background": 0, "grey": [2], "cord": [1, 2]}
RESAMPLED_OTHERWISE = (
    "nnUNetPlanner_torchres",
    "nnUNetPlannerResEncL_torchres_sepz",
    "nnUNetPlannerResEncL_noResampling",
)
SOURCES: dict[str, Build] = {
    "hippocampus": ready("Dataset004_Hippocampus"),
    "heart": ready("Dataset027_ACDC"),
    "spinal cord": spinal_cord,
    "CT": ct,
}
VARIANTS = (
    *(Variant(name, build) for name, build in SOURCES.items()),
    Variant("vessels", ready("Dataset801_DRIVE")),
    Variant("brain tumour", ready("Dataset043_BraTS")),
    Variant("nuclei", ready("Dataset802_Nuclei")),
    Variant("registered channels", registered_channels(PLAIN_LABELS)),
    Variant("regions", registered_channels(REGIONS, [2, 1])),
    Variant("ignore", registered_channels({**PLAIN_LABELS, "ignore": 3}, ignored=2)),
    Variant("regions and ignore", registered_channels({**REGIONS, "ignore": 3}, [1, 2], ignored=2)),
    Variant("listed files", listed("Dataset004_Hippocampus")),
    Variant("one file of channels", one_file_of_channels),
    Variant("volumes in TIFF", tiff_volume),
    Variant("pictures in TIFF", tiff_picture),
    Variant("NRRD", nrrd),
    *(
        Variant(f"read by {reader}", spinal_cord_read_by(reader))
        for reader in ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")
    ),
    *(
        Variant(f"{name} by {planner}", build, planner)
        for planner in RESAMPLED_OTHERWISE
        for name, build in SOURCES.items()
        if name != "heart"
    ),
    Variant(
        "hippocampus at a given spacing",
        ready("Dataset004_Hippocampus"),
        arguments={"overwrite_target_spacing_mm": (2.0, 0.7, 1.3)},
    ),
)
