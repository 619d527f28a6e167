from __future__ import annotations

from pathlib import Path

from segwright.dataset import new_description
from segwright.dataset.description import DatasetDescription
from segwright.explain.explanation import explain_decisions
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Plan
from segwright.report.content import ReportContent
from segwright.report.page import render_report
from segwright.report.words import credit_of, describe_data, describe_plan
from segwright.task import Task

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


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


def test_the_plan_is_the_table_of_explain_with_its_details_folded():
    data = "Dataset903_Hippo"
    task = Task.of(
        Plan.read(GOLDEN / f"{data}__nnUNetPlans.json"),
        "3d_fullres",
        DatasetDescription.read(GOLDEN / f"{data}__dataset.json"),
    )
    explanation = explain_decisions(task, Fingerprint.read(GOLDEN / f"{data}__dataset_fingerprint.json"))
    section = describe_plan(task.configuration, "nnUNetPlans", explanation)
    assert section.rows == explanation.rows
    assert len(section.details) == len(explanation.paragraphs)
    page = render_report(ReportContent("a title", plan=section))
    table, details = page.index(f"<td>{explanation.rows[0].value}</td>"), page.index("<details>")
    assert table < details < page.index(explanation.paragraphs[-1].text) < page.index("</details>")


def test_a_plan_without_an_explanation_is_shown_by_its_numbers():
    plan = Plan.read(GOLDEN / "Dataset903_Hippo__nnUNetPlans.json")
    section = describe_plan(plan.configuration("3d_fullres"), "nnUNetPlans")
    assert {fact.name: fact.value for fact in section.facts}["Patch"] == "40 × 56 × 40 voxels"
    assert section.rows == section.details == ()
