"""Problems of a data set that no case shows by itself: duplicates, and outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segwright.dataset.problems import Problem
from segwright.dataset.splits import Split
from segwright.doctor.case_summary import CaseSummary
from segwright.doctor.duplicates import find_duplicates
from segwright.doctor.grid_check import unlike_orientations, unlike_shapes, unlike_spacings
from segwright.doctor.intensity_check import not_hounsfield, not_images, unlike_intensities


def compare_cases(
    cases: Sequence[CaseSummary],
    channel_names: Sequence[str],
    *,
    orientation: bool = True,
    one_file_per_channel: bool = True,
    groups: Mapping[str, str] | None = None,
    likely_groups: Mapping[str, str] | None = None,
    splits: Sequence[Split] = (),
) -> list[Problem]:
    """Report duplicates, and cases with unusual orientation (where it matters), spacing, shape or intensities.

    Cases must have as many channels as there are names. Cases of one of the `groups` may be similar;
    `likely_groups` are reported elsewhere.
    """
    if not cases:
        return []
    return [
        *find_duplicates(
            cases,
            channel_names,
            groups=groups or {},
            likely_groups=likely_groups or {},
            splits=splits,
            one_file_per_channel=one_file_per_channel,
        ),
        *(unlike_orientations(cases) if orientation else ()),
        *unlike_spacings(cases),
        *unlike_shapes(cases),
        *not_images(cases, channel_names),
        *not_hounsfield(cases, channel_names),
        *unlike_intensities(cases, channel_names),
    ]
