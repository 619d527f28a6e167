"""What a report says, as plain data: `page.write_report` only lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from segwright.explain.words import Row

Role = Literal["best", "median", "worst"]
Polyline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Headline:
    """The one number: a mean foreground Dice, of how many cases, and of which."""

    mean_foreground_dice: float
    num_cases: int
    cases_in_words: str


@dataclass(frozen=True)
class Fact:
    """A named value with an optional note, for the tables of facts."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class DataSection:
    """The data set in words."""

    paragraphs: tuple[str, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class PlanSection:
    """The plan: its decisions with their reasons and folded details, or in words and numbers."""

    paragraphs: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    title: str = ""
    rows: tuple[Row, ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A resolved setting of training and where it came from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class EpochPoint:
    """One epoch of training_log.jsonl; a number that the log lacks is None."""

    epoch: int
    train_loss: float | None = None
    val_loss: float | None = None
    pseudo_dice: tuple[float | None, ...] = ()
    mean_pseudo_dice: float | None = None
    ema_pseudo_dice: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrainingSection:
    """The budget that a training had and how it went."""

    settings: tuple[Setting, ...] = ()
    totals: tuple[Fact, ...] = ()
    epochs: tuple[EpochPoint, ...] = ()
    class_names: tuple[str, ...] = ()
    seconds: float | None = None
    num_interruptions: int = 0


@dataclass(frozen=True)
class ClassScore:
    """Dice of one class over the `num_cases` cases that have it in the prediction or the reference; may be NaN."""

    name: str
    mean_dice: float
    median_dice: float
    min_dice: float
    max_dice: float
    mean_iou: float
    num_cases: int


@dataclass(frozen=True)
class CaseScore:
    """Dice of one case: the mean over its foreground classes, and one of each class; NaN where a class is absent."""

    case_id: str
    mean_foreground_dice: float
    dice: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """One slice as PNG bytes, with the outlines in its voxel coordinates (x to the right, y down).

    `size_mm` is (width, height); `edges` names the left, top, right and bottom edge, such as ("R", "A", "L", "P").
    """

    png: bytes
    size_in_voxels: tuple[int, int]
    size_mm: tuple[float, float]
    caption: str
    alt: str
    reference_outline: tuple[Polyline, ...] = ()
    predicted_outline: tuple[Polyline, ...] = ()
    edges: tuple[str, str, str, str] | None = None


@dataclass(frozen=True)
class CasePicture:
    """A case that is shown: what it is an example of, its score and its slices; `problem` says why there are none."""

    case_id: str
    roles: tuple[Role, ...]
    mean_foreground_dice: float
    dice: tuple[tuple[str, float], ...]
    views: tuple[View, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class ScoreSection:
    """Scores of one set of cases."""

    title: str
    cases_in_words: str
    mean_foreground_dice: float
    classes: tuple[ClassScore, ...]
    cases: tuple[CaseScore, ...]
    pictures: tuple[CasePicture, ...] = ()


@dataclass(frozen=True)
class StepTime:
    """A step of the way and the seconds of wall clock that it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Missing:
    """A part that the report cannot show yet, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page. Whatever is empty or None is left out, or listed in `missing` by its section.

    `missing` is keyed by section: "scores", "pictures", "data", "plan", "budget", "curves".
    """

    title: str
    created: str = ""
    headline: Headline | None = None
    scores: tuple[ScoreSection, ...] = ()
    data: DataSection | None = None
    plan: PlanSection | None = None
    training: TrainingSection = field(default_factory=TrainingSection)
    steps: tuple[StepTime, ...] = ()
    environment: tuple[Fact, ...] = ()
    credit: str = ""
    missing: Mapping[str, Missing] = field(default_factory=dict)
