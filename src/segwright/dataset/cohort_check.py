"""What is wrong with a data set that no case shows by itself: copies, and cases that are unlike all others.

The thresholds leave the Decathlon's hippocampi, ACDC, DRIVE and the nuclei of the Data Science Bowl without a false
alarm, and find the copies and mistakes of the tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.case_summary import CaseSummary
from segwright.dataset.problems import Problem, some

# Correlation of signatures: noise of a tenth of the contrast, another scale or number type leave it above.
_SAME_IMAGE = 0.999
# Two frames of one patient correlate less than copies, but far more than two patients of the same data set do.
_SAME_PATIENT = 0.9
_SAME_PATIENT_DEVIATIONS = 8.0
# Fewer cases than this say nothing about what is usual.
_ENOUGH_CASES = 8
_SPACING_FACTOR = 2.5
_SPACING_DEVIATIONS = 5.0
# Mean and largest deviation of the scale-free intensities, in units of the data set's own plus a twentieth of the
# range.
_ODD_MEAN, _ODD_LARGEST = 2.0, 6.0
_FLOOR = 0.05
_FEW_VALUES = 8
# Hounsfield units of a body span more than a thousand; normalised images a few units.
_LEAST_HOUNSFIELD_RANGE = 50.0


def compare_cases(
    cases: Sequence[CaseSummary],
    channel_names: Sequence[str],
    *,
    orientation: bool = True,
    groups: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Report copies, and cases with unlike orientation (where it matters), spacing or intensities.

    All cases must have as many channels as there are names. Cases of one of the `groups` may look alike.
    """
    if not cases:
        return []
    copies = list(_exact_copies(cases))
    known = {problem.case_id for problem in copies}
    return [
        *copies,
        *_near_copies([case for case in cases if case.case_id not in known], groups or {}),
        *(_orientations(cases) if orientation else ()),
        *_spacings(cases),
        *_not_images(cases, channel_names),
        *_not_hounsfield(cases, channel_names),
        *_unlike_intensities(cases, channel_names),
    ]


def _exact_copies(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    first: dict[tuple[bytes, tuple[float, ...]], CaseSummary] = {}
    for case in cases:
        original = first.setdefault((case.image_digest, case.spacing_mm), case)
        if original is case:
            continue
        same_labels = original.label_digest == case.label_digest
        labels = "and its label map is the same" if same_labels else "but its label map is another"
        remedy = "Remove one" if same_labels else "Find out which label map is right, and remove the other case"
        yield Problem(
            "warning",
            "duplicate",
            case.case_id,
            "imagesTr",
            f"expected an image of its own, got voxel for voxel that of case {original.case_id}, {labels}",
            f"{remedy}; in two folds it would make the scores too good.",
        )


def _near_copies(cases: Sequence[CaseSummary], groups: Mapping[str, str]) -> Iterator[Problem]:
    """Compare every pair by its signature, in all channels."""
    if len(cases) < 2:
        return
    correlation = np.min([_correlations(cases, channel) for channel in range(len(cases[0].channels))], axis=0)
    names = np.array([groups.get(case.case_id, f"\0{case.case_id}") for case in cases])
    pairs = np.nonzero(np.triu(names[:, None] != names, 1))
    values = correlation[pairs]
    for index in np.flatnonzero(values > _SAME_IMAGE):
        original, case = (cases[part[index]] for part in pairs)
        yield Problem(
            "warning",
            "near_duplicate",
            case.case_id,
            "imagesTr",
            f"expected an image of its own, got nearly that of case {original.case_id} (correlation "
            f"{values[index]:.4f})",
            "If it is a copy, remove one; if both are of one patient, use --group-by to keep them in one fold.",
        )
    if len(cases) < _ENOUGH_CASES:
        return
    certainty = np.arctanh(np.clip(values, -0.99999, 0.99999))
    middle, deviation = _middle_and_deviation(certainty)
    usual = middle + _SAME_PATIENT_DEVIATIONS * np.maximum(deviation, _FLOOR)
    alike = np.flatnonzero((certainty > usual) & (values > _SAME_PATIENT) & (values <= _SAME_IMAGE))
    if alike.size:
        found = [f"{cases[pairs[0][index]].case_id} and {cases[pairs[1][index]].case_id}" for index in alike]
        yield Problem(
            "warning",
            "same_patient",
            None,
            "imagesTr",
            f"cases that look like one patient's, in pairs ({len(found)}): {some(found, '; ')}",
            "If they are, keep a patient's cases in one fold with --group-by, or the scores will be too good.",
        )


def _correlations(cases: Sequence[CaseSummary], channel: int) -> NDArray[np.float32]:
    signatures = np.stack([case.signatures[channel] for case in cases])
    return np.asarray(signatures @ signatures.T)


def _orientations(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    by_code: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.orientation is not None:
            by_code[case.orientation].append(case.case_id)
    if len(by_code) < 2:
        return
    usual = max(by_code, key=lambda code: len(by_code[code]))
    others = [f"{code} in {len(names)} ({some(names)})" for code, names in sorted(by_code.items()) if code != usual]
    yield Problem(
        "warning",
        "orientation",
        None,
        "imagesTr",
        f"expected one orientation, got x, y, z axes pointing to {usual} in {len(by_code[usual])} cases, but to "
        + ", ".join(others),
        'The network sees the voxels as they are stored. Reorient these cases, or set "overwrite_image_reader_writer" '
        'to "SimpleITKIOWithReorient" in dataset.json.',
    )


def _spacings(cases: Sequence[CaseSummary]) -> Iterator[Problem]:
    if len(cases) < _ENOUGH_CASES:
        return
    logarithms = np.log([case.spacing_mm for case in cases])
    for axis, name in enumerate("zyx"):
        middle, deviation = _middle_and_deviation(logarithms[:, axis])
        distance = np.abs(logarithms[:, axis] - middle)
        odd = np.flatnonzero((distance > np.log(_SPACING_FACTOR)) & (distance > _SPACING_DEVIATIONS * deviation))
        if odd.size:
            found = [f"{cases[index].spacing_mm[axis]:g} mm in {cases[index].case_id}" for index in odd.tolist()]
            yield Problem(
                "warning",
                "spacing",
                None,
                "imagesTr",
                f"expected spacings along {name} like the median, {np.exp(middle):.4g} mm, got {some(found)}",
                "Look at the headers: a spacing that was lost is often written as 1. Real outliers may stay.",
            )


def _not_images(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    for channel, name in enumerate(channel_names):
        counts = [case.channels[channel].num_values for case in cases]
        usual = float(np.median(counts))
        for case, count in zip(cases, counts, strict=True):
            if count > 1 and (count > _FEW_VALUES or usual <= _FEW_VALUES):
                continue
            found = "the same value everywhere" if count == 1 else f"only {count} different values, as in a label map"
            yield Problem(
                "warning",
                "image_empty",
                case.case_id,
                f"imagesTr, channel {channel} ({name})",
                f"expected an image, got {found}",
                "Look whether the file is the right one; an empty channel teaches nothing.",
            )


def _not_hounsfield(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    for channel, name in enumerate(channel_names):
        if name.lower() != "ct":
            continue
        found = {
            case.case_id: case.channels[channel]
            for case in cases
            if case.channels[channel].low >= 0
            or case.channels[channel].high - case.channels[channel].low < _LEAST_HOUNSFIELD_RANGE
        }
        if found:
            examples = [f"{case_id} ({each.low:.4g} to {each.high:.4g})" for case_id, each in found.items()]
            yield Problem(
                "warning",
                "not_hounsfield",
                None,
                f"imagesTr, channel {channel} ({name})",
                f"expected Hounsfield units, with air near -1000, got other values in {len(found)} of {len(cases)} "
                f"cases: {some(examples)}",
                "A CT is normalised by the whole data set's intensities: convert these cases, or, if none is in "
                'Hounsfield units, name the channel otherwise, for example "MRI".',
            )


def _unlike_intensities(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    """Compare the scale-free part of the intensities of each channel with the data set's."""
    sound = [case for case in cases if all(channel.num_values > _FEW_VALUES for channel in case.channels)]
    if len(sound) < _ENOUGH_CASES:
        return
    features = np.array([[(*each.shape, each.contrast) for each in case.channels] for case in sound])
    usual = np.stack([_middle_and_deviation(features[:, channel]) for channel in range(features.shape[1])], axis=1)
    distances = _distances(features, usual)
    swapped = {sound[index].case_id: pair for index, pair in _swapped_channels(features, usual, distances)}
    for case_id, (first, second) in swapped.items():
        yield Problem(
            "warning",
            "intensities",
            case_id,
            "imagesTr",
            f"channels {first} ({channel_names[first]}) and {second} ({channel_names[second]}) look interchanged "
            "compared with the other cases",
            "Look at both files, and rename them if so.",
        )
    odd: dict[str, list[str]] = {}
    for case, by_channel in zip(sound, distances, strict=True):
        if case.case_id not in swapped:
            names = [f"{number} ({channel_names[number]})" for number, each in enumerate(by_channel) if _is_odd(each)]
            odd.update({case.case_id: names} if names else {})
    if odd:
        channels = sorted({name for names in odd.values() for name in names})
        yield Problem(
            "warning",
            "intensities",
            None,
            f"imagesTr, channel{'s' if len(channels) > 1 else ''} {', '.join(channels)}",
            f"{len(odd)} of {len(sound)} cases have intensities unlike the others': {some(list(odd))}",
            "Look whether they are of the same modality, inverted or scaled by parts.",
        )


def _distances(features: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (cases, channels, features) in units of what is usual; NaN, for lack of a foreground, counts 0."""
    middle, deviation = usual
    return np.asarray(np.nan_to_num(np.abs(features - middle) / (deviation + _FLOOR)))


def _is_odd(distance: NDArray[np.float64]) -> bool:
    return bool(distance.mean() > _ODD_MEAN and distance.max() > _ODD_LARGEST)


def _swapped_channels(
    features: NDArray[np.float64], usual: NDArray[np.float64], distances: NDArray[np.float64]
) -> Iterator[tuple[int, tuple[int, int]]]:
    num_channels = features.shape[1]
    for index in range(len(features)):
        for first in range(num_channels):
            for second in range(first + 1, num_channels):
                pair = [first, second]
                crossed = _distances(features[index : index + 1, pair], usual[:, pair[::-1]])[0]
                straight = distances[index, pair]
                if all(_is_odd(each) for each in straight) and not any(_is_odd(each) for each in crossed):
                    yield index, (first, second)


def _middle_and_deviation(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median, and the median distance from it, scaled to a normal distribution's standard deviation."""
    middle = np.nan_to_num(np.nanmedian(values, axis=0))
    return middle, np.nan_to_num(1.4826 * np.nanmedian(np.abs(values - middle), axis=0))
