"""The parse function of every name that becomes a part of a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.errors import DatasetError, PlanError
from segwright.names import LONGEST_NAME_BYTES, name_fault, parse_name, printable

GOOD = (
    "Dataset004_Hippocampus",
    "nnUNetTrainer__nnUNetPlans__3d_fullres",
    "amos_0001",
    "case 1 (left) +C",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001",
    "Müller-ü-日本-é",
    "a..b",
    "-x",
    "x" * LONGEST_NAME_BYTES,
)
BAD = (
    "",
    ".",
    "..",
    ".hidden",
    "/etc",
    "a/b",
    "../x",
    "a\\b",
    "C:x",
    "a\0b",
    "a\nb",
    "a\x1b[31m",
    "a\x7f",
    "a\x9b31m",
    "a\u202eb",
    "a\u2028b",
    "M\udcfcller",
    " a",
    "a ",
    "a\u00a0",
    "x" * (LONGEST_NAME_BYTES + 1),
    "é" * LONGEST_NAME_BYTES,
    None,
    3,
    ["a"],
)


@pytest.mark.parametrize("name", GOOD)
def test_names_of_real_projects_are_taken_as_they_are(name: str) -> None:
    assert parse_name(name, where="here", error=PlanError) == name
    assert name_fault(name) is None


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("error", [PlanError, DatasetError])
def test_what_could_lead_elsewhere_is_refused_by_the_callers_error(
    name: object, error: type[PlanError | DatasetError]
) -> None:
    with pytest.raises(error, match="key 'x'") as refused:
        parse_name(name, where="plans.json, key 'x'", error=error)
    assert str(refused.value) == printable(refused.value)
    assert name_fault(name)


@given(st.text())
def test_a_name_stays_in_its_folder_and_on_its_line(name: str) -> None:
    if name_fault(name) is None:
        folder = Path("/a/b")
        assert (folder / name).resolve().parent == folder
        assert printable(name) == name
        assert len(name.splitlines()) == 1


def test_printable_escapes_what_a_terminal_acts_on_and_keeps_lines() -> None:
    assert printable("a\n\tb\x1b[2J\r\x9b\u202e\udcff日") == "a\n\tb\\x1b[2J\\r\\x9b\\u202e\\udcff日"
