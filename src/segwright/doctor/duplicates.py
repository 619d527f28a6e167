"""Images that are in a data set twice, as they are or nearly, and cases that look like one patient's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.problems import Problem, some
from segwright.dataset.splits import Split
from segwright.doctor.case_summary import CaseSummary
from segwright.doctor.near_copies import (
    Copy,
    Pair,
    all_cells,
    can_be_compared,
    least_correlations,
    near_copies,
    similar_pairs,
)
from segwright.doctor.robust import FLOOR, middle_and_deviation

# Frames of one patient correlate less than copies, but far more than two patients of the same data set do.
_SAME_PATIENT = 0.9
_SAME_PATIENT_DEVIATIONS = 8.0
_ENOUGH_CASES = 8
# So many cases show what is usual.
_MAX_SAMPLE = 500

_AXES = ("z", "y", "x")

_Likeness = TypeVar("_Likeness")


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

    Images of one of the `groups` may be alike, if not the same. Those of `likely_groups` are told of elsewhere, if they
    are not nearly copies.
    """
    copies = list(_exact_copies(cases, splits))
    yield from copies
    known = {problem.case_id for problem in copies}
    others = [case for case in cases if case.case_id not in known]
    comparable = [case for case in others if can_be_compared(case)]
    similar = _without_groups(comparable, similar_pairs(comparable), groups)
    near = _without_groups(comparable, near_copies(comparable, similar), groups)
    yield from _near_copies(comparable, near, splits)
    told = {tuple(comparable[index].case_id for index in pair) for pair in near}
    yield from (problem for problem in _repeated_channels(others, channel_names) if problem.case_ids not in told)
    for problem in _repeated_label_maps(others):
        if problem.case_ids not in told and not _in_one_group(problem.case_ids, groups or likely_groups):
            yield problem
    if one_file_per_channel:
        yield from _channels_alike(others, channel_names)
    rest = {pair: value for pair, value in similar.items() if pair not in near}
    yield from _same_patient(comparable, _without_groups(comparable, rest, likely_groups))


def _exact_copies(cases: Sequence[CaseSummary], splits: Sequence[Split]) -> Iterator[Problem]:
    first: dict[tuple[bytes | None, ...], CaseSummary] = {}
    for case in cases:
        digests = tuple(channel.digest for channel in case.channels)
        if not any(digests):
            continue
        original = first.setdefault((*digests, repr(case.shape).encode()), case)
        if original is case:
            continue
        same_labels = original.label_digest == case.label_digest
        labels = ", and its label map is the same" if same_labels else ", but its label map is another"
        if original.label_digest is None and case.label_digest is None:  # empty, or could not be read
            labels = ""
        spacing = "" if np.allclose(original.spacing_mm, case.spacing_mm) else ", its spacing is another"
        remedy = "Remove one" if same_labels else "Find out which label map is right, and remove the other case"
        yield Problem(
            "warning",
            "duplicate",
            case.case_id,
            "imagesTr",
            f"expected an image of its own, got voxel for voxel that of case {original.case_id}{labels}{spacing}"
            f"{_in_folds(original.case_id, case.case_id, splits)}",
            f"{remedy}: a copy on the other side of a fold makes the scores too good.",
            (original.case_id, case.case_id),
        )


def _in_folds(one: str, other: str, splits: Sequence[Split]) -> str:
    """Say which folds train on one of the cases and validate with the other."""
    folds = [
        str(fold)
        for fold, split in enumerate(splits)
        if (one in split.train and other in split.val) or (other in split.train and one in split.val)
    ]
    if not folds:
        return ""
    names = f"folds {', '.join(folds)} train" if len(folds) > 1 else f"fold {folds[0]} trains"
    return f"; {names} on one of the two and validate{'s' if len(folds) == 1 else ''} with the other"


def _repeated_channels(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    """Single channels that are those of another case, though the whole image is not."""
    first: dict[tuple[bytes, tuple[int, ...]], tuple[CaseSummary, int]] = {}
    for case in cases:
        for channel, summary in enumerate(case.channels):
            if summary.digest is None:
                continue
            original, other = first.setdefault((summary.digest, case.shape), (case, channel))
            if original is not case:
                yield Problem(
                    "warning",
                    "duplicate",
                    case.case_id,
                    f"imagesTr, {_named(channel, channel_names)}",
                    f"expected an image of its own, got voxel for voxel {_named(other, channel_names)} of case "
                    f"{original.case_id}",
                    "Find out whose image it is; the other channels are different.",
                    (original.case_id, case.case_id),
                )


def _channels_alike(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    for case in cases:
        first: dict[bytes, int] = {}
        for channel, summary in enumerate(case.channels):
            if summary.digest is None:
                continue
            other = first.setdefault(summary.digest, channel)
            if other != channel:
                yield Problem(
                    "warning",
                    "channels_alike",
                    case.case_id,
                    "imagesTr",
                    f"{_named(channel, channel_names)} is voxel for voxel {_named(other, channel_names)}",
                    "Look whether a file was copied under both names.",
                )


def _repeated_label_maps(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    first: dict[tuple[bytes, tuple[int, ...]], CaseSummary] = {}
    for case in cases:
        if case.label_digest is None:
            continue
        original = first.setdefault((case.label_digest, case.shape), case)
        if original is not case:
            yield Problem(
                "warning",
                "label_map_repeated",
                case.case_id,
                "labelsTr",
                f"expected a label map of its own, got voxel for voxel that of case {original.case_id}, whose image is "
                "another",
                "Look whether a file was copied under the wrong name.",
                (original.case_id, case.case_id),
            )


def _named(channel: int, channel_names: Sequence[str]) -> str:
    return f"channel {channel} ({channel_names[channel]})"


def _in_one_group(case_ids: Sequence[str], groups: Mapping[str, str]) -> bool:
    names = {groups.get(case_id) for case_id in case_ids}
    return len(names) == 1 and None not in names


def _without_groups(
    cases: Sequence[CaseSummary], pairs: Mapping[Pair, _Likeness], groups: Mapping[str, str]
) -> dict[Pair, _Likeness]:
    """The pairs that are not in one of the groups."""
    return {
        pair: likeness
        for pair, likeness in pairs.items()
        if not _in_one_group([cases[index].case_id for index in pair], groups)
    }


def _near_copies(
    cases: Sequence[CaseSummary], pairs: Mapping[Pair, Copy], splits: Sequence[Split]
) -> Iterator[Problem]:
    for (one, other), copy in pairs.items():
        original, case = cases[one], cases[other]
        size = "" if original.shape == case.shape else f", shape {case.shape} (z, y, x) instead of {original.shape}"
        same_labels = original.label_digest is not None and original.label_digest == case.label_digest
        labels = ", with the same label map" if same_labels else ""
        mirrored = f" mirrored along {', '.join(_AXES[axis] for axis in copy.mirrored)}" if copy.mirrored else ""
        yield Problem(
            "warning",
            "near_duplicate",
            case.case_id,
            "imagesTr",
            f"expected an image of its own, got nearly that of case {original.case_id}{mirrored} (correlation "
            f"{copy.correlation:.4f}{size}{labels}){_in_folds(original.case_id, case.case_id, splits)}",
            "If it is a copy, remove one; if both are of one patient, use --group-by to keep them in one fold.",
            (original.case_id, case.case_id),
        )


def _same_patient(cases: Sequence[CaseSummary], pairs: Mapping[Pair, float]) -> Iterator[Problem]:
    if len(cases) < _ENOUGH_CASES or not pairs:
        return
    sample = np.unique(np.linspace(0, len(cases) - 1, _MAX_SAMPLE).astype(int))
    values = least_correlations(all_cells([cases[index] for index in sample]), np.arange(len(sample)))
    middle, deviation = middle_and_deviation(_certainty(values[np.triu_indices(len(sample), 1)]))
    usual = middle + _SAME_PATIENT_DEVIATIONS * max(float(deviation), FLOOR)
    alike = [pair for pair, value in pairs.items() if value > _SAME_PATIENT and _certainty(np.array(value)) > usual]
    if alike:
        found = [f"{cases[one].case_id} and {cases[other].case_id}" for one, other in alike]
        yield Problem(
            "warning",
            "same_patient",
            None,
            "imagesTr",
            f"cases that look like one patient's, in pairs ({len(found)}): {some(found, '; ')}",
            "If they are, keep a patient's cases in one fold with --group-by, or the scores will be too good.",
            tuple(cases[index].case_id for index in sorted({index for pair in alike for index in pair})),
        )


def _certainty(correlation: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(np.arctanh(np.clip(correlation, -0.99999, 0.99999)), dtype=np.float64)
