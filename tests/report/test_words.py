from __future__ import annotations

from segwright.dataset import new_description
from segwright.fingerprint import Fingerprint
from segwright.report.words import credit_of, describe_data


def description(**changes):
    values = {
        "channel_names": {"0": "FLAIR", "1": "T1c"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "num_training": 1,
        "file_ending": ".nii.gz",
        "regions_class_order": [1, 2],
    }
    return new_description(**{**values, **changes})


def test_data_in_words():
    section = describe_data(description(), None)
    assert section.paragraphs[0] == (
        "1 training case with 2 channels (FLAIR and T1c) and 2 classes to find: whole and core."
    )
    assert "ignore label" in section.paragraphs[1]
    assert {fact.name: fact.value for fact in section.facts}["Classes"] == "whole (1 + 2), core (2)"


def test_measured_sizes_tell_median_range_and_thick_slices():
    spacings = ((5.0, 1.0, 1.0), (5.0, 1.5, 1.5), (10.0, 1.5, 1.5))
    section = describe_data(description(), Fingerprint(spacings, ((9, 200, 180),) * 3, {}, 1.0))
    assert section.paragraphs[-1] == (
        "The median image is 9 × 200 × 180 voxels of 5 × 1.5 × 1.5 mm; its voxels are 3.3 times as long as wide."
    )
    facts = {fact.name: fact for fact in section.facts}
    assert facts["Median spacing"].note == "from 5 × 1 × 1 to 10 × 1.5 × 1.5 mm, axis by axis"
    assert facts["Median shape"].note == "the same in all cases"


def test_images_without_spacing_are_not_given_one():
    section = describe_data(description(), Fingerprint(((999.0, 1.0, 1.0),), ((1, 584, 565),), {}, 1.0))
    assert section.paragraphs[-1] == "The median image is 1 × 584 × 565 voxels."
    assert "Median spacing" not in [fact.name for fact in section.facts]


def test_credit_says_what_is_known():
    assert credit_of(description()) == ""
    assert credit_of(description(license="CC0", reference="Us")) == "Data: Us. Licence: CC0."
