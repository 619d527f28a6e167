"""Charts as inline SVG: colours come from the page's style sheet, so they follow light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 14.0, 14.0, 50.0
NUM_STYLES = 6  # line styles of the style sheet: .line-0 ... .line-5
MAX_POINTS = 600  # more epochs than pixels are thinned for drawing

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line: its name and its points (x, y); points that are not finite interrupt it. `style` picks the line style."""

    name: str
    points: tuple[Point, ...]
    style: int = 0


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    series: Sequence[Series],
    *,
    chart_id: str,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Draw lines over shared axes; without `y_range` the y axis spans the finite values."""
    points = [point for line in series for point in line.points if _is_finite(point)]
    if not points:
        raise ValueError("Expected at least one finite point to draw, got none.")
    xs = [x for x, _ in points]
    low, high = y_range or _padded(min(y for _, y in points), max(y for _, y in points))
    x_scale = _Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT)
    y_scale = _Scale(low, high, HEIGHT - BOTTOM, TOP)
    body = _y_axis(y_scale, y_label) + _x_axis(x_scale, x_label)
    body += "".join(_line(line, x_scale, y_scale) for line in series)
    return _svg(body, chart_id=chart_id, title=title, description=description, height=HEIGHT)


def dot_chart(
    rows: Sequence[tuple[str, Sequence[float], float]], *, chart_id: str, title: str, description: str, x_label: str
) -> str:
    """Draw a row of dots between 0 and 1 per name, one dot a case, and a bar at each row's mean; NaN is left out."""
    row_height, label_width = 46.0, 10.0
    height = TOP + row_height * len(rows) + BOTTOM
    values = [value for _, row, _ in rows for value in row if math.isfinite(value)]
    low = _lower_bound(min(values, default=0.0))
    scale = _Scale(low, 1.0, label_width, WIDTH - RIGHT)
    bottom = height - BOTTOM
    body = "".join(
        f'<line class="grid" x1="{_n(scale(tick))}" x2="{_n(scale(tick))}" y1="{_n(TOP)}" y2="{_n(bottom)}"/>'
        f'<text class="tick" x="{_n(scale(tick))}" y="{_n(bottom + 18)}" text-anchor="middle">{_tick(tick)}</text>'
        for tick in _ticks(low, 1.0, 6)
    )
    body += f'<text class="axis" x="{_n((label_width + WIDTH - RIGHT) / 2)}" y="{_n(height - 8)}" text-anchor="middle">'
    body += f"{escape(x_label)}</text>"
    for index, (name, row, mean) in enumerate(rows):
        body += _dot_row(name, row, mean, TOP + row_height * index, scale)
    return _svg(body, chart_id=chart_id, title=title, description=description, height=height)


def _dot_row(name: str, row: Sequence[float], mean: float, top: float, scale: _Scale) -> str:
    middle = top + 30
    text = f'<text class="row-name" x="{_n(scale.start)}" y="{_n(top + 14)}">{escape(name)}</text>'
    for index, value in enumerate(value for value in row if math.isfinite(value)):
        jitter = ((index * 7) % 5 - 2) * 1.8
        text += f'<circle class="dot" cx="{_n(scale(value))}" cy="{_n(middle + jitter)}" r="4"/>'
    if math.isfinite(mean):
        x = _n(scale(mean))
        text += f'<line class="mean" x1="{x}" x2="{x}" y1="{_n(middle - 11)}" y2="{_n(middle + 11)}"/>'
    return text


def _lower_bound(lowest: float) -> float:
    """Start of a Dice axis: a tenth below the lowest value, so that good scores can be told apart."""
    return max(0.0, math.floor(lowest * 10 - 0.5) / 10) if lowest < 0.95 else 0.8


def _line(line: Series, x_scale: _Scale, y_scale: _Scale) -> str:
    commands = []
    broken = True
    points = _thinned(line.points)
    for point in points:
        if _is_finite(point):
            y = min(max(y_scale(point[1]), TOP), HEIGHT - BOTTOM)
            commands.append(f"{'M' if broken else 'L'}{_n(x_scale(point[0]))} {_n(y)}")
        broken = not _is_finite(point)
    style = f"line-{line.style % NUM_STYLES}"
    dots = ""
    if len(points) <= 30:
        dots = "".join(
            f'<circle class="point {style}" cx="{_n(x_scale(x))}" cy="{_n(y_scale(y))}" r="2.5"/>'
            for x, y in points
            if _is_finite((x, y)) and y_scale.low <= y <= y_scale.high
        )
    return f'<path class="line {style}" d="{"".join(commands)}"/>{dots}'


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    step = math.ceil(len(points) / MAX_POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


def _x_axis(scale: _Scale, label: str) -> str:
    bottom = HEIGHT - BOTTOM
    text = f'<line class="axis-line" x1="{_n(LEFT)}" x2="{_n(WIDTH - RIGHT)}" y1="{_n(bottom)}" y2="{_n(bottom)}"/>'
    for tick in _ticks(scale.low, scale.high, 6, whole=True):
        text += (
            f'<text class="tick" x="{_n(scale(tick))}" y="{_n(bottom + 18)}" text-anchor="middle">{_tick(tick)}</text>'
        )
    middle = _n((LEFT + WIDTH - RIGHT) / 2)
    return text + f'<text class="axis" x="{middle}" y="{_n(HEIGHT - 8)}" text-anchor="middle">{escape(label)}</text>'


def _y_axis(scale: _Scale, label: str) -> str:
    text = ""
    for tick in _ticks(scale.low, scale.high, 6):
        y = scale(tick)
        text += f'<line class="grid" x1="{_n(LEFT)}" x2="{_n(WIDTH - RIGHT)}" y1="{_n(y)}" y2="{_n(y)}"/>'
        text += f'<text class="tick" x="{_n(LEFT - 8)}" y="{_n(y + 4.5)}" text-anchor="end">{_tick(tick)}</text>'
    middle = _n((TOP + HEIGHT - BOTTOM) / 2)
    return text + (
        f'<text class="axis" x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"{escape(label)}</text>"
    )


def _ticks(low: float, high: float, wanted: int, *, whole: bool = False) -> list[float]:
    """Round numbers between two limits, about `wanted` of them."""
    raw = (high - low) / max(1, wanted - 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    if whole:
        step = max(1.0, float(round(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.05 or max(abs(high) * 0.05, 0.05)
    return low - margin, high + margin


def _is_finite(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(body: str, *, chart_id: str, title: str, description: str, height: float) -> str:
    name = escape(chart_id)
    return (
        f'<svg class="chart" viewBox="0 0 {_n(WIDTH)} {_n(height)}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
    )
