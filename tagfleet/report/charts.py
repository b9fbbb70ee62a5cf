"""The report's pictures as inline SVG. Colours come from the page's style, by class; every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tagfleet.model.calibration import CoveragePoint, Reliability
from tagfleet.report.shown import count, interval, number, percent, printable

N_COLOURS = 6
"""Classes c0 to c5 of the style; line dashes go round with them."""

_WIDTH, _HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 30, 42


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: y over x, with gaps where y is None."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One measure between 0 and 1, with its interval."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


def nice_ticks(low: float, high: float, n: int = 5, *, smallest: float = 0.0) -> list[float]:
    """About `n` round numbers (1, 2 or 5 times a power of ten apart, at least `smallest`), the first at or below `low`,
    the last at or above `high`.

    >>> nice_ticks(0.13, 0.88), nice_ticks(1, 30)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 10.0, 20.0, 30.0])
    """
    largest = max(abs(low), abs(high), 1.0)
    if high - low < 1e-9 * largest:  # flat: room above it
        high = low + largest
    raw = max((high - low) / n, smallest)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """Where data lie in a picture of _WIDTH x _HEIGHT."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def x(self, value: float) -> float:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    def frame(self, x_name: str) -> Iterable[Markup]:
        """Grid, tick labels and the name of the horizontal axis; the vertical one is named by the picture's title."""
        bottom = _HEIGHT - _BOTTOM
        for tick in self.y_ticks:
            y = self.y(tick)
            yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, _WIDTH - _RIGHT, y, y
            )
            yield _text(_LEFT - 6, y + 4, _tick(tick), "end")
        for tick in self.x_ticks:
            yield _text(self.x(tick), bottom + 16, _tick(tick), "middle")
        yield Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _LEFT, _WIDTH - _RIGHT, bottom, bottom
        )
        yield _text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 34, x_name, "middle")


def curves_svg(title: str, lines: Sequence[Line], *, best: float | None = None) -> Markup:
    """Lines over epochs; the `best` one gets a dashed upright. Says so when nothing was measured."""
    points = [(x, y) for line in lines for x, y in line.points if y is not None and math.isfinite(y)]
    if not points:
        return _svg(title, _HEIGHT, [_text(_WIDTH / 2, _HEIGHT / 2, "nothing was measured", "middle")])
    xs, ys = [x for x, _ in points], [y for _, y in points]
    plane = _Plane(x_ticks=nice_ticks(min(xs), max(xs), smallest=1.0), y_ticks=nice_ticks(min(ys), max(ys), 4))
    shapes = [
        *plane.frame("epoch" if best is None else f"epoch (best: {_tick(best)})"),
        *_legend([line.name for line in lines]),
    ]
    if best is not None:
        x = plane.x(best)
        shapes.append(Markup('<line class="mark" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(x, x, _TOP, 228))
    for i, line in enumerate(lines):
        shapes.append(_path(i, [(plane.x(x), None if y is None else plane.y(y)) for x, y in line.points]))
        shapes.extend(
            _dot(i, plane.x(x), plane.y(y), f"{line.name}: {number(y)} at {_tick(x)}")
            for x, y in line.points
            if y is not None and math.isfinite(y)
        )
    return _svg(title, _HEIGHT, shapes)


def bars_svg(title: str, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars from 0 to 1, with whiskers for the intervals and the values beside them."""
    left, right, row, top = 82, 48, 30, 8
    height = top + row * len(bars) + 26
    width = _WIDTH - left - right

    def x(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * width

    shapes = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        at = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>')
        shapes.append(at.format(x(tick), x(tick), top, height - 24))
        shapes.append(_text(x(tick), height - 8, f"{tick:g}", "middle"))
    for i, bar in enumerate(bars):
        middle = top + row * i + row / 2
        shapes.append(_text(left - 8, middle + 4, bar.name, "end"))
        shapes.append(_text(_WIDTH - 4, middle + 4, number(bar.value), "end"))
        if bar.value is None:
            continue
        shapes.append(
            Markup(
                '<rect class="bar b{}" x="{}" y="{:.1f}" width="{:.1f}" height="{}"><title>{}</title></rect>'
            ).format(i, left, middle - 9, x(bar.value) - left, 18, _hint(bar))
        )
        if bar.low is not None and bar.high is not None:
            whisker = Markup('<path class="whisker" d="M{0:.1f} {2:.1f}v8m0 -4H{1:.1f}m0 -4v8"/>')
            shapes.append(whisker.format(x(bar.low), x(bar.high), middle - 4))
    return _svg(title, height, shapes)


def _hint(bar: Bar) -> str:
    ends = interval(bar.low, bar.high)
    return printable(f"{bar.name}: {number(bar.value)}" + (f" ({ends})" if ends else ""))


def reliability_svg(title: str, before: Reliability, after: Reliability) -> Markup:
    """How often predictions of a confidence are right, over that confidence; a dot's area grows with its predictions.

    The dashed diagonal is where probabilities are frequencies.
    """
    unit = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    plane = _Plane(x_ticks=unit, y_ticks=unit)
    shapes = [*plane.frame("confidence"), *_legend(["before", "after"])]
    diagonal = Markup('<path class="mark" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    shapes.append(diagonal.format(plane.x(0), plane.y(0), plane.x(1), plane.y(1)))
    for i, reliability in enumerate((before, after)):
        bins = [one for one in reliability.bins if one.n]
        most = max((one.n for one in bins), default=1)
        shapes.append(_path(i, [(plane.x(one.confidence), plane.y(one.frequency)) for one in bins]))
        for one in bins:
            text = f"confidence {number(one.confidence)}, right {number(one.frequency)}, {count(one.n)} predictions"
            radius = 2 + 5 * math.sqrt(one.n / most)
            shapes.append(_dot(i, plane.x(one.confidence), plane.y(one.frequency), text, radius))
    return _svg(title, _HEIGHT, shapes)


def coverage_svg(title: str, points: Sequence[CoveragePoint], *, unknown_below: float) -> Markup:
    """Accuracy over the share of tracks that get an answer; the dashed upright is where `unknown_below` stands."""
    answered = sorted((point for point in points if point.coverage > 0), key=lambda point: point.coverage)
    if not answered:
        return curves_svg(title, [])
    y_ticks = nice_ticks(min(point.accuracy for point in answered), 1.0, 4)
    plane = _Plane(x_ticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0], y_ticks=y_ticks)
    shapes = [*plane.frame("coverage"), *_legend(["accuracy"])]
    shapes.append(_path(0, [(plane.x(point.coverage), plane.y(point.accuracy)) for point in answered]))
    for point in answered:
        text = f"from {number(point.threshold)} on: {percent(point.coverage)} answered, {number(point.accuracy)} right"
        shapes.append(_dot(0, plane.x(point.coverage), plane.y(point.accuracy), text))
    if now := max((p for p in points if p.threshold <= unknown_below), key=lambda p: p.threshold, default=None):
        x = plane.x(now.coverage)
        shapes.append(Markup('<line class="mark" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(x, x, _TOP, 228))
    return _svg(title, _HEIGHT, shapes)


def _svg(title: str, height: float, shapes: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg role="img" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg"><title>{}</title>{}</svg>'
    ).format(_WIDTH, height, printable(title), Markup("").join(shapes))


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, printable(text))


def _dot(colour: int, x: float, y: float, text: str, radius: float = 2.5) -> Markup:
    return Markup('<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
        colour % N_COLOURS, x, y, radius, printable(text)
    )


def _path(colour: int, points: Sequence[tuple[float, float | None]]) -> Markup:
    """A line through the points, lifted where there is none."""
    commands, down = [], False
    for x, y in points:
        if y is None or not math.isfinite(y):
            down = False
            continue
        commands.append(f"{'L' if down else 'M'}{x:.1f} {y:.1f}")
        down = True
    return Markup('<path class="line c{}" d="{}"/>').format(colour % N_COLOURS, "".join(commands))


def _legend(names: Sequence[str]) -> Iterable[Markup]:
    x = float(_LEFT)
    for i, name in enumerate(names):
        yield _path(i, [(x, 14), (x + 18, 14)])
        yield _text(x + 23, 18, name, "start")
        x += 36 + 7 * len(name)


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")
