"""The report as one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from segwright.errors import WriteError, message
from segwright.io.atomic import write_text_atomic
from segwright.report.charts import NUM_STYLES, Series, dot_chart, line_chart
from segwright.report.content import EpochPoint, Polyline, ReportContent, ScoreSection, TrainingSection, View

NOT_A_NUMBER = "n/a"
_BEGINNING = b"<!doctype html"
_CLASSES_IN_DICE_CHART = NUM_STYLES - 2


@dataclass(frozen=True)
class _Chart:
    svg: Markup
    caption: str
    legend: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Charts:
    loss: _Chart | None
    dice: _Chart | None
    dice_by_case: tuple[Markup, ...]


def write_report(path: Path, content: ReportContent) -> None:
    """Write the page, all or nothing; its folder must exist.

    Raises:
        WriteError: there is a file in its place that is no page.
    """
    _refuse_other_file(path)
    write_text_atomic(path, render_report(content))


def _refuse_other_file(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNING))
    if beginning and beginning.lower() != _BEGINNING:
        raise WriteError(
            message(
                path,
                expected="a new file, or the page of an earlier report to replace",
                got="a file that is no HTML page",
                remedy="Choose another name, or remove it first.",
            )
        )


def render_report(content: ReportContent) -> str:
    """The page as HTML text. Every string of `content` is shown as it is, never taken for markup."""
    return _template().render(
        content=content,
        style=Markup(_packaged("style.css")),
        charts=_Charts(
            loss=_loss_chart(content.training.epochs),
            dice=_dice_chart(content.training),
            dice_by_case=tuple(_case_chart(section, index) for index, section in enumerate(content.scores)),
        ),
        training_words=_training_in_words(content.training),
    )


def dice_text(value: float | None) -> str:
    """Three decimals; "n/a" for NaN or None."""
    return NOT_A_NUMBER if value is None or not math.isfinite(value) else f"{value:.3f}"


def duration_text(seconds: float) -> str:
    """Seconds in words of two units at most, such as "4 min 12 s" or "2 h 5 min"."""
    if not math.isfinite(seconds):
        return NOT_A_NUMBER
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(
        dice=dice_text, duration=duration_text, data_uri=_data_uri, overlay=_overlay, layout=_layout
    )
    return environment.from_string(_packaged("page.html"))


def _packaged(name: str) -> str:
    return resources.files("segwright.report").joinpath(name).read_text(encoding="utf-8")


def _data_uri(view: View) -> str:
    return "data:image/png;base64," + base64.b64encode(view.png).decode("ascii")


def _layout(view: View) -> str:
    """Style properties that give a figure its aspect in mm and a share of the row that follows from it."""
    aspect = view.size_mm[0] / view.size_mm[1]
    return f"--aspect: {aspect:.4f}; --grow: {min(max(aspect, 0.4), 3):.3f}"


def _overlay(view: View) -> Markup:
    """The outlines over a slice: voxel coordinates stretched to the picture, lines as wide at every size."""
    width, height = view.size_in_voxels
    reference, predicted = _path(view.reference_outline), _path(view.predicted_outline)
    paths = "".join(
        f'<path class="outline {kind}" d="{path}"/>'
        for kind, path in (
            ("halo", reference),
            ("reference", reference),
            ("halo dashed", predicted),
            ("prediction dashed", predicted),
        )
        if path
    )
    box = f'viewBox="0 0 {width} {height}" preserveAspectRatio="none"'
    return Markup(f'<svg {box} aria-hidden="true">{paths}</svg>')


def _path(lines: Sequence[Polyline]) -> str:
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in line) for line in lines)


def _series(name: str, epochs: Sequence[EpochPoint], values: Sequence[float | None], style: int) -> Series:
    points = [
        (float(point.epoch), math.nan if value is None else float(value))
        for point, value in zip(epochs, values, strict=True)
    ]
    return Series(name=name, points=tuple(points), style=style)


def _drawable(series: Sequence[Series]) -> list[Series]:
    return [line for line in series if any(math.isfinite(y) for _, y in line.points)]


def _loss_chart(epochs: Sequence[EpochPoint]) -> _Chart | None:
    series = _drawable(
        [
            _series("training", epochs, [point.train_loss for point in epochs], 0),
            _series("validation", epochs, [point.val_loss for point in epochs], 1),
        ]
    )
    if not series:
        return None
    svg = line_chart(
        series,
        chart_id="loss",
        title="Loss by epoch",
        description="; ".join(_from_to(line) for line in series),
        x_label="epoch",
        y_label="loss (Dice and cross entropy)",
    )
    return _Chart(Markup(svg), "Loss of training and of validation patches; lower is better.", _legend(series))


def _dice_chart(training: TrainingSection) -> _Chart | None:
    epochs = training.epochs
    series = [
        _series("moving average", epochs, [point.ema_pseudo_dice for point in epochs], 0),
        _series("mean", epochs, [point.mean_pseudo_dice for point in epochs], 1),
    ]
    num_classes = max((len(point.pseudo_dice) for point in epochs), default=0)
    if 1 < num_classes <= _CLASSES_IN_DICE_CHART:
        for index in range(num_classes):
            name = training.class_names[index] if index < len(training.class_names) else f"class {index + 1}"
            values = [point.pseudo_dice[index] if index < len(point.pseudo_dice) else None for point in epochs]
            series.append(_series(name, epochs, values, index + 2))
    series = _drawable(series)
    if not series:
        return None
    svg = line_chart(
        series,
        chart_id="pseudo-dice",
        title="Dice on validation patches by epoch",
        description="; ".join(_from_to(line) for line in series),
        x_label="epoch",
        y_label="Dice on validation patches",
        y_range=(0.0, 1.0),
    )
    caption = "Dice on random validation patches, a guide during training; the scores above are of whole images."
    return _Chart(Markup(svg), caption, _legend(series))


def _from_to(line: Series) -> str:
    values = [y for _, y in line.points if math.isfinite(y)]
    return f"{line.name} from {values[0]:.3f} to {values[-1]:.3f}"


def _legend(series: Sequence[Series]) -> tuple[tuple[str, int], ...]:
    return tuple((line.name, line.style) for line in series)


def _case_chart(section: ScoreSection, index: int) -> Markup:
    rows = [
        (row.name, [case.dice[column] for case in section.cases], row.mean_dice)
        for column, row in enumerate(section.classes)
    ]
    return Markup(
        dot_chart(
            rows,
            chart_id=f"cases-{index}",
            title=f"Dice of every case, {section.title}",
            description="; ".join(
                f"{row.name}: {dice_text(row.min_dice)} to {dice_text(row.max_dice)}" for row in section.classes
            ),
            x_label="Dice",
        )
    )


def _training_in_words(training: TrainingSection) -> str:
    if not training.epochs:
        return ""
    text = f"{len(training.epochs)} epoch{'' if len(training.epochs) == 1 else 's'}"
    if training.seconds is not None:
        text += f" in {duration_text(training.seconds)}"
    if training.num_interruptions:
        times = "once" if training.num_interruptions == 1 else f"{training.num_interruptions} times"
        text += f", interrupted and resumed {times}"
    best = max((p.ema_pseudo_dice for p in training.epochs if p.ema_pseudo_dice is not None), default=None)
    if best is not None and math.isfinite(best):
        text += f"; the best moving average of the Dice on validation patches was {best:.3f}"
    return text + "."
