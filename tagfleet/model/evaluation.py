"""One evaluation of a tagger on one side of the split: every number of the report, as one JSON document."""

from __future__ import annotations

from typing import Literal

from tagfleet.config import Section
from tagfleet.model.calibration import AxisCalibration, CoveragePoint, Reliability
from tagfleet.model.health import AxisHealth
from tagfleet.model.metrics import AxisMetrics, Difference, Guessing


class AxisEvaluation(Section):
    """One axis."""

    axis: str
    model: AxisMetrics
    baseline: AxisMetrics
    """MFCC statistics and logistic regression, trained on the same tracks."""
    guessing: Guessing
    over_baseline: Difference
    """Of the headline measure: model minus baseline on the same tracks."""
    calibration: AxisCalibration
    reliability_before: Reliability
    reliability_after: Reliability
    coverage: tuple[CoveragePoint, ...] = ()
    """Exclusive axes: what a higher `unknown_below` would give."""


class Evaluation(Section):
    """Everything that was measured."""

    model: str
    """name:version, or the run that has not published yet."""
    model_id: str
    run_id: str
    """The training run."""
    split: Literal["validation", "test"]
    n_train: int
    n_validation: int
    n_test: int
    n_groups: dict[str, int]
    """Creators per side of the split."""
    n_failed: int
    """Labelled tracks without features."""
    labels_version: int
    catalog_version: int
    taxonomy_version: str
    axes: tuple[AxisEvaluation, ...]
    health: tuple[AxisHealth, ...] = ()
    """Of the exclusive axes."""
    health_source: str = ""
    """Whose probabilities `health` is made of, e.g. "4 folds of training and validation creators"."""
