"""Runs in nnunetv2's environment: measures and preprocesses a data set, then reads Segwright's store as training does.

Usage: peer_preprocessing.py RAW PREPROCESSED DATASET OWN_PREPROCESSED OUTPUT CONFIGURATION...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(raw: str, preprocessed: str, dataset: str, own: str, output: str, configurations: list[str]) -> None:
    os.environ.update(nnUNet_raw=raw, nnUNet_preprocessed=preprocessed, nnUNet_results=preprocessed)
    import numpy as np
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    extractor = DatasetFingerprintExtractor(dataset, 1)
    extractor.show_progress_bar = False
    extractor.run(overwrite_existing=True)
    plans_file = Path(preprocessed) / dataset / "nnUNetPlans.json"
    for name in configurations:
        preprocessor = DefaultPreprocessor(verbose=False)
        preprocessor.show_progress_bar = False
        preprocessor.run(dataset, name, "nnUNetPlans", 1)
        folder = Path(own) / dataset / PlansManager(str(plans_file)).get_configuration(name).data_identifier
        stored = infer_dataset_class(str(folder))(str(folder))
        for case_id in stored.identifiers:
            data, seg, _, properties = stored.load_case(case_id)
            np.savez(
                Path(output) / f"{name}__{case_id}.npz",
                data=data[:],
                seg=seg[:],
                locations=np.asarray([len(value) for value in properties["class_locations"].values()]),
            )


if __name__ == "__main__":
    main(*sys.argv[1:6], sys.argv[6:])
