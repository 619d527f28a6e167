from __future__ import annotations

from pathlib import Path

import pytest

from segwright.dataset import Split, create_splits, grouped_splits, write_splits
from segwright.dataset.groups import leaking_groups, read_groups
from segwright.errors import DatasetError, MissingFileError, SettingsError

FRAMES = [f"patient{patient:03d}_frame{frame:02d}" for patient in range(1, 7) for frame in (1, 12)]
PATIENTS = {case_id: case_id[:10] for case_id in FRAMES}


@pytest.mark.parametrize("pattern", [r"(patient\d+)_", r"patient\d+", r"^([^_]+)"])
def test_a_regular_expression_names_the_patient(pattern: str) -> None:
    assert read_groups(pattern, reversed(FRAMES)) == PATIENTS


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(patient\d+", r"expected a regular expression, or a \.csv file, got missing \), unterminated"),
        (r"patient{99999999999}", r"expected a regular expression, or a \.csv file, got the repetition number is too"),
        (5000 * "(" + "p" + 5000 * ")", r"expected a regular expression, or a \.csv file, got maximum recursion depth"),
        (r"(patient00[1-3])_", r"expected a match in every case's id, got none in patient004_frame01, .* and 1 more"),
        (r"patient(\d*?)0", r"got none in patient001_frame01"),
        (r"patient\d+_frame\d+", r"got a group of its own for each case, such as 'patient001_frame01'"),
        (r"patient", r"got one group with all cases, such as 'patient' for"),
    ],
)
def test_an_expression_that_groups_nothing_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_groups(pattern, FRAMES)


def test_an_expression_that_explodes_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segwright.dataset.groups._SECONDS_TO_SEARCH", 1)
    with pytest.raises(SettingsError, match=r"\(a\+\)\+"):
        read_groups(r"(a+)+$", ["a" * 64 + "!", "b"])


@pytest.mark.parametrize(
    ("ending", "comma"), [(".csv", ","), (".csv", ";"), (".csv", "\t"), (".tsv", "\t"), (".tsv", ";")]
)
@pytest.mark.parametrize("headings", [("case", "group"), ("Case_ID", "Patient")])
def test_a_table_names_the_patient(tmp_path: Path, ending: str, comma: str, headings: tuple[str, str]) -> None:
    lines = [comma.join((PATIENTS[case_id], "left", case_id)) for case_id in FRAMES]
    path = tmp_path / f"groups{ending}"
    path.write_text("\ufeff\r\n" + "\r\n".join([comma.join((headings[1], "side", headings[0])), *lines, ""]))
    assert read_groups(str(path), FRAMES) == PATIENTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"g\.csv, line 1: expected the headings case and group, got an empty file"),
        ("name,group\n", r"line 1: expected the headings case and group, got name, group"),
        ("case,group\na,x\nb\n", r"line 3: expected a case and its group, got \['b'\]"),
        ("case,group\na,x\na,y\n", r"line 3: expected case a in one group, got 'x' and 'y'"),
        (
            "case,group,patient\na,x,p\nb,x,q\n",
            r"line 3: expected one column of groups, .* got group 'x' and patient 'q' for case b, .* Remove the column",
        ),
        ("patient,case,group\np,a,x\np,b,y\n", r"got group 'y' and patient 'p' for case b, which divide"),
        ("case,group\na,x\n", r"g\.csv: expected a line for each case .*, got none for b"),
        ("case,group\na,x\nb,x\nc,x\n", r"got lines for c\."),
        ("\ncase,group\n\na.mha,x\nb,x\n", r"got none for a; lines for a\.mha\. Correct the table; a case's id is"),
        ("\nname\n", r"line 2: expected the headings case and group, got name\."),
        ("case,group\n\na,x\nb\n", r"line 4: expected a case and its group, got \['b'\]"),
        ("case,group\na," + 200_000 * "x", r"line 2: expected a row of a table, got field larger than field limit"),
    ],
)
def test_a_malformed_table_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "g.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_groups(str(path), ["a", "b"])


def test_columns_that_group_alike_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("case,patient,group\na,p,x\nb,p,x\nc,q,y\n")
    assert read_groups(str(path), "abc") == {"a": "x", "b": "x", "c": "y"}


def test_a_file_that_is_no_table_is_not_taken_for_an_expression(tmp_path: Path) -> None:
    path = tmp_path / "groups.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(SettingsError, match=r"groups\.xlsx: expected a table that ends in \.csv or \.tsv"):
        read_groups(str(path), ["a"])


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.csv: expected a table of groups, got no such file"):
        read_groups(str(tmp_path / "none.csv"), ["a"])


def test_groups_on_both_sides_of_a_fold_are_found() -> None:
    assert leaking_groups(create_splits(FRAMES, PATIENTS), PATIENTS) == {}
    splits = [Split(tuple(FRAMES[1:]), (FRAMES[0],)), Split(tuple(FRAMES[2:]), tuple(FRAMES[:2]))]
    assert leaking_groups(splits, PATIENTS) == {0: ("patient001",)}


def test_folds_that_are_there_must_be_the_grouped_ones(tmp_path: Path) -> None:
    folder, raw_folder = tmp_path / "preprocessed", tmp_path / "raw"
    wanted = create_splits(FRAMES, PATIENTS)
    assert grouped_splits(folder, raw_folder, FRAMES, PATIENTS) == wanted
    for place in (folder, raw_folder):
        path = place / "splits_final.json"
        write_splits(path, wanted)
        assert grouped_splits(folder, raw_folder, FRAMES, PATIENTS) == wanted
        write_splits(path, create_splits(FRAMES))
        said = (
            rf"{place.name}/splits_final\.json: expected no splits, or .* got other folds, of which fold 0 has patient"
        )
        with pytest.raises(DatasetError, match=said):
            grouped_splits(folder, raw_folder, FRAMES, PATIENTS)
        path.unlink()
