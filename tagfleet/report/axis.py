"""What the page tells of one axis, ready for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.model.evaluation import AxisEvaluation, Evaluation
from tagfleet.model.health import AxisHealth, LabelHealth
from tagfleet.model.metrics import Difference, LabelMetrics, Measured
from tagfleet.model.mistakes import Mistake
from tagfleet.report.charts import Bar, bars_svg, coverage_svg, reliability_svg
from tagfleet.report.shown import number

N_SHOWN = 200
"""Mistakes of an axis on the page; all are in the CSV."""
N_LIKELY = 3
"""Most probable labels shown beside a mistake."""

MEASURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "F1, mean over labels",
    "kappa": "Cohen's kappa",
    "pr_auc": "PR-AUC, mean over labels",
    "roc_auc": "ROC-AUC, mean over labels",
}
"""How measures are called; one without a name here stands under its own."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Tracks with one true and one most probable label."""

    n: int
    share: float
    """Of the tracks with that true label."""
    right: bool


@dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    """One true label."""

    label: Label
    cells: Sequence[Cell]
    n: int


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One label with what its tags depend on."""

    label: Label
    metrics: LabelMetrics
    pooling: str
    threshold: float | None
    """None on exclusive axes."""


@dataclass(frozen=True, kw_only=True)
class HealthRow:
    """One label's health with its labels named."""

    health: LabelHealth
    label: Label
    partner: Label | None


@dataclass(frozen=True, kw_only=True)
class ShownMistake:
    """A mistake with its labels named."""

    mistake: Mistake
    true_label: Label | None
    predicted_label: Label | None
    likely: Sequence[tuple[Label, float]]
    """The most probable labels, and the true one."""


@dataclass(frozen=True, kw_only=True)
class MistakeGroup:
    """Mistakes about one label: the true one, of an extra label that one."""

    label: Label
    kinds: Mapping[str, int]
    shown: Sequence[ShownMistake]

    @property
    def n(self) -> int:
        """All of them, shown or not."""
        return sum(self.kinds.values())


@dataclass(frozen=True, kw_only=True)
class AxisView:
    """One axis."""

    evaluated: AxisEvaluation
    labels: LabelSet
    headline: str
    standing: str
    """above | below | level: where the model is to the baseline, by the interval of the difference."""
    bars: Markup
    measures: Sequence[tuple[str, str]]
    """Key and name."""
    confusion: Sequence[ConfusionRow]
    predicted: Sequence[int]
    """Tracks per most probable label."""
    rows: Sequence[LabelRow]
    without_positives: Sequence[Label]
    pooling: str
    """How the clips become one, and for how many labels."""
    thresholds: str
    """From the lowest to the highest."""
    reliability: Markup
    coverage: Markup | None
    health: AxisHealth | None
    health_rows: Sequence[HealthRow]
    mistakes: Sequence[MistakeGroup]
    n_mistakes: int
    n_shown: int


def view(
    evaluated: AxisEvaluation, taxonomy: Taxonomy, evaluation: Evaluation, mistakes: Sequence[Mistake]
) -> AxisView:
    """One axis for the template; TaxonomyError when it or one of its labels is not in the taxonomy."""
    labels = taxonomy.axis(evaluated.axis)
    model = evaluated.model
    rows = _rows(labels, evaluated)
    health = next((health for health in evaluation.health if health.axis == evaluated.axis), None)
    here = sorted(
        (mistake for mistake in mistakes if mistake.axis == evaluated.axis),
        key=lambda mistake: (-mistake.confidence, mistake.track_id),
    )
    return AxisView(
        evaluated=evaluated,
        labels=labels,
        headline=MEASURES[model.headline],
        standing=standing(evaluated.over_baseline),
        bars=_bars(evaluated),
        measures=[(key, MEASURES.get(key, key)) for key in model.measures],
        confusion=_confusion(labels, model.confusion),
        predicted=[sum(column) for column in zip(*model.confusion, strict=True)],
        rows=rows,
        without_positives=[labels.label(label_id) for label_id in model.without_positives],
        pooling=_poolings([row.pooling for row in rows]),
        thresholds=" to ".join(dict.fromkeys(number(pick(row.threshold or 0 for row in rows)) for pick in (min, max))),
        reliability=reliability_svg(
            f"{evaluated.axis}: share that is right over confidence",
            evaluated.reliability_before,
            evaluated.reliability_after,
        ),
        coverage=coverage_svg(
            f"{evaluated.axis}: accuracy over the share of tracks that get an answer",
            evaluated.coverage,
            unknown_below=evaluated.calibration.unknown_below,
        )
        if evaluated.coverage
        else None,
        health=health,
        health_rows=[
            HealthRow(health=one, label=labels.label(one.label), partner=_named(labels, one.partner))
            for one in (health.labels if health else ())
        ],
        mistakes=_groups(labels, here),
        n_mistakes=len(here),
        n_shown=min(N_SHOWN, len(here)),
    )


def standing(difference: Difference) -> str:
    """Where the model is to the baseline: `level` while the interval holds 0 or there is none.

    >>> standing(Difference(value=0.1, low=0.02, high=0.2)), standing(Difference(value=0.1, low=-0.02, high=0.2))
    ('above', 'level')
    """
    if difference.low is not None and difference.low > 0:
        return "above"
    return "below" if difference.high is not None and difference.high < 0 else "level"


def _bars(evaluated: AxisEvaluation) -> Markup:
    headline, guessing = evaluated.model.headline, evaluated.guessing
    beside = {
        "model": evaluated.model.measures[headline],
        "baseline": evaluated.baseline.measures[headline],
        "majority": Measured(value=guessing.majority),
        "chance": Measured(value=guessing.chance),
    }
    return bars_svg(
        f"{evaluated.axis}: {MEASURES[headline]} of the model and of what it has to beat",
        [Bar(name=name, value=one.value, low=one.low, high=one.high) for name, one in beside.items()],
    )


def _confusion(labels: LabelSet, confusion: Sequence[Sequence[int]]) -> list[ConfusionRow]:
    return [
        ConfusionRow(
            label=labels.labels[i],
            cells=[Cell(n=n, share=n / max(sum(row), 1), right=i == j) for j, n in enumerate(row)],
            n=sum(row),
        )
        for i, row in enumerate(confusion)
    ]


def _rows(labels: LabelSet, evaluated: AxisEvaluation) -> list[LabelRow]:
    n = len(evaluated.model.labels)
    thresholds = evaluated.calibration.thresholds or (0.5,) * n
    pooling = evaluated.calibration.pooling or ("mean",) * n
    return [
        LabelRow(
            label=labels.label(metrics.label),
            metrics=metrics,
            pooling=pool,
            threshold=None if labels.exclusive else threshold,
        )
        for metrics, pool, threshold in zip(evaluated.model.labels, pooling, thresholds, strict=True)
    ]


def _poolings(poolings: Sequence[str]) -> str:
    """How many labels have which, or the one that all have.

    >>> _poolings(["mean", "max", "mean"]), _poolings(["mean"])
    ('mean (2 labels), max (1 labels)', 'mean')
    """
    counts = Counter(poolings)
    return ", ".join(f"{name} ({n} labels)" if len(counts) > 1 else name for name, n in counts.most_common())


def _groups(labels: LabelSet, mistakes: Sequence[Mistake]) -> list[MistakeGroup]:
    """Mistakes (the surest first) by label in the taxonomy's order; only the first N_SHOWN of all are shown."""
    kinds: dict[str, Counter[str]] = {}
    shown: dict[str, list[ShownMistake]] = {}
    for i, mistake in enumerate(mistakes):
        about = mistake.true_label or mistake.predicted_label
        assert about is not None  # a mistake has one of them
        kinds.setdefault(about, Counter())[mistake.kind] += 1
        if i < N_SHOWN:
            shown.setdefault(about, []).append(_shown(labels, mistake))
    for about in kinds:
        labels.label(about)  # TaxonomyError for one that is not there
    return [
        MistakeGroup(label=label, kinds=kinds[label.id], shown=shown.get(label.id, []))
        for label in labels.labels
        if label.id in kinds
    ]


def _shown(labels: LabelSet, mistake: Mistake) -> ShownMistake:
    ranked = sorted(mistake.probabilities.items(), key=lambda item: -item[1])
    likely = [item for i, item in enumerate(ranked) if i < N_LIKELY or item[0] == mistake.true_label]
    return ShownMistake(
        mistake=mistake,
        true_label=_named(labels, mistake.true_label),
        predicted_label=_named(labels, mistake.predicted_label),
        likely=[(labels.label(label_id), probability) for label_id, probability in likely],
    )


def _named(labels: LabelSet, label_id: str | None) -> Label | None:
    return None if label_id is None else labels.label(label_id)
