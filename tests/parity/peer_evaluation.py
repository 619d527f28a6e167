"""Runs in nnunetv2's environment: scores two folders and writes its summary.json.

Arguments: predictions, references, dataset.json, output file.
"""

import json
import sys

from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.utilities.label_handling.label_handling import LabelManager


def main(predictions: str, references: str, description_file: str, output: str) -> None:
    with open(description_file) as file:
        description = json.load(file)
    labels = LabelManager(description["labels"], description.get("regions_class_order"))
    compute_metrics_on_folder(
        references,
        predictions,
        output,
        determine_reader_writer_from_dataset_json(description, verbose=False)(),
        description["file_ending"],
        labels.foreground_regions if labels.has_regions else labels.foreground_labels,
        labels.ignore_label,
        num_processes=1,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
