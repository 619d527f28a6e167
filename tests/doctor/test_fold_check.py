from __future__ import annotations

import re
from typing import Any

from segwright.dataset import Split, create_splits
from segwright.dataset.groups import read_groups
from segwright.doctor.fold_check import SUGGESTED_GROUPING, check_folds, check_splits, folds_to_check, groups_by_name
from segwright.labels import Labels

LABELS = Labels.from_json({"background": 0, "organ": 1, "tumour": 2})
PATIENTS = [f"patient{patient:03d}_frame{frame:02d}" for patient in range(1, 7) for frame in (1, 12)]
WHOLE = {0.0: 90, 1.0: 10, 2.0: 1}


def warnings(counts: dict[str, dict[float, int]], **options: Any) -> list[str]:
    groups = options.get("groups")
    splits = folds_to_check(counts, options.get("splits"), groups)
    problems = check_folds(counts, LABELS, splits=splits, groups=groups)
    assert all(problem.severity == "warning" for problem in problems)
    return [problem.text for problem in problems]


def test_folds_with_every_class_are_not_remarked_upon() -> None:
    assert warnings({f"liver_{number:03d}": WHOLE for number in range(20)}) == []
    assert warnings({"a": WHOLE}) == []


def test_empty_label_maps_are_counted_on_one_line() -> None:
    counts = {f"case_{number}": WHOLE if number > 6 else {0.0: 101} for number in range(20)}
    (text,) = [text for text in warnings(counts) if text.startswith("labelsTr: 7 of 20 ")]
    assert "case_0, case_1, case_2, case_3, case_4 and 2" in text


def test_a_class_that_folds_miss_is_named_with_its_cases_and_folds() -> None:
    counts = {f"case_{number}": {0.0: 90, 1.0: 10} for number in range(10)}
    counts["case_3"] = WHOLE
    (text,) = warnings(counts)
    (fold,) = [number for number, split in enumerate(create_splits(counts)) if "case_3" in split.val]
    others = ", ".join(str(number) for number in range(5) if number != fold)
    assert "label 2 (tumour) is in 1 of 10 cases (case_3)" in text
    assert re.search(rf"fold {fold}\b.*fold {others}\b", text)
    everything = tuple(counts)
    (rare,) = warnings(counts, splits=[Split(everything, ("case_3",))])
    assert "label 2 (tumour) is in 1 of 10 cases (case_3)" in rare
    assert "fold" not in rare


def test_a_class_in_few_of_many_cases_is_rare_though_no_fold_lacks_it() -> None:
    counts = {f"case_{number:03d}": WHOLE if number % 50 == 0 else {0.0: 90, 1.0: 10} for number in range(400)}
    assert warnings(counts, splits=[]) == []
    counts["case_000"] = counts["case_050"] = counts["case_100"] = counts["case_150"] = {0.0: 90, 1.0: 10}
    (text,) = warnings(counts, splits=[])
    assert "label 2 (tumour) is in 4 of 400 cases (case_200, case_250, case_300, case_350)" in text
    assert "fold" not in text


def test_many_classes_that_folds_miss_are_one_line() -> None:
    bones = Labels.from_json({"background": 0, **{f"bone{value}": value for value in range(1, 41)}})
    counts = {f"case_{number}": {0.0: 90, float(1 + number): 9, 40.0: 1} for number in range(20)}
    problems = check_folds(counts, bones, splits=create_splits(counts), groups=None)
    (text,) = [problem.text for problem in problems]
    assert "20 of 40 classes" in text
    assert "1 (bone1), 2 (bone2), 3 (bone3), 4 (bone4), 5 (bone5) and 15 more" in text


def test_the_option_that_is_suggested_makes_the_groups_that_were_meant() -> None:
    assert read_groups(SUGGESTED_GROUPING, PATIENTS) == groups_by_name(PATIENTS)
    assert set(groups_by_name(PATIENTS).values()) == {f"patient{number:03d}" for number in range(1, 7)}
    visits = [f"sub-{subject:02d}_ses-{session}" for subject in range(9) for session in (1, 2)]
    assert read_groups(SUGGESTED_GROUPING, visits) == groups_by_name(visits)
    assert groups_by_name(visits)["sub-03_ses-2"] == "sub-03"


def test_names_of_likely_patients_are_reported_with_the_option_that_fixes_it() -> None:
    counts = dict.fromkeys(PATIENTS, WHOLE)
    (text,) = warnings(counts)
    assert "--group-by '^(.*?[0-9]+)[_-]'" in text
    groups = {case_id: case_id[:10] for case_id in PATIENTS}
    assert warnings(counts, groups=groups) == []
    assert warnings(counts, splits=create_splits(counts, groups)) == []


def test_other_names_suggest_nothing() -> None:
    for names in (
        [f"hippocampus_{number:03d}" for number in range(20)],
        [f"Task04_{number:03d}" for number in range(20)],
        [f"{year}_{number:03d}" for year in range(2010, 2016) for number in range(30)],
        [f"patient{number}_scan" for number in range(20)],
        [f"TCGA-{site:02d}-{patient}" for site in range(6) for patient in range(1000 * site, 1000 * site + 9)],
    ):
        assert warnings(dict.fromkeys(names, WHOLE)) == []


def test_a_splits_file_that_divides_a_patient_is_told() -> None:
    groups = {case_id: case_id[:10] for case_id in PATIENTS}
    (text,) = warnings(
        dict.fromkeys(PATIENTS, WHOLE), groups=groups, splits=[Split(tuple(PATIENTS[1:]), (PATIENTS[0],))]
    )
    assert text.startswith("splits_final.json: ")
    assert "(1 in fold 0" in text


def test_nothing_is_said_of_a_fold_with_cases_that_could_not_be_read() -> None:
    names = [f"case_{number}" for number in range(6)]
    read = {name: WHOLE for name in names[1:]}
    splits = create_splits(names)
    assert check_folds(read, LABELS, splits=splits, groups=None) == []
    assert check_folds(read, LABELS, splits=[Split(("case_0",), ("case_0",))], groups=None) == []


def test_folds_that_name_other_cases_or_a_case_on_both_sides_are_told() -> None:
    splits = [Split(("a", "b"), ("c",)), Split(("a", "gone", "lost"), ("a", "c"))]
    unknown, both = check_splits(["a", "b", "c"], splits, None)
    assert [problem.file for problem in (unknown, both)] == ["splits_final.json, fold 1"] * 2
    assert " gone, lost" in unknown.what
    assert both.what.endswith(" a")


def test_groups_that_are_too_few_to_make_folds_are_told() -> None:
    groups = {case_id: case_id[-2:] for case_id in PATIENTS}
    (problem,) = check_splits(PATIENTS, folds_to_check(PATIENTS, None, groups), groups)
    assert re.match(r"--group-by: .*\b5 groups.* 2\.", problem.text)
    assert list(check_splits(PATIENTS, [Split(tuple(PATIENTS[1:]), tuple(PATIENTS[:1]))], groups)) == []
    (problem,) = check_splits(PATIENTS, [Split(tuple(PATIENTS), ())], groups)
    assert "fold 0" in problem.text
    assert list(check_splits(["a", "b"], (), None)) == []
