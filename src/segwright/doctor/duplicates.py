"""Images that are in a data set twice, as they are or nearly, and cases that look like one patient's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.problems import Problem, some
from segwright.dataset.splits import Split
from segwright.doctor.case_summary import CaseSummary
from segwright.doctor.near_copies import Likeness, cells_correlations, cells_of, likenesses, near_copies
from segwright.doctor.robust import FLOOR, middle_and_deviation
from segwright.geometry import AXES

# Images of fewer voxels may be alike by chance.
_FEW_VOXELS = 64
# Frames of one patient correlate far more than two patients of the same data set do, where enough cases show what is
# usual: so many of them are compared.
_SAME_PATIENT_DEVIATIONS = 8.0
_ENOUGH_CASES, _MAX_SAMPLE = 8, 500

_Item = TypeVar("_Item")


def find_duplicates(
    cases: Sequence[CaseSummary],
    channel_names: Sequence[str],
    *,
    groups: Mapping[str, str],
    likely_groups: Mapping[str, str],
    splits: Sequence[Split],
    one_file_per_channel: bool = True,
) -> Iterator[Problem]:
    """Report copies of images, channels and label maps, and images that are alike.

    Images of one of the `groups` may be alike, if not the same. Those of `likely_groups` are reported elsewhere, if
    they are not nearly copies.
    """
    copies = list(_exact_copies(cases, splits))
    yield from copies
    known = {problem.case_id for problem in copies}
    others = [case for case in cases if case.case_id not in known]
    reported: set[tuple[str, ...]] = set()
    same_patient: list[Problem] = []
    for comparable in _with_cells_of_one_shape(others):
        cells = cells_of(comparable)
        alike = [pair for pair in likenesses(comparable, cells) if not _in_one_group(pair.case_ids, groups)]
        near = near_copies(alike, cells)
        yield from (_near_copy(pair, splits) for pair in near)
        reported.update(pair.case_ids for pair in near)
        rest = [pair for pair in alike if not (pair.mirrored or pair.case_ids in reported)]
        same_patient += _same_patient([pair for pair in rest if not _in_one_group(pair.case_ids, likely_groups)], cells)
    yield from (problem for problem in _repeated_channels(others, channel_names) if problem.case_ids not in reported)
    for problem in _repeated_label_maps(others):
        if problem.case_ids not in reported and not _in_one_group(problem.case_ids, groups or likely_groups):
            yield problem
    if one_file_per_channel:
        yield from _channels_alike(others, channel_names)
    yield from same_patient


def _repeats(items: Iterable[tuple[Hashable, _Item]]) -> Iterator[tuple[_Item, _Item]]:
    """Pair each item with the first that has its key, of the keys that are not None."""
    first: dict[Hashable, _Item] = {}
    for key, item in items:
        if key is not None and first.setdefault(key, item) is not item:
            yield first[key], item


def _exact_copies(cases: Sequence[CaseSummary], splits: Sequence[Split]) -> Iterator[Problem]:
    digests = [tuple(channel.digest for channel in case.channels) for case in cases]
    for original, case in _repeats((key if any(key) else None, case) for key, case in zip(digests, cases, strict=True)):
        ids = (original.case_id, case.case_id)
        same_labels = original.label_digest == case.label_digest
        labels = ", and its label map is the same" if same_labels else ", but its label map is another"
        if original.label_digest is None and case.label_digest is None:  # empty, or could not be read
            labels = ""
        spacing = "" if np.allclose(original.spacing_mm, case.spacing_mm) else ", its spacing is another"
        what = f"expected an image of its own, got voxel for voxel that of case {ids[0]}{labels}{spacing}"
        remedy = "Remove one" if same_labels else "Find out which label map is right, and remove the other case"
        remedy += ": a copy on the other side of a fold makes the scores too good."
        yield Problem("warning", "duplicate", ids[1], "imagesTr", what + _in_folds(ids, splits), remedy, ids)


def _in_folds(case_ids: tuple[str, str], splits: Sequence[Split]) -> str:
    """Say which folds train on one of two cases and validate with the other."""
    folds = [
        str(fold)
        for fold, split in enumerate(splits)
        if any(one in split.train and other in split.val for one, other in permutations(case_ids))
    ]
    if not folds:
        return ""
    names = f"folds {', '.join(folds)} train" if len(folds) > 1 else f"fold {folds[0]} trains"
    return f"; {names} on one of the two and validate{'s' if len(folds) == 1 else ''} with the other"


def _repeated_channels(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    """Single channels that are those of another case, though the whole image is not."""
    channels = ((each.digest, (case, number)) for case in cases for number, each in enumerate(case.channels))
    for (original, other), (case, channel) in _repeats(channels):
        if original is not case:
            ids = (original.case_id, case.case_id)
            where = f"imagesTr, {_named(channel, channel_names)}"
            copied = f"{_named(other, channel_names)} of case {ids[0]}"
            what = f"expected an image of its own, got voxel for voxel {copied}"
            remedy = "Find out whose image it is; the other channels are different."
            yield Problem("warning", "duplicate", ids[1], where, what, remedy, ids)


def _channels_alike(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    for case in cases:
        for other, channel in _repeats((each.digest, number) for number, each in enumerate(case.channels)):
            what = f"{_named(channel, channel_names)} is voxel for voxel {_named(other, channel_names)}"
            remedy = "Look whether a file was copied under both names."
            yield Problem("warning", "channels_alike", case.case_id, "imagesTr", what, remedy)


def _repeated_label_maps(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    for original, case in _repeats((case.label_digest, case) for case in cases):
        ids = (original.case_id, case.case_id)
        copied = f"that of case {ids[0]}, whose image is another"
        what = f"expected a label map of its own, got voxel for voxel {copied}"
        remedy = "Look whether a file was copied under the wrong name."
        yield Problem("warning", "label_map_repeated", ids[1], "labelsTr", what, remedy, ids)


def _named(channel: int, channel_names: Sequence[str]) -> str:
    return f"channel {channel} ({channel_names[channel]})"


def _in_one_group(case_ids: Sequence[str], groups: Mapping[str, str]) -> bool:
    names = {groups.get(case_id) for case_id in case_ids}
    return len(names) == 1 and None not in names


def _with_cells_of_one_shape(cases: Sequence[CaseSummary]) -> Iterable[list[CaseSummary]]:
    """The cases that have voxels enough to be compared, volumes and slices apart."""
    found: dict[tuple[int, ...], list[CaseSummary]] = defaultdict(list)
    for case in cases:
        if prod(case.shape) >= _FEW_VOXELS:
            found[case.signatures[0].cells.shape].append(case)
    return found.values()


def _near_copy(pair: Likeness, splits: Sequence[Split]) -> Problem:
    original, case = pair.original, pair.case
    size = "" if original.shape == case.shape else f", shape {case.shape} (z, y, x) instead of {original.shape}"
    same_labels = original.label_digest is not None and original.label_digest == case.label_digest
    labels = ", with the same label map" if same_labels else ""
    mirrored = f" mirrored along {', '.join(AXES[axis] for axis in pair.mirrored)}" if pair.mirrored else ""
    what = (
        f"expected an image of its own, got nearly that of case {original.case_id}{mirrored} (correlation "
        f"{pair.correlation:.4f}{size}{labels}){_in_folds(pair.case_ids, splits)}"
    )
    remedy = "If it is a copy, remove one; if both are of one patient, use --group-by to keep them in one fold."
    return Problem("warning", "near_duplicate", case.case_id, "imagesTr", what, remedy, pair.case_ids)


def _same_patient(pairs: Sequence[Likeness], cells: NDArray[np.float32]) -> Iterator[Problem]:
    """Report pairs that are more alike than is usual, by the `cells` of all cases."""
    num_cases = cells.shape[1]
    if num_cases < _ENOUGH_CASES or not pairs:
        return
    sample = cells[:, np.unique(np.linspace(0, num_cases - 1, _MAX_SAMPLE).astype(int))]
    values = cells_correlations(sample, sample)[np.triu_indices(sample.shape[1], 1)]
    middle, deviation = middle_and_deviation(_certainty(values))
    usual = middle + _SAME_PATIENT_DEVIATIONS * max(float(deviation), FLOOR)
    alike = [pair.case_ids for pair in pairs if _certainty(pair.correlation) > usual]
    if alike:
        names = some([f"{one} and {other}" for one, other in alike], "; ")
        what = f"cases that look like one patient's, in pairs ({len(alike)}): {names}"
        remedy = "If they are, keep a patient's cases in one fold with --group-by, or the scores will be too good."
        ids = tuple(sorted({case_id for pair in alike for case_id in pair}))
        yield Problem("warning", "same_patient", None, "imagesTr", what, remedy, ids)


def _certainty(correlation: NDArray[np.floating] | float) -> NDArray[np.float64]:
    return np.asarray(np.arctanh(np.clip(correlation, -0.99999, 0.99999)), dtype=np.float64)
