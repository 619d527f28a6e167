from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from segwright.report.charts import MAX_POINTS, Series, dot_chart, line_chart

NAN = math.nan


def chart(*series, **options):
    words = {"chart_id": "c", "title": "T", "description": "D", "x_label": "epoch", "y_label": "loss <x>"}
    return ElementTree.fromstring(line_chart(series, **words, **options))


def path_of(svg):
    return svg.find("path").get("d")


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def test_lines_have_axes_title_and_units():
    svg = chart(Series("train", ((0, 1.0), (1, 0.5), (2, -0.25))))
    assert svg.get("role") == "img"
    assert svg.find("title").text == "T"
    assert svg.find("desc").text == "D"
    texts = [element.text for element in svg.iter("text")]
    assert "epoch" in texts
    assert "loss <x>" in texts
    assert "0.5" in texts
    assert "1" in texts


def test_higher_values_are_drawn_higher_and_later_ones_to_the_right():
    x0, y0, x1, y1 = numbers(path_of(chart(Series("a", ((0, 0.1), (1, 0.9))))))
    assert x1 > x0
    assert y1 < y0


def test_nan_interrupts_a_line():
    path = path_of(chart(Series("a", ((0, 1), (1, 2), (2, NAN), (3, 1), (4, 2)))))
    assert path.count("M") == 2
    assert "nan" not in path


def test_many_points_are_thinned_but_the_last_is_kept():
    points = tuple((float(k), math.sin(k)) for k in range(5000))
    path = path_of(chart(Series("a", points)))
    assert path.count("L") <= MAX_POINTS + 1
    assert numbers(path)[-2] == pytest.approx(520 - 14)


@pytest.mark.parametrize("points", [((0, 0.5),), ((3, 2.0), (4, 2.0)), ((0, 1e6), (1, -1e6)), ((0, 0.0), (1, 1e-9))])
def test_odd_ranges_can_be_drawn(points):
    assert "nan" not in ElementTree.tostring(chart(Series("a", points)), encoding="unicode")


def test_nothing_finite_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        chart(Series("a", ((0, NAN),)))


def test_values_beyond_a_given_range_stay_on_the_chart():
    ys = numbers(path_of(chart(Series("a", ((0, -5), (1, 5))), y_range=(0, 1))))[1::2]
    assert min(ys) >= 14
    assert max(ys) <= 250


def test_dots_leave_out_nan_and_escape_names():
    text = dot_chart(
        [("a & b", [0.5, NAN, 0.9], 0.7), ("none", [NAN], NAN)],
        chart_id="d",
        title="T",
        description="D",
        x_label="Dice",
    )
    svg = ElementTree.fromstring(text)
    assert len(svg.findall("circle")) == 2
    assert [line.get("class") for line in svg.findall("line")].count("mean") == 1
    assert "a &amp; b" in text


def test_a_dice_axis_starts_below_the_lowest_value():
    for lowest in (0.0, 0.03, 0.31, 0.84, 0.93, 0.99, 1.0):
        svg = ElementTree.fromstring(
            dot_chart([("a", [lowest], lowest)], chart_id="d", title="T", description="D", x_label="Dice")
        )
        assert 10 <= float(svg.find("circle").get("cx")) <= 506
