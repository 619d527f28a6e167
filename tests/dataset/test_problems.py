from __future__ import annotations

from dataclasses import replace

from segwright.dataset.problems import Problem, in_brief


def undeclared(case_id: str, count: int) -> Problem:
    what = f"expected the declared labels 0, 1, got 255 ({count} voxels)"
    return Problem("error", "labels_undeclared", case_id, f"labelsTr/{case_id}.png", what, "Map 255 -> 1.")


def misnamed(name: str) -> Problem:
    return Problem("error", "files", None, f"imagesTr/{name}", f"expected a name like CASE_0000.png, got '{name}'", "")


def test_what_many_cases_have_in_common_is_one_line() -> None:
    lines = in_brief(undeclared(f"case{number}", 30 + number) for number in range(200))
    names = ", ".join(f"case{number}" for number in range(1, 200))
    (line,) = lines
    assert line.text.startswith(f"case case0, labelsTr/case0.png: {undeclared('case0', 30).what}; ")
    assert line.text.endswith(f" 199 other cases: {names}. Map 255 -> 1.")
    assert lines[0].case_ids == tuple(f"case{number}" for number in range(200))


def test_of_many_warnings_the_first_cases_are_named() -> None:
    (line,) = in_brief(replace(undeclared(f"case{number}", 30), severity="warning") for number in range(200))
    assert " 199 other cases: case1, case2, case3, case4, case5 and 194 more. Map" in line.text
    assert len(line.case_ids) == 200


def test_what_few_cases_have_in_common_stays_as_it_is() -> None:
    problems = [undeclared(f"case{number}", 30) for number in range(5)]
    assert in_brief(problems) == problems


def test_files_without_a_case_and_unlike_findings_are_kept_apart() -> None:
    other = Problem("error", "unreadable", "case3", "labelsTr/case3.png", "expected a PNG file, got an empty one", "")
    whole = Problem("warning", "orientation", None, "imagesTr", "expected one orientation, got two", "")
    names = [misnamed(f"scan{number}.png") for number in range(7)]
    lines = in_brief([whole, *names, *(undeclared(f"case{number}", 1) for number in range(6)), other])
    assert lines[0] == whole
    assert " 6 other files: scan1.png, scan2.png" in lines[1].what
    assert " 5 other cases: case1, case2" in lines[2].what
    assert lines[3:] == [other]
