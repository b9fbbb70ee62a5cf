"""The evaluation of a model as one HTML file that loads nothing and runs nothing.

Titles, tags and file names come from strangers: every value is escaped by the template (autoescape), characters that
would hide or reorder text are shown as escapes, and a Content-Security-Policy forbids the browser to load or run
anything, should something slip through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.evaluation import Evaluation
from tagfleet.model.mistakes import Mistake
from tagfleet.report import axis, shown
from tagfleet.report.charts import Line, curves_svg

SECTIONS = ("data", "training", "measures", "calibration", "health", "mistakes", "recipe")
"""Each needs a source: the file of the run folder from which its numbers come."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a page tells, and how."""

    evaluation: Evaluation
    taxonomy: Taxonomy
    """That the model was trained with: order and display names of the labels."""
    history: Sequence[Mapping[str, Any]]
    """Lines of metrics.jsonl: epoch, train_loss, validation_loss, validation_<axis>, seconds, …; what is missing is
    shown as nothing."""
    epoch: int
    """Whose weights the model has."""
    recipe: Mapping[str, Any]
    """Resolved settings by section."""
    mistakes: Sequence[Mistake]
    """All of them; the page shows the surest of each axis."""
    sources: Mapping[str, str]
    """By SECTIONS, the file where the section's numbers can be looked up."""
    tz: str
    """Name of the time zone in which times are shown."""
    lang: Literal["ja", "en"]
    """Of the labels' names; the page's own words are English."""
    created_at: datetime
    """UTC."""

    def __post_init__(self) -> None:
        if missing := [section for section in SECTIONS if section not in self.sources]:
            raise ValueError(f"no source is given for {', '.join(missing)}; name the file of each section")
        if self.created_at.tzinfo is None:
            raise ValueError(f"created_at {self.created_at} has no time zone; give UTC")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the split."""

    name: str
    n_tracks: int
    n_groups: int | None
    measured: bool


def render_page(data: ReportData) -> str:
    """The whole page; the same data give the same text.

    TaxonomyError: the evaluation names an axis or a label that the taxonomy does not have.
    """
    axes = [axis.view(evaluated, data.taxonomy, data.evaluation, data.mistakes) for evaluated in data.evaluation.axes]
    return _template().render(
        data=data,
        evaluation=data.evaluation,
        sides=_sides(data.evaluation),
        axes=axes,
        curves=_curves(data),
        recipe={name: pretty(values) for name, values in data.recipe.items() if isinstance(values, Mapping)},
        settings={name: pretty(value) for name, value in data.recipe.items() if not isinstance(value, Mapping)},
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tagfleet", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        name: getattr(shown, name)
        for name in ("printable", "catalogue_text", "number", "signed", "percent", "count", "interval", "local_time")
    }
    return environment.get_template("page.html.j2")


def finite(value: object) -> float | None:
    """A number that can be drawn, or None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _curves(data: ReportData) -> list[tuple[str, Markup]]:
    """Title and picture: loss; and for every axis the measure that decides there."""

    def line(name: str, key: str) -> Line:
        return Line(name=name, points=[(one["epoch"], finite(one.get(key))) for one in data.history])

    pictures = {
        "Loss, summed over the axes": [line("training", "train_loss"), line("validation", "validation_loss")],
        "Accuracy (axes with several labels: PR-AUC) on the validation tracks": [
            line(labels.axis, f"validation_{labels.axis}") for labels in data.taxonomy.axes
        ],
    }
    return [(title, curves_svg(title, lines, best=data.epoch)) for title, lines in pictures.items()]


def _sides(evaluation: Evaluation) -> list[Side]:
    counts = {"train": evaluation.n_train, "validation": evaluation.n_validation, "test": evaluation.n_test}
    return [
        Side(name=name, n_tracks=n, n_groups=evaluation.n_groups.get(name), measured=name == evaluation.split)
        for name, n in counts.items()
    ]


def pretty(values: object) -> str:
    """Settings as indented JSON, printable, line by line; what JSON does not have becomes null or text."""
    text = json.dumps(_plain(values), ensure_ascii=False, indent=2, allow_nan=False, default=str)
    return "\n".join(shown.printable(line) for line in text.split("\n"))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
