import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.model.calibration import CoveragePoint, Reliability, ReliabilityBin
from tagfleet.report.charts import Bar, Line, bars_svg, coverage_svg, curves_svg, nice_ticks, reliability_svg

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script>\"'&\x00\u202e"
SHOWN = "<script>alert(1)</script>\"'&\\x00\\u202e"
VALUES = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, 0.0])


def bins(*points):
    made = [ReliabilityBin(low=0, high=1, n=n, confidence=c, frequency=f) for c, f, n in points]
    return Reliability(ece=0.1, bins=made)


PICTURES = {
    "curves": lambda text: curves_svg(text, [Line(name=text, points=[(1, 0.5), (2, None), (3, 0.7)])], best=3),
    "no curves": lambda text: curves_svg(text, [Line(name=text, points=[(1, None)])]),
    "bars": lambda text: bars_svg(text, [Bar(name=text, value=0.5, low=0.4, high=0.6), Bar(name="b", value=None)]),
    "reliability": lambda text: reliability_svg(text, bins((0.2, 0.1, 5)), bins((0.2, 0.2, 5), (0.9, 0.8, 0))),
    "coverage": lambda text: coverage_svg(
        text, [CoveragePoint(threshold=0.1, coverage=0.9, accuracy=0.8)], unknown_below=0.2
    ),
}


def numbers(svg, tag, *names):
    return [tuple(float(shape.get(name)) for name in names) for shape in ET.fromstring(svg).iter(SVG + tag)]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_well_formed_names_itself_and_holds_texts_as_texts(picture):
    svg = PICTURES[picture](EVIL)
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root[0].tag == SVG + "title" and root[0].text == SHOWN
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "text", "line", "path", "rect", "circle"
    }  # fmt: skip
    assert "nan" not in svg.lower() and "None" not in svg


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(2, 8))
def test_ticks_are_few_even_and_enclose_the_data(a, b, n):
    low, high = sorted((a, b))
    if high - low < 1e-6:
        high = low
    ticks = nice_ticks(low, high, n)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 2 * n + 2
    assert ticks[0] <= low + 1e-6 * step and ticks[-1] >= high - 1e-6 * step
    assert all(y - x == pytest.approx(step, rel=1e-6) for x, y in itertools.pairwise(ticks))


@given(st.integers(1, 400))
def test_epochs_have_whole_ticks(n_epochs):
    assert all(tick == int(tick) for tick in nice_ticks(1, n_epochs, smallest=1.0))


@given(st.lists(VALUES, max_size=30), st.lists(VALUES, max_size=30))
def test_every_finite_point_is_drawn_within_the_picture_and_no_other(a, b):
    lines = [Line(name="a", points=list(enumerate(a, 1))), Line(name="b", points=list(enumerate(b, 1)))]
    svg = curves_svg("t", lines)
    drawn = numbers(svg, "circle", "cx", "cy")
    assert len(drawn) == sum(value is not None and math.isfinite(value) for value in [*a, *b])
    _, _, width, height = map(float, ET.fromstring(svg).get("viewBox").split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in drawn)
    assert "nan" not in svg and "inf" not in svg
    if not drawn:
        assert "nothing was measured" in svg


def test_higher_is_higher_and_later_is_further_right():
    (x1, y1), (x2, y2) = numbers(curves_svg("t", [Line(name="a", points=[(1, 0.2), (2, 0.9)])]), "circle", "cx", "cy")
    assert x2 - x1 > 100 and y1 - y2 > 100  # and the picture is not left empty


def test_a_gap_lifts_the_line():
    svg = curves_svg("t", [Line(name="a", points=[(1, 0.1), (2, 0.2), (3, None), (4, 0.3), (5, 0.4)])])
    (curve,) = [p for p in ET.fromstring(svg).iter(SVG + "path") if "L" in p.get("d") and p.get("d").count("M") > 1]
    assert (curve.get("d").count("M"), curve.get("d").count("L")) == (2, 2)


def test_the_best_epoch_stands_where_its_point_is():
    svg = curves_svg("t", [Line(name="a", points=[(n, 1 / n) for n in range(1, 9)])], best=5)
    (mark,) = [line for line in ET.fromstring(svg).iter(SVG + "line") if line.get("class") == "mark"]
    assert float(mark.get("x1")) == numbers(svg, "circle", "cx")[4][0]
    assert "best: 5" in svg


@given(st.floats(0, 1), st.floats(0, 1))
def test_bars_are_as_long_as_their_values(a, b):
    (wide_a,), (wide_b,) = numbers(bars_svg("t", [Bar(name="a", value=a), Bar(name="b", value=b)]), "rect", "width")
    assert wide_a * b == pytest.approx(wide_b * a, abs=0.2)
    assert (wide_a - wide_b) * (a - b) >= 0


def test_a_bar_without_a_value_is_a_dash_and_whiskers_need_both_ends():
    svg = bars_svg("t", [Bar(name="a", value=None), Bar(name="b", value=0.5, low=0.2)])
    assert len(numbers(svg, "rect", "width")) == 1
    assert ">–<" in svg and "whisker" not in svg


def test_perfect_reliability_lies_on_the_diagonal_and_empty_bins_are_not_drawn():
    perfect = bins((0.1, 0.1, 3), (0.5, 0.5, 30), (0.9, 0.9, 0))
    dots = numbers(reliability_svg("t", perfect, perfect), "circle", "cx", "cy", "r")
    assert len(dots) == 4
    diagonal = next(p for p in ET.fromstring(reliability_svg("t", perfect, perfect)) if p.get("class") == "mark")
    x0, y0, x1, y1 = map(float, diagonal.get("d").replace("M", "").replace("L", " ").split())
    for x, y, _ in dots:
        assert (y - y0) * (x1 - x0) == pytest.approx((x - x0) * (y1 - y0), abs=30)
    assert dots[1][2] > dots[0][2]


@pytest.mark.parametrize(("unknown_below", "threshold"), [(0.0, 0.0), (0.34, 0.3), (0.4, 0.4), (1.0, 0.9)])
def test_the_threshold_in_use_is_marked(unknown_below, threshold):
    points = [CoveragePoint(threshold=t / 10, coverage=1 - t / 12, accuracy=0.6 + t / 30) for t in range(10)]
    svg = coverage_svg("t", points, unknown_below=unknown_below)
    (mark,) = [line for line in ET.fromstring(svg).iter(SVG + "line") if line.get("class") == "mark"]
    at = next(
        float(dot.get("cx"))
        for dot in ET.fromstring(svg).iter(SVG + "circle")
        if f"from {threshold:.3f} on" in dot[0].text
    )
    assert float(mark.get("x1")) == at


def test_nothing_answered_is_said():
    svg = coverage_svg("t", [CoveragePoint(threshold=1, coverage=0, accuracy=0)], unknown_below=0)
    assert "nothing was measured" in svg
