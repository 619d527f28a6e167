from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from imageio import v3 as imageio

from segwright.errors import WriteError
from segwright.report.content import (
    CasePicture,
    CaseScore,
    ClassScore,
    DataSection,
    EpochPoint,
    Fact,
    Headline,
    Missing,
    PlanSection,
    ReportContent,
    ScoreSection,
    Setting,
    StepTime,
    TrainingSection,
    View,
)
from segwright.report.page import dice_text, duration_text, render_report, write_report

NASTY = "<b>&\"'</b></style><script>alert(1)</script>"
VOID = {"meta", "img", "br", "hr", "input", "link"}
PNG = bytes(imageio.imwrite("<bytes>", np.zeros((4, 4), dtype=np.uint8), extension=".png"))


class Page(HTMLParser):
    """The elements of a page, with a check that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.open = []
        self.words = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def full_content():
    view = View(
        png=PNG,
        size_in_voxels=(4, 4),
        size_mm=(4.0, 8.0),
        caption="Axial, slice 3 of 9 along z",
        alt="Case a: outlines",
        reference_outline=(((0.5, 1.0), (2.0, 1.0), (0.5, 1.0)),),
        predicted_outline=(((1.0, 1.0), (3.0, 1.0), (1.0, 1.0)),),
        edges=("R", "A", "L", "P"),
    )
    scores = ScoreSection(
        title="test cases",
        cases_in_words="2 unseen test cases.",
        mean_foreground_dice=0.8,
        classes=(
            ClassScore("edema", 0.8, 0.8, 0.7, 0.9, 0.67, 2),
            ClassScore("core", math.nan, math.nan, math.nan, math.nan, math.nan, 0),
        ),
        cases=(CaseScore("a", 0.9, (0.9, math.nan)), CaseScore("b", 0.7, (0.7, math.nan))),
        pictures=(
            CasePicture("a", ("best",), 0.9, (("edema", 0.9), ("core", math.nan)), (view,)),
            CasePicture("b", ("median", "worst"), 0.7, (("edema", 0.7),), problem="image not found"),
        ),
    )
    epochs = tuple(
        EpochPoint(k, 0.5 - 0.1 * k, math.nan if k == 1 else 0.4, (0.1 * k, None), 0.1 * k, 0.05 * k, 0.01, 11.0)
        for k in range(4)
    )
    return ReportContent(
        title="Dataset001_Brain",
        created="1 May 2026",
        headline=Headline(0.8, 2, "unseen test cases"),
        scores=(scores,),
        data=DataSection(("Two cases.",), (Fact("Channels", "T1"),)),
        plan=PlanSection(("A small net.",), (Fact("Patch", "40 × 56 × 40 voxels", "note"),)),
        training=TrainingSection(
            settings=(Setting("Epochs", "12", "command line"),),
            totals=(Fact("Patches seen", "2,160"),),
            epochs=epochs,
            class_names=("edema", "core"),
            seconds=44.0,
            num_interruptions=1,
        ),
        steps=(StepTime("train", 171.0), StepTime("predict", 9.0)),
        environment=(Fact("Python", "3.11"),),
        credit="Data: Decathlon. Licence: CC-BY-SA 4.0.",
    )


def test_the_page_says_everything_there_is():
    text = Page(render_report(full_content())).text
    for words in (
        "Dataset001_Brain",
        "0.800 mean foreground Dice on 2 unseen test cases",
        "Dice, 2 cases",
        "Two cases.",
        "A small net.",
        "40 × 56 × 40 voxels",
        "command line",
        "2,160",
        "4 epochs in 44 s, interrupted and resumed once",
        "2 min 51 s",
        "3 min 0 s",
        "Licence: CC-BY-SA 4.0.",
        "Axial, slice 3 of 9 along z",
        "No picture: image not found",
    ):
        assert words in text, words


def test_nothing_is_loaded_from_elsewhere():
    text = render_report(full_content())
    page = Page(text)
    assert not re.search(r"(?:https?:)?//[a-z]", text, flags=re.IGNORECASE)
    assert "url(" not in text
    assert "@import" not in text
    assert page.all("link") == []
    assert all("src" not in script for script in page.all("script"))
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_the_page_can_be_read_without_seeing_it():
    page = Page(render_report(full_content()))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[1]["name"] == "viewport"
    assert all(image["alt"] for image in page.all("img"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert all("role" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_references_lead_somewhere():
    page = Page(render_report(full_content()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [link["href"][1:] for link in page.all("a")]
    wanted += [name for _, a in page.elements for name in a.get("aria-labelledby", "").split()]
    assert set(wanted) <= set(ids)


def test_not_a_number_is_told_as_such():
    page = Page(render_report(full_content()))
    assert "core n/a" in page.text
    assert not re.search(r"\bnan\b", page.text, flags=re.IGNORECASE)
    assert all("nan" not in path["d"] for path in page.all("path"))


def test_both_outlines_are_drawn_apart_by_colour_and_style():
    classes = [path["class"] for path in Page(render_report(full_content())).all("path")]
    assert "outline reference" in classes
    assert "outline prediction dashed" in classes


def test_names_are_never_taken_for_markup():
    content = full_content()
    section = content.scores[0]
    classes = tuple(replace(row, name=NASTY) for row in section.classes)
    pictures = tuple(replace(picture, case_id=NASTY, problem="") for picture in section.pictures)
    pictures = tuple(
        replace(picture, views=tuple(replace(v, alt=NASTY, caption=NASTY) for v in picture.views))
        for picture in pictures
    )
    nasty = replace(
        content,
        title=NASTY,
        credit=NASTY,
        scores=(replace(section, title=NASTY, classes=classes, pictures=pictures),),
        training=replace(content.training, class_names=(NASTY, NASTY)),
        missing={"data": Missing(NASTY, NASTY)},
    )
    text = render_report(nasty)
    page = Page(text)
    assert len(page.all("script")) == len(Page(render_report(content)).all("script")) == 1
    assert page.all("b") == []
    assert NASTY in page.text
    assert NASTY not in text
    assert page.all("img")[0]["alt"] == NASTY


def test_an_empty_report_tells_what_is_missing():
    names = ("scores", "data", "plan", "budget", "curves")
    content = ReportContent("Empty", missing={name: Missing(f"No {name}.", f"segwright make-{name}") for name in names})
    text = Page(render_report(content)).text
    for name in names:
        assert f"No {name}." in text
        assert f"segwright make-{name}" in text


def test_an_utterly_empty_report_is_a_page():
    assert "Empty" in Page(render_report(ReportContent("Empty"))).text


def test_a_training_without_any_finite_number_has_no_curves():
    content = ReportContent("E", training=TrainingSection(epochs=(EpochPoint(0, math.nan, None, (math.nan,)),)))
    assert Page(render_report(content)).all("figure") == []


def test_the_file_is_the_page(tmp_path):
    write_report(tmp_path / "report.html", full_content())
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_report(full_content())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_an_earlier_page_is_replaced_and_no_other_file(tmp_path):
    for before in ("", "<!DOCTYPE html><html></html>"):
        (tmp_path / "report.html").write_text(before)
        write_report(tmp_path / "report.html", full_content())
        assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_report(full_content())
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(WriteError, match=r"dataset\.json"):
        write_report(tmp_path / "dataset.json", full_content())
    assert (tmp_path / "dataset.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.99, "10.0 s"),
        (59.6, "1 min 0 s"),
        (252, "4 min 12 s"),
        (7500, "2 h 5 min"),
        (math.nan, "n/a"),
    ],
)
def test_durations(seconds, words):
    assert duration_text(seconds) == words


@pytest.mark.parametrize(("value", "text"), [(0.84349, "0.843"), (1, "1.000"), (math.nan, "n/a"), (None, "n/a")])
def test_dice_in_words(value, text):
    assert dice_text(value) == text
