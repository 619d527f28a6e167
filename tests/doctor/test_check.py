from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from segwright.doctor.check import check
from segwright.doctor.label_check import mapping_remedy
from segwright.errors import MissingFileError
from segwright.labels import Labels

if TYPE_CHECKING:
    from raw_folder import RawFolder

SHAPE = (4, 6, 5)


def texts(raw: RawFolder, severity: str = "error") -> list[str]:
    report = check(raw.folder)
    assert report.ok is (not report.errors)
    return [problem.text for problem in report.problems if problem.severity == severity]


def test_a_sound_data_set_has_no_problems(raw: RawFolder) -> None:
    report = check(raw.folder)
    assert report.problems == ()
    assert report.ok
    assert (report.name, report.num_cases, report.reader_name) == ("Dataset007_Test", 3, "SimpleITKIO")


def nan_in_image(raw: RawFolder) -> None:
    voxels = np.zeros(SHAPE)
    voxels[0, 0, :3] = np.nan, np.inf, -np.inf
    raw.write_image("b", 1, voxels)


def spoil_labels(raw: RawFolder) -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[0, 0, :2] = np.nan
    raw.write_labels("b", voxels)


def infinite_labels(raw: RawFolder) -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[0, 0, :3] = np.inf, -np.inf, np.inf
    raw.write_labels("b", voxels)


def stray_label(raw: RawFolder) -> None:
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3
    voxels[0, 0, :2] = 9
    raw.write_labels("b", voxels)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (nan_in_image, r"case b, imagesTr/b_0001\.mha: .* 3 voxels of channel 1 "),
        (spoil_labels, r"case b, labelsTr/b\.mha: .* 2 voxels .*NaN"),
        (infinite_labels, r"case b, labelsTr/b\.mha: .* 3 voxels .*infinite"),
        (
            stray_label,
            r"case b, labelsTr/b\.mha: .* 0, 1, 2, .* 9 \(2 voxels\)\. .*dataset\.json.* 3 .* 9 -> 3 ",
        ),
        (
            lambda raw: raw.write_image("b", 1, np.zeros((4, 6, 4))),
            r"case b, imagesTr/b_0001\.mha: .*shape.* b_0000\.mha, \(4, 6, 5\).*\(4, 6, 4\)\.",
        ),
        (
            lambda raw: raw.write_image("b", 1, np.zeros(SHAPE), spacing=(1.0, 1.0, 2.0)),
            r"case b, imagesTr/b_0001\.mha: .*spacing.* b_0000\.mha, \(3\.0, 1\.0, 1\.0\).*\(2\.0, 1\.0, 1\.0\)\.",
        ),
        (
            lambda raw: raw.write_labels("b", np.zeros((3, 6, 5), np.uint8)),
            r"case b, labelsTr/b\.mha: .*shape \(4, 6, 5\).*\(3, 6, 5\)\.",
        ),
        (
            lambda raw: raw.write_labels("b", np.zeros(SHAPE, np.uint8), spacing=(1.0, 2.0, 3.0)),
            r"case b, labelsTr/b\.mha: .*spacing \(3\.0, 1\.0, 1\.0\).*\(3\.0, 2\.0, 1\.0\)\.",
        ),
        (
            lambda raw: raw.image("b", 0).write_bytes(b""),
            r"case b, imagesTr/b_0000\.mha: ",
        ),
        (
            lambda raw: raw.labels("b").write_bytes(b"x" * 999),
            r"case b, labelsTr/b\.mha: .*MetaImage",
        ),
        (
            lambda raw: raw.describe(numTraining=7),
            r"dataset\.json, key 'numTraining': .*\b3\b.*\b7\b",
        ),
        (
            lambda raw: raw.describe(overwrite_image_reader_writer="MyIO"),
            "image reader: .*NaturalImage2DIO, .*'MyIO'",
        ),
        (
            lambda raw: raw.describe(labels={"background": 0, "one": 1, "two": 2, "ten": 10}),
            r"dataset\.json: .* 0, 1, 2, 10\. .* 10 -> 3.*segwright check --fix",
        ),
    ],
)
def test_each_kind_of_problem_is_told(raw: RawFolder, spoil: Callable[[RawFolder], Any], said: str) -> None:
    spoil(raw)
    (text,) = texts(raw)
    assert re.match(said, text), text


def test_a_truncated_file_is_told(raw: RawFolder) -> None:
    whole = raw.image("b", 1).read_bytes()
    raw.image("b", 1).write_bytes(whole[:-10])
    (text,) = texts(raw)
    assert text.startswith("case b, imagesTr/b_0001.mha: ")


def test_all_problems_of_all_cases_are_told_at_once_in_order(raw: RawFolder) -> None:
    raw.image("a", 0).write_text("rubbish")
    raw.image("a", 1).write_text("rubbish")
    raw.labels("a").write_text("rubbish")
    nan_in_image(raw)
    raw.write_labels("b", np.full((3, 6, 5), 9))
    raw.labels("c").unlink()
    shutil.copy(raw.labels("b"), raw.labels("z"))
    (raw.folder / "imagesTr" / "d.mha").write_text("")
    report = check(raw.folder)
    found = [(problem.severity, problem.case_id, problem.file) for problem in report.problems]
    assert found == [
        ("error", None, "dataset.json, key 'numTraining'"),
        ("error", None, "imagesTr/d.mha"),
        ("error", "a", "imagesTr/a_0000.mha"),
        ("error", "a", "imagesTr/a_0001.mha"),
        ("error", "a", "labelsTr/a.mha"),
        ("error", "b", "imagesTr/b_0001.mha"),
        ("error", "b", "labelsTr/b.mha"),
        ("error", "b", "labelsTr/b.mha"),
        ("error", "c", "labelsTr/c.mha"),
        ("error", "z", "labelsTr/z.mha"),
    ]
    assert not report.ok


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_a_header_that_cannot_be_meant_is_a_warning_with_the_file(raw: RawFolder) -> None:
    replace_in(raw.image("b", 1), b"CenterOfRotation =", b"CenterOfRotatiom =")
    raw.labels("c").write_bytes(raw.labels("c").read_bytes() + bytes(8))
    report = check(raw.folder)
    assert report.ok
    found = [(problem.kind, problem.case_id, problem.file) for problem in report.warnings]
    assert found == [("header", "b", "imagesTr/b_0001.mha"), ("header", "c", "labelsTr/c.mha")]
    assert "CenterOfRotatiom" in report.warnings[0].what


def test_a_geometry_that_would_be_made_up_is_an_error(raw: RawFolder) -> None:
    replace_in(raw.image("b", 1), b"ElementSpacing =", b"ElementSpacinf =")
    replace_in(raw.labels("c"), b"ElementSpacing =", b"ElementSpacinf =")
    found = [(problem.kind, problem.case_id, problem.file) for problem in check(raw.folder).errors]
    assert found == [("unreadable", "b", "imagesTr/b_0001.mha"), ("geometry", "c", "labelsTr/c.mha")]


def test_what_lies_elsewhere_or_never_occurs_is_a_warning(raw: RawFolder) -> None:
    raw.write_image("b", 1, np.random.default_rng(9).normal(size=SHAPE), origin=(0.0, 0.0, 9.0))
    raw.write_labels("c", (np.arange(np.prod(SHAPE)).reshape(SHAPE) + 2) % 3, origin=(1.0, 0.0, 0.0))
    raw.describe(labels={"background": 0, "one": 1, "two": 2, "three": 3})
    report = check(raw.folder)
    assert report.ok
    never, channel, labels = (problem.text for problem in report.warnings)
    assert "label 3 (three)" in never
    assert re.match(r"case b, imagesTr: b_0001\.mha .*b_0000\.mha.*\(0, 0, 9\)", channel)
    assert re.match(r"case c, labelsTr/c\.mha: .*\+1 voxel along x.* 80%", labels)
    assert "--fix" not in labels  # as it fits voxel for voxel


def test_classes_by_the_thousand_that_never_occur_are_one_warning(raw: RawFolder) -> None:
    raw.describe(labels={"background": 0, **{f"l{value}": value for value in range(1, 5000)}})
    (never,) = [problem for problem in check(raw.folder).warnings if problem.kind == "class_unused"]
    assert "l5" in never.text


def test_a_label_map_that_its_header_mirrors_is_told(raw: RawFolder) -> None:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[:, :2] = 1
    raw.write_labels("b", voxels, direction=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0), origin=(0.0, 5.0, 0.0))
    (problem,) = [problem for problem in check(raw.folder).warnings if problem.kind == "position"]
    assert re.search("mirrored along y .* 100%", problem.what)
    assert "segwright check --fix NEW_FOLDER" in problem.remedy
    raw.write_labels("b", voxels, direction=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    (problem,) = [problem for problem in check(raw.folder).warnings if problem.kind == "position"]
    assert re.search("mirrored along y .*-5 voxels along y.* 50%", problem.what)


def test_a_header_that_was_rounded_is_not_remarked_upon_and_one_that_is_tilted_is(raw: RawFolder) -> None:
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3
    raw.write_labels("a", voxels, origin=(0.004, 0.0, 0.0))
    assert check(raw.folder).problems == ()
    tilt = 0.009
    along_y = (1.0, 0.0, 0.0, 0.0, np.cos(tilt), -np.sin(tilt), 0.0, np.sin(tilt), np.cos(tilt))
    raw.write_labels("a", voxels, direction=along_y)
    (problem,) = check(raw.folder).problems
    assert " 0.081 voxels" in problem.what


def test_what_only_all_cases_together_show_is_told(raw: RawFolder) -> None:
    for channel in range(2):
        shutil.copyfile(raw.image("a", channel), raw.image("c", channel))
    raw.write_labels("b", np.zeros(SHAPE, np.uint8))
    report = check(raw.folder)
    empty, copy = report.warnings
    assert (empty.kind, empty.case_ids, empty.file) == ("label_map_empty", ("b",), "labelsTr")
    assert (copy.kind, copy.case_id, copy.file) == ("duplicate", "c", "imagesTr")


def test_every_wrong_key_of_dataset_json_is_told(raw: RawFolder) -> None:
    raw.describe(numTraining="3", file_ending=5, channel_names=None)
    report = check(raw.folder)
    assert [problem.text.split(":")[0] for problem in report.errors] == [
        "dataset.json, key 'channel_names'",
        "dataset.json, key 'file_ending'",
        "dataset.json, key 'numTraining'",
    ]
    (raw.folder / "dataset.json").write_text("{")
    (text,) = texts(raw)
    assert "dataset.json, line 1, column 2: " in text


def test_channels_listed_out_of_their_order_are_told(raw: RawFolder) -> None:
    raw.describe(channel_names={"1": "T2", "0": "CT"})
    (said,) = [text for text in texts(raw, "warning") if "key 'channel_names'" in text]
    assert " 1, 0. " in said


def test_a_missing_folder_is_a_problem_a_missing_data_set_an_error(raw: RawFolder) -> None:
    shutil.rmtree(raw.folder / "labelsTr")
    assert any("labelsTr: " in text for text in texts(raw))
    (raw.folder / "dataset.json").unlink()
    with pytest.raises(MissingFileError, match=r"dataset\.json"):
        check(raw.folder)


def test_a_program_learns_the_kind_of_each_finding_and_all_its_cases(raw: RawFolder) -> None:
    for number in range(9):
        case_id = f"more{number}"
        for channel in range(2):
            raw.write_image(case_id, channel, np.random.default_rng(50 + number).normal(size=SHAPE))
        raw.write_labels(case_id, np.zeros(SHAPE, np.uint8))
    raw.image("more8", 1).unlink()
    raw.describe(numTraining=11)
    problems = json.loads(json.dumps(check(raw.folder).to_json()))["problems"]
    found = {problem["kind"]: problem for problem in problems}
    assert set(found) == {"label_map_empty", "class_not_in_fold", "channels_alike", "files"}
    assert found["label_map_empty"]["case_ids"] == [f"more{number}" for number in range(8)]
    assert "more4 and 3 more" in found["label_map_empty"]["what"]
    assert [problem["case_id"] for problem in problems if problem["kind"] == "channels_alike"] == [
        f"more{number}" for number in range(8)
    ]


def test_workers_find_the_same_and_progress_is_told(raw: RawFolder) -> None:
    nan_in_image(raw)
    stray_label(raw)
    calls: list[tuple[str, int, int]] = []
    report = check(raw.folder, workers=2, progress=lambda *call: calls.append(call))
    assert report == check(raw.folder)
    assert calls == [("checking cases", done, 3) for done in range(4)]


def test_the_report_is_plain_json(raw: RawFolder) -> None:
    stray_label(raw)
    value = json.loads(json.dumps(check(raw.folder).to_json()))
    assert value["ok"] is False
    assert value["num_cases"] == 3
    assert value["reader"] == "SimpleITKIO"
    assert [(problem["severity"], problem["case_id"]) for problem in value["problems"]] == [("error", "b")]


def test_pictures_whose_labels_are_0_and_255_get_their_mapping(picture_folder: Callable[..., Path]) -> None:
    from imageio import v3 as imageio

    description = {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "membrane": 1},
        "numTraining": 2,
        "file_ending": ".png",
    }
    folder = picture_folder(description, (8, 9))
    for case_id in ("p", "q"):
        imageio.imwrite(
            folder / "labelsTr" / f"{case_id}.png", (np.arange(72).reshape(8, 9) % 2 * 255).astype(np.uint8)
        )
    report = check(folder)
    assert [problem.case_id for problem in report.errors] == ["p", "q"]
    assert re.search(r" 0, 1, .* 255 \(36 voxels\)", report.errors[0].what)
    assert re.search(r" 255 -> 1;.* segwright check --fix NEW_FOLDER", report.errors[0].remedy)


BINARY = Labels.from_json({"background": 0, "a": 1})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({0, 255}, " 255 -> 1; segwright check --fix"),
        ({7, 9}, " 7 -> 0, 9 -> 1; segwright check --fix"),
        ({0, 1, 255}, ' 255 -> 2 .*"ignore": 2'),
        ({0, 1, 2}, r"dataset\.json as 2, "),
        ({0, 1, 2, 5}, r"dataset\.json as 2, 3 .* 5 -> 3 "),
        ({0, 0.5, 1}, "nearest-neighbour"),
        ({-1, 0, 1}, "nearest-neighbour"),
        (set(range(5000)), "nearest-neighbour"),
        (set(range(50)), " 50 values"),
    ],
)
def test_the_remedy_follows_from_the_values_found(found: set[float], said: str) -> None:
    assert re.search(said, mapping_remedy(frozenset(found), BINARY))


def test_255_beside_known_labels_may_be_the_absent_one_or_what_nobody_annotated() -> None:
    found = frozenset({0, 1, 255})
    either = mapping_remedy(found, Labels.from_json({"background": 0, "a": 1, "b": 2}))
    assert re.search(' 255 -> 3 .*"ignore": 3;.*label 2.* 255 -> 2', either)
    mapped = mapping_remedy(found, Labels.from_json({"background": 0, "a": 1, "ignore": 2}))
    assert " 255 -> 2; segwright check --fix" in mapped


def test_a_torn_splits_file_hides_nothing_else(raw: RawFolder) -> None:
    stray_label(raw)
    path = raw.folder / "splits_final.json"
    path.write_text("[{")
    first, second = check(raw.folder, splits_file=path).errors
    assert (first.kind, second.kind) == ("splits", "labels_undeclared")
    assert first.text.startswith(f"{path}, line 1, column 3: ")


def test_listed_files_are_named_by_their_own_folder_and_once(raw: RawFolder) -> None:
    shutil.move(raw.folder / "imagesTr", raw.folder / "scans")
    shutil.move(raw.folder / "labelsTr", raw.folder / "masks")
    (raw.folder / "masks" / "a.mha").write_bytes(b"torn")
    listed = {name: {"images": [f"scans/{name}_0000.mha"], "label": f"masks/{name}.mha"} for name in raw.case_ids}
    raw.describe(dataset=listed)
    first, second, *_ = texts(raw)
    assert first.startswith("case a, masks/a.mha: ")
    assert re.match(r"case a, scans/a_0000\.mha: .* 2 channels.* 1\.", second)


def test_a_description_that_is_no_json_is_named_once(raw: RawFolder) -> None:
    path = raw.folder / "dataset.json"
    path.write_text("{")
    (text,) = texts(raw)
    assert text.startswith(f"{path}, line 1, column 2: ")
