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
        (r"(patient\d+", "--group-by"),
        (r"patient{99999999999}", "--group-by"),
        (5000 * "(" + "p" + 5000 * ")", "--group-by"),
        (r"(patient00[1-3])_", "patient004_frame01.* 1 more"),
        (r"patient(\d*?)0", "patient001_frame01"),
        (r"patient\d+_frame\d+", "'patient001_frame01'"),
        (r"patient", "'patient'"),
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
        ("", r"g\.csv, line 1\b"),
        ("name,group\n", r"line 1\b.*name, group"),
        ("case,group\na,x\nb\n", r"line 3\b.*\['b'\]"),
        ("case,group\na,x\na,y\n", r"line 3\b.*'x'.*'y'"),
        ("case,group,patient\na,x,p\nb,x,q\n", r"line 3\b.*group 'x'.*patient 'q'.* b,"),
        ("patient,case,group\np,a,x\np,b,y\n", r"group 'y'.*patient 'p'.* b,"),
        ("case,group\na,x\n", r"g\.csv.* b\."),
        ("case,group\na,x\nb,x\nc,x\n", r"g\.csv.* c\."),
        ("\ncase,group\n\na.mha,x\nb,x\n", r"g\.csv.* a;.* a\.mha\."),
        ("\nname\n", r"line 2\b.*name"),
        ("case,group\n\na,x\nb\n", r"line 4\b.*\['b'\]"),
        ("case,group\na," + 200_000 * "x", r"line 2\b"),
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
    with pytest.raises(SettingsError, match=r"groups\.xlsx.*\.csv"):
        read_groups(str(path), ["a"])


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.csv"):
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
        with pytest.raises(DatasetError, match=rf"{place.name}/splits_final\.json.*fold 0.*patient"):
            grouped_splits(folder, raw_folder, FRAMES, PATIENTS)
        path.unlink()
