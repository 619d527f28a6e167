"""Preprocess configurations of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segwright.dataset import DatasetLocation, RawDataset
from segwright.dataset.problems import some
from segwright.planning import Plan
from segwright.preprocessing.cohort import PreprocessResult, preprocess_dataset
from segwright.steps.check import NO_VARIABLES
from segwright.steps.watch import QUIET, Watch


def preprocess_configurations(
    location: DatasetLocation,
    plan: Plan,
    names: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    environ: Mapping[str, str] = NO_VARIABLES,
    watch: Watch = QUIET,
) -> PreprocessResult:
    """Crop, normalise, resample and store every case; what is done is skipped.

    Args:
        location: of the data set.
        plan: of the data set.
        names: configurations; None are all.
        overwrite: make finished cases anew.
        workers: processes; None are as many as cores and memory allow.
        environ: variables in an explicit list of files.
        watch: sees how far it is.

    Returns:
        What became of each case; a case that fails stops no other and is in `failures`.

    Raises:
        PlanError, DatasetError, LockedError: before any case is touched.
    """
    dataset = RawDataset.open(location.raw, environ=environ)
    chosen = list(dict.fromkeys(names if names is not None else configurations_with_data(plan)))
    with watch.progress() as progress:
        result = preprocess_dataset(
            dataset, plan, chosen, location.preprocessed, workers=workers, overwrite=overwrite, progress=progress
        )
    watch.note(f"{', '.join(chosen)}: {len(result.done)} cases preprocessed, {len(result.skipped)} were done before.")
    if result.removed:
        watch.note(f"Removed, as the data set does not have them any more: {some(result.removed)}.")
    return result


def configurations_with_data(plan: Plan) -> list[str]:
    """Names of configurations that have data of their own, each folder once."""
    by_folder: dict[str, str] = {}
    for name in plan.configuration_names:
        by_folder.setdefault(plan.configuration(name).data_identifier, name)
    return list(by_folder.values())
