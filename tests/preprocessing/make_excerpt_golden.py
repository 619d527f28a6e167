"""Write tests/golden/excerpts: cut real images small, and measure, plan and preprocess them with nnunetv2.

Run it in nnunetv2's environment, from the root of the repository, with the folder of the real data:
    python tests/preprocessing/make_excerpt_golden.py DATA
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET = Path("tests/golden/excerpts")
WORK = Path(tempfile.mkdtemp())
for _variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[_variable] = str(WORK / _variable)

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments  # noqa: E402
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: E402
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

DATASET = "Dataset999_Excerpt"
CONFIGURATIONS = ("2d", "3d_fullres")
CORD = {"background": 0, "cord": 1}
# excerpt, name, changes to dataset.json, planner, target spacing
VARIANTS: list[tuple[str, str, dict[str, Any], str, list[float] | None]] = [
    ("hippocampus", "default", {}, "ExperimentPlanner", None),
    ("hippocampus", "given_spacing", {}, "ExperimentPlanner", [1.3, 0.8, 0.9]),
    ("hippocampus", "torch", {}, "nnUNetPlanner_torchres", [1.3, 0.8, 0.9]),
    ("nuclei", "default", {}, "ExperimentPlanner", None),
    ("spinal_cord", "default", {}, "ExperimentPlanner", None),
    ("spinal_cord", "torch_separate_z", {}, "nnUNetPlannerResEncL_torchres_sepz", None),
    ("spinal_cord", "no_resampling", {}, "nnUNetPlannerResEncL_noResampling", None),
    *(
        ("spinal_cord", reader, {"overwrite_image_reader_writer": reader}, "ExperimentPlanner", None)
        for reader in ("SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")
    ),
    ("ct", "default", {}, "ExperimentPlanner", [2.2, 4.0, 3.0]),
]


def cut(source: Path, first: tuple[int, int, int], size: tuple[int, int, int]) -> sitk.Image:
    """A box of an image, in its file's order of axes (x, y, z), where it lies in space."""
    return sitk.RegionOfInterest(sitk.ReadImage(str(source)), size, first)


def write(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def describe(folder: Path, channels: list[str], labels: dict[str, int], ending: str) -> None:
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": len(list((folder / "labelsTr").iterdir())),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")


def hippocampus(data: Path, folder: Path) -> None:
    source = data / "Dataset004_Hippocampus"
    for case_id in ("hippocampus_003", "hippocampus_004"):
        for name in (f"imagesTr/{case_id}_0000.nii.gz", f"labelsTr/{case_id}.nii.gz"):
            write(cut(source / name, (7, 22, 9), (13, 15, 11)), folder / name)
    describe(folder, ["MRI"], {"background": 0, "anterior": 1, "posterior": 2}, ".nii.gz")


def nuclei(data: Path, folder: Path) -> None:
    source = data / "Dataset802_Nuclei"
    label = source / "labelsTr" / "nuc_003.png"
    for name in (f"imagesTr/{label.stem}_0000.png", f"labelsTr/{label.name}"):
        picture = sitk.ReadImage(str(source / name))
        write(sitk.RegionOfInterest(picture, (36, 40), (255, 165)), folder / name)
    describe(folder, ["R", "G", "B"], {"background": 0, "interior": 1, "border": 2}, ".png")


def spinal_cord(data: Path, folder: Path) -> None:
    source = data / "other" / "sct_testing_data"
    for case_id, image, label, first, size in (
        ("t2", "t2/t2", "t2/t2_seg-manual", (21, 17, 19), (16, 13, 11)),
        ("t2s", "t2s/t2s", "t2s/t2s_seg", (15, 16, 0), (17, 18, 9)),
        ("mt1", "mt/mt1", "mt/mt1_seg", (12, 10, 0), (17, 18, 5)),
    ):
        write(cut(source / f"{image}.nii.gz", first, size), folder / "imagesTr" / f"{case_id}_0000.nii.gz")
        write(cut(source / f"{label}.nii.gz", first, size), folder / "labelsTr" / f"{case_id}.nii.gz")
    describe(folder, ["MRI"], CORD, ".nii.gz")


def ct(data: Path, folder: Path) -> None:
    source = data / "other" / "totalsegmentator_ct"
    box = (52, 42, 42), (18, 17, 13)
    label = cut(source / "example_seg_fast_force_split.nii.gz", *box)
    values, consecutive = np.unique(sitk.GetArrayFromImage(label), return_inverse=True)
    written = sitk.GetImageFromArray(consecutive.reshape(label.GetSize()[::-1]).astype(np.uint8))
    written.CopyInformation(label)
    write(cut(source / "example_ct.nii.gz", *box), folder / "imagesTr" / "body_0000.nii.gz")
    write(written, folder / "labelsTr" / "body.nii.gz")
    names = {f"structure {value}": number for number, value in enumerate(values) if value}
    describe(folder, ["CT"], {"background": 0, **names}, ".nii.gz")


def preprocess(
    folder: Path, changes: dict[str, Any], planner: str, spacing: list[float] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nnunetv2 makes of a raw data set: values for JSON, and arrays."""
    raw, preprocessed = WORK / "nnUNet_raw" / DATASET, WORK / "nnUNet_preprocessed" / DATASET
    for stale in (raw, preprocessed):
        shutil.rmtree(stale, ignore_errors=True)
    shutil.copytree(folder, raw)
    description = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, **changes}))
    DatasetFingerprintExtractor(DATASET, 1).run(overwrite_existing=True)
    name = plan_experiments([999], planner, overwrite_target_spacing=spacing)
    plans = PlansManager(str(preprocessed / f"{name}.json"))
    values: dict[str, Any] = {
        "changes": changes,
        "planner": planner,
        "target_spacing": spacing,
        "fingerprint": json.loads((preprocessed / "dataset_fingerprint.json").read_text()),
        "plan": json.loads((preprocessed / f"{name}.json").read_text()),
        "cases": {},
    }
    arrays: dict[str, Any] = {}
    for configuration in CONFIGURATIONS:
        if configuration not in plans.available_configurations:
            continue
        DefaultPreprocessor(verbose=False).run(DATASET, configuration, name, 1)
        stored_in = str(preprocessed / plans.get_configuration(configuration).data_identifier)
        stored = infer_dataset_class(stored_in)(stored_in)
        for case_id in stored.identifiers:
            data, seg, _, properties = stored.load_case(case_id)
            key = f"{configuration} {case_id}"
            locations = properties.pop("class_locations")
            arrays |= {f"{key} data": data[:], f"{key} seg": np.asarray(seg[:], np.int8)}
            arrays |= {f"{key} {label}": np.asarray(voxels, np.int16) for label, voxels in locations.items()}
            values["cases"][key] = {"properties": properties, "located": [int(label) for label in locations]}
    return values, arrays


def main(data: Path) -> None:
    for excerpt in (hippocampus, nuclei, spinal_cord, ct):
        raw = TARGET / excerpt.__name__ / "raw"
        shutil.rmtree(raw, ignore_errors=True)
        excerpt(data, raw)
    for excerpt_name, variant, changes, planner, spacing in VARIANTS:
        folder = TARGET / excerpt_name
        values, arrays = preprocess(folder / "raw", changes, planner, spacing)
        np.savez_compressed(folder / f"{variant}.npz", **arrays)
        text = json.dumps(values, default=lambda value: value.tolist())
        (folder / f"{variant}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
