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
    for part in ("1 training case ", "2 channels", "FLAIR", "T1c", "2 classes", "whole", "core"):
        assert part in section.paragraphs[0]
    assert "ignore" in section.paragraphs[1]
    assert {fact.name: fact.value for fact in section.facts}["Classes"] == "whole (1 + 2), core (2)"


def test_measured_sizes_tell_median_range_and_thick_slices():
    spacings = ((5.0, 1.0, 1.0), (5.0, 1.5, 1.5), (10.0, 1.5, 1.5))
    section = describe_data(description(), Fingerprint(spacings, ((9, 200, 180),) * 3, {}, 1.0))
    for part in ("9 × 200 × 180 voxels", "5 × 1.5 × 1.5 mm", "3.3 times"):
        assert part in section.paragraphs[-1]
    facts = {fact.name: fact for fact in section.facts}
    assert all(part in facts["Median spacing"].note for part in ("5 × 1 × 1", "10 × 1.5 × 1.5 mm"))
    assert "×" not in facts["Median shape"].note


def test_images_without_spacing_are_not_given_one():
    section = describe_data(description(), Fingerprint(((999.0, 1.0, 1.0),), ((1, 584, 565),), {}, 1.0))
    assert "1 × 584 × 565 voxels" in section.paragraphs[-1]
    assert "mm" not in section.paragraphs[-1]
    assert "Median spacing" not in [fact.name for fact in section.facts]


def test_credit_says_what_is_known():
    assert credit_of(description()) == ""
    credit = credit_of(description(license="CC0", reference="Us"))
    assert all(part in credit for part in ("CC0", "Us"))
