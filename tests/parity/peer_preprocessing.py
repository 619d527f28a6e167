"""Runs in nnunetv2's environment: measures and preprocesses a data set, then reads Segwright's store as training does.

Writes to OUTPUT what it read, its own cases in the older form with .npz, and which reader it chooses.

Usage: peer_preprocessing.py RAW PREPROCESSED DATASET OWN_PREPROCESSED OUTPUT PLANS_NAME CONFIGURATION...
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(
    raw: str, preprocessed: str, dataset: str, own: str, output: str, plans_name: str, configurations: list[str]
) -> None:
    os.environ.update(nnUNet_raw=raw, nnUNet_preprocessed=preprocessed, nnUNet_results=preprocessed)
    import numpy as np
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetNumpy
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    description = json.loads((Path(raw) / dataset / "dataset.json").read_text())
    files = get_filenames_of_train_images_and_targets(str(Path(raw) / dataset), description)
    example = next(iter(files.values()))["images"][0]
    reader = determine_reader_writer_from_dataset_json(description, example, verbose=False)
    (Path(output) / "reader.txt").write_text(reader.__name__)
    extractor = DatasetFingerprintExtractor(dataset, 1)
    extractor.show_progress_bar = False
    extractor.run(overwrite_existing=True)
    plans = PlansManager(str(Path(preprocessed) / dataset / f"{plans_name}.json"))
    for name in configurations:
        preprocessor = DefaultPreprocessor(verbose=False)
        preprocessor.show_progress_bar = False
        preprocessor.run(dataset, name, plans_name, 1)
        identifier = plans.get_configuration(name).data_identifier
        folder = str(Path(own) / dataset / identifier)
        stored = infer_dataset_class(folder)(folder)
        for case_id in stored.identifiers:
            data, seg, _, properties = stored.load_case(case_id)
            np.savez(
                Path(output) / f"{name}__{case_id}.npz",
                data=data[:],
                seg=seg[:],
                locations=np.asarray([len(value) for value in properties["class_locations"].values()]),
            )
    folder = str(Path(preprocessed) / dataset / identifier)
    stored = infer_dataset_class(folder)(folder)
    (Path(output) / "npz").mkdir()
    for case_id in stored.identifiers:
        data, seg, _, properties = stored.load_case(case_id)
        nnUNetDatasetNumpy.save_case(data[:], seg[:], properties, str(Path(output) / "npz" / case_id))


if __name__ == "__main__":
    main(*sys.argv[1:7], sys.argv[7:])
