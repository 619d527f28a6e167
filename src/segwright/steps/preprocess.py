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
    """Crop, normalise, resample and store every case; finished cases are skipped.

    Args:
        location: of the data set.
        plan: of the data set.
        names: configurations; None means all.
        overwrite: preprocess finished cases again.
        workers: processes; None uses as many as cores and memory allow.
        environ: environment variables that an explicit list of files may use.
        watch: receives the progress.

    Returns:
        The outcome of each case; a case that fails is in `failures` and does not stop the others.

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
        watch.note(f"Removed, as they are no longer in the data set: {some(result.removed)}.")
    return result


def configurations_with_data(plan: Plan) -> list[str]:
    """Names of the configurations to preprocess, one per data folder."""
    by_folder: dict[str, str] = {}
    for name in plan.configuration_names:
        by_folder.setdefault(plan.configuration(name).data_identifier, name)
    return list(by_folder.values())
