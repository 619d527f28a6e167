from __future__ import annotations

import html
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from imageio import v3 as imageio

from segwright.dataset import DatasetDescription, find_cases
from segwright.evaluation import Summary, evaluate_folder
from segwright.fingerprint import INTENSITY_KEYS, Fingerprint
from segwright.io import reader_named
from segwright.report import ReportSources, StepTime, TestFolders, collect_report, render_report
from segwright.report.cases import CaseFiles
from segwright.report.picture import write_overview
from segwright.report.recorded import epochs_of
from segwright.results import ModelFolder

READER = reader_named("NaturalImage2DIO")
LABELS = {"background": 0, "cell": 1, "nucleus": 2}


def write_dataset(folder: Path, num_cases: int):
    """Grey images of discs in discs, with label maps."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    y, x = np.mgrid[:24, :30]
    for number in range(num_cases):
        distance = np.hypot(y - 12, x - 10 - number)
        labels = (distance < 8).astype(np.uint8) + (distance < 4)
        imageio.imwrite(folder / "imagesTr" / f"c{number}_0000.png", labels * 90)
        imageio.imwrite(folder / "labelsTr" / f"c{number}.png", labels)
    description = {
        "channel_names": {"0": "light"},
        "labels": LABELS,
        "numTraining": num_cases,
        "file_ending": ".png",
        "licence": "CC0",
        "reference": "Drawn for a test.",
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def write_predictions(references: Path, folder: Path, case_ids):
    folder.mkdir(parents=True)
    for place, case_id in enumerate(case_ids):
        labels = imageio.imread(references / f"{case_id}.png")
        imageio.imwrite(folder / f"{case_id}.png", np.roll(labels, place, axis=1))
    evaluate_folder(
        folder,
        references,
        labels=DatasetDescription.read(references.parent / "dataset.json").labels,
        file_ending=".png",
        reader=READER,
        case_ids=case_ids,
    ).write(folder / "summary.json")


@pytest.fixture
def project(tmp_path):
    """A project with everything but a plan."""
    raw, model = tmp_path / "raw" / "Dataset009_Cells", tmp_path / "results" / "nnUNetTrainer__nnUNetPlans__2d"
    write_dataset(raw, 5)
    fold, preprocessed = model / "fold_0", tmp_path / "preprocessed" / "Dataset009_Cells"
    write_predictions(raw / "labelsTr", fold / "validation", ["c3", "c4"])
    write_predictions(raw / "labelsTr", tmp_path / "predictions", ["c0", "c1", "c2"])
    shutil.copy(raw / "dataset.json", model)
    preprocessed.mkdir(parents=True)
    statistics = dict.fromkeys(INTENSITY_KEYS, 1.0)
    fingerprint = Fingerprint(((999.0, 1.0, 1.0),) * 5, ((1, 24, 30),) * 5, {"0": statistics}, 1.0)
    fingerprint.write(preprocessed / "dataset_fingerprint.json")
    settings = {
        "recipe": {"name": "short", "source": "default", "summary": "..."},
        "settings": {"num_epochs": {"value": 2, "source": "command line"}},
        "totals": {"iterations": 20, "passes_over_training_cases": 53.3333},
        "environment": {"torch": "2.9", "device_name": "", "threads": 2},
    }
    (fold / "settings.json").write_text(json.dumps(settings))
    epochs = [{"event": "epoch", "epoch": k, "train_loss": 0.5 - k, "pseudo_dice": [0.1, math.nan]} for k in range(2)]
    (fold / "training_log.jsonl").write_text("\n".join(json.dumps(line) for line in [{"event": "start"}, *epochs]))
    test = TestFolders(tmp_path / "predictions", raw / "labelsTr", raw / "imagesTr")
    return ReportSources("Dataset009_Cells", raw=raw, preprocessed=preprocessed, model=ModelFolder(model), test=test)


def test_a_whole_project_is_gathered(project):
    content = collect_report(project, created="today", steps=[StepTime("train", 3.0)], environment=[("cores", "2")])
    assert set(content.missing) == {"plan"}
    assert content.headline.num_cases == 3
    assert content.headline.cases_in_words == "unseen test cases"
    assert [section.title for section in content.scores] == ["test cases", "validation cases of fold 0"]
    assert [row.name for row in content.scores[0].classes] == ["cell", "nucleus"]
    assert [(p.case_id, p.roles, p.problem) for p in content.scores[0].pictures] == [
        ("c0", ("best",), ""),
        ("c1", ("median",), ""),
        ("c2", ("worst",), ""),
    ]
    assert content.scores[1].pictures == ()
    assert [fact.name for fact in content.environment] == ["cores", "Torch", "Threads"]
    assert content.training.settings[1].value == "2"
    assert [point.train_loss for point in content.training.epochs] == [0.5, -0.5]
    assert all(part in content.credit for part in ("Drawn for a test", "CC0"))
    assert "1 × 24 × 30 voxels" in content.data.paragraphs[1]
    assert "mm" not in " ".join(content.data.paragraphs)
    assert "segwright plan Dataset009_Cells" in render_report(content)


def test_validation_is_the_headline_where_no_test_cases_are(project):
    content = collect_report(ReportSources("D", raw=project.raw, model=project.model))
    assert content.headline.cases_in_words == "validation cases"
    assert [picture.case_id for picture in content.scores[0].pictures] == ["c3", "c4"]
    assert content.scores[0].pictures[1].roles == ("median", "worst")
    assert content.scores[0].pictures[0].views


def test_nothing_at_all_says_what_makes_it():
    content = collect_report(ReportSources("Dataset009_Cells"))
    assert content.headline is None
    assert set(content.missing) == {"scores", "data", "plan", "budget", "curves"}
    assert content.missing["curves"].command == "segwright train Dataset009_Cells 3d_fullres 0"
    render_report(content)


def test_missing_folders_are_no_error(tmp_path):
    nowhere = tmp_path / "nowhere"
    sources = ReportSources("D", nowhere, nowhere, ModelFolder(nowhere), "all", TestFolders(nowhere, nowhere, nowhere))
    assert collect_report(sources).scores == ()


@pytest.mark.parametrize(
    ("name", "checkpoint", "command"),
    [
        ("nnUNetTrainer__nnUNetPlans__2d", None, "segwright train D 2d 0"),
        ("nnUNetTrainer__nnUNetPlans__2d", "checkpoint_final.pth", "segwright train D 2d 0 --continue"),
        ("nnUNetTrainer__Other__2d", "checkpoint_latest.pth", "segwright train D 2d 0 --plans Other --continue"),
        ("Mine__nnUNetPlans__2d", None, "segwright train D 2d 0 --trainer FILE.py:Mine"),
    ],
)
def test_a_training_that_has_begun_is_continued_not_begun_anew(project, name, checkpoint, command):
    model = project.model.path.rename(project.model.path.with_name(name))
    (model / "fold_0" / "validation" / "summary.json").unlink()
    if checkpoint is not None:
        (model / "fold_0" / checkpoint).touch()
    content = collect_report(ReportSources("D", raw=project.raw, model=ModelFolder(model)))
    assert content.missing["scores"].command == command


def test_validation_cases_that_were_trained_on_are_said_to_be(project):
    splits = [{"train": ["c0", "c1", "c3"], "val": ["c3", "c4"]}]
    (project.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    content = collect_report(replace(project, test=None))
    assert "1 of " in content.scores[0].cases_in_words


def test_damaged_files_are_told_and_the_rest_goes_on(project):
    (project.model.path / "fold_0" / "settings.json").write_text("{")
    (project.preprocessed / "dataset_fingerprint.json").write_text("[]")
    (project.model.path / "plans.json").write_text("{}")
    (project.test.predictions / "summary.json").write_text("{}")
    content = collect_report(project)
    assert "settings.json" in content.missing["budget"].what
    assert "dataset_fingerprint.json" in content.missing["data"].what
    assert "plans.json" in content.missing["plan"].what
    assert "summary.json" in content.missing["scores"].what
    assert content.headline.cases_in_words == "validation cases"
    render_report(content)


def test_a_case_whose_files_are_gone_has_scores_but_no_picture(project):
    (project.raw / "imagesTr" / "c2_0000.png").unlink()
    (project.test.predictions / "c1.png").write_bytes(b"torn")
    pictures = {picture.case_id: picture for picture in collect_report(project).scores[0].pictures}
    assert pictures["c0"].views
    assert "c2" in pictures["c2"].problem
    assert "c1.png" in pictures["c1"].problem


def test_pictures_that_cannot_be_made_are_missed_aloud(project):
    plain = replace(project, test=replace(project.test, images=None))
    assert collect_report(plain).missing["pictures"].what
    shutil.rmtree(project.test.images)
    content = collect_report(project)
    assert "imagesTr" in content.missing["pictures"].what
    assert content.missing["pictures"].what in html.unescape(render_report(content))
    assert content.headline.num_cases == 3


def test_scores_of_trained_cases_are_called_by_that_name(project):
    (project.model.path / "fold_0").rename(project.model.path / "fold_all")
    content = collect_report(replace(project, fold="all", test=None))
    assert content.headline.cases_in_words == "training cases"
    assert "trained on" in content.scores[0].cases_in_words


def test_a_single_case_is_said_in_the_singular(project):
    for case_id in ("c1", "c2"):
        (project.test.predictions / f"{case_id}.png").unlink()
    shutil.rmtree(project.test.predictions)
    write_predictions(project.raw / "labelsTr", project.test.predictions, ["c1"])
    content = collect_report(project)
    assert content.headline.cases_in_words == "unseen test case"
    assert content.scores[0].pictures[0].roles == ("best", "median", "worst")


def test_a_resumed_run_takes_back_later_epochs():
    def epoch(number, loss):
        return {"event": "epoch", "epoch": number, "train_loss": loss}

    events = [epoch(0, 9.0), {"event": "start"}, epoch(0, 1.0), epoch(1, 0.9), epoch(2, 0.8)]
    events += [{"event": "interrupted"}, {"event": "resume", "epoch": 1}, epoch(1, 0.7)]
    assert [(point.epoch, point.train_loss) for point in epochs_of(events)] == [(0, 1.0), (1, 0.7)]


def test_the_overview_is_one_picture(project, tmp_path):
    test = project.test
    cases = find_cases(test.images, ".png", 1)
    files = CaseFiles(
        {case.case_id: case for case in cases}, test.predictions, test.references, ".png", READER, ("light",)
    )
    write_overview(tmp_path / "overview.png", Summary.read(test.predictions / "summary.json"), files)
    pixels = imageio.imread(tmp_path / "overview.png")
    assert pixels.shape[1] == 924
    for colour in ((0x22, 0xD3, 0xEE), (0xFF, 0x9D, 0x2E)):
        assert (np.abs(pixels[..., :3].astype(int) - colour).max(axis=-1) < 8).sum() > 100


def test_the_overview_needs_a_score(project, tmp_path):
    summary = Summary(metric_per_case=(), mean={}, foreground_mean={})
    files = CaseFiles({}, tmp_path, tmp_path, ".png", READER, ())
    with pytest.raises(ValueError, match="case"):
        write_overview(tmp_path / "overview.png", summary, files)
