"""Files that are not images, or of another modality than their channel's name or the other cases suggest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from segwright.dataset.problems import Problem, some
from segwright.doctor.case_summary import CaseSummary
from segwright.doctor.robust import FLOOR, middle_and_deviation

# Fewer cases than this do not show what is usual.
_ENOUGH_CASES = 8
# Mean and largest deviation of the scale-free intensities, in units of the data set's own plus a twentieth of the
# range. Those of hippocampi, ACDC and DRIVE stay below 1.0 and 3.8.
_ODD_MEAN, _ODD_LARGEST = 1.5, 5.0
# If the foreground is dark and the others' is bright, or vice versa, less is unusual.
_ODD_CONTRAST, _ODD_MEAN_IF_REVERSED = 3.5, 1.0
# A larger fraction of unusual cases is no mistake: the data set has several kinds of images, like the nuclei's stains.
_MOST_ODD = 0.2
_FEW_VALUES = 8
# Hounsfield units of a body span more than a thousand; normalised images a few units.
_LEAST_HOUNSFIELD_RANGE = 50.0


def not_images(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    """Report channels with one value everywhere, or with as few values as a label map where others have many."""
    for channel, name in enumerate(channel_names):
        counts = [case.channels[channel].num_values for case in cases]
        usual = float(np.median(counts))
        for case, count in zip(cases, counts, strict=True):
            if count > 1 and (count > _FEW_VALUES or usual <= _FEW_VALUES):
                continue
            found = "the same value everywhere" if count == 1 else f"only {count} different values, as in a label map"
            yield Problem(
                "warning",
                "not_an_image",
                case.case_id,
                f"imagesTr, channel {channel} ({name})",
                f"expected an image, got {found}",
                "Check that it is the right file; an empty channel carries no information.",
            )


def not_hounsfield(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    """Report channels named CT whose values cannot be Hounsfield units."""
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
                "A CT is normalised by the whole data set's intensities: convert these cases, or, if none are in "
                'Hounsfield units, name the channel otherwise, for example "MRI".',
                tuple(found),
            )


def unlike_intensities(cases: Sequence[CaseSummary], channel_names: Sequence[str]) -> Iterator[Problem]:
    """Report channels that look interchanged, and images whose scale-free intensities differ from the other cases'."""
    sound = [case for case in cases if all(channel.num_values > _FEW_VALUES for channel in case.channels)]
    if len(sound) < _ENOUGH_CASES:
        return
    features = np.array([[(*each.shape, each.contrast) for each in case.channels] for case in sound])
    usual = middle_and_deviation(features)
    is_odd = _is_odd(features, *usual)
    swapped = dict(_swapped_channels(features, usual, is_odd))
    for index, (first, second) in swapped.items():
        yield Problem(
            "warning",
            "channels_swapped",
            sound[index].case_id,
            "imagesTr",
            f"channels {first} ({channel_names[first]}) and {second} ({channel_names[second]}) look interchanged "
            "compared with the other cases",
            "Review both files, and rename them if so.",
        )
    for channel, name in enumerate(channel_names):
        odd = [case.case_id for index, case in enumerate(sound) if is_odd[index, channel] and index not in swapped]
        if 0 < len(odd) <= _MOST_ODD * len(sound):
            yield Problem(
                "warning",
                "intensities",
                None,
                f"imagesTr, channel {channel} ({name})",
                f"{len(odd)} of {len(sound)} cases have intensities unlike the others': {some(odd)}",
                "Check for another modality, inversion, piecewise scaling, or the labels of another case.",
                tuple(odd),
            )


def _is_odd(
    features: NDArray[np.float64], middle: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the features (..., 6) are outliers; NaN, for lack of a foreground, is not."""
    distances = np.nan_to_num(np.abs(features - middle) / (deviation + FLOOR))
    mean = distances.mean(axis=-1)
    is_far = (mean > _ODD_MEAN) & (distances.max(axis=-1) > _ODD_LARGEST)
    is_reversed = (distances[..., -1] > _ODD_CONTRAST) & ((features[..., -1] < 0.5) != (middle[..., -1] < 0.5))
    return np.asarray(is_far | (is_reversed & (mean > _ODD_MEAN_IF_REVERSED)))


def _swapped_channels(
    features: NDArray[np.float64], usual: tuple[NDArray[np.float64], NDArray[np.float64]], is_odd: NDArray[np.bool_]
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Pairs of unusual channels that would be usual if swapped, by the number of the case."""
    for index, channels in enumerate(map(np.flatnonzero, is_odd)):
        for first, second in combinations(channels.tolist(), 2):
            crossed = [values[[second, first]] for values in usual]
            if not _is_odd(features[index, [first, second]], *crossed).any():
                yield index, (first, second)
