"""How right the probabilities are, beside what guessing would give.

scikit-learn does the arithmetic of every value. The intervals are percentile bootstraps (Efron & Tibshirani 1993) that
draw creators, not tracks, with all tracks of a creator together (the cluster bootstrap; Field & Welsh 2007): tracks of
one creator resemble each other, and drawn singly they would promise more than is known. A draw only changes how often
a track counts, and the measures of all draws at once are sums under such weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tagfleet.config import Section
from tagfleet.labels.taxonomy import LabelSet
from tagfleet.model.bootstrap import (
    existing,
    group_draws,
    interval,
    mean_over_labels,
    units,
    weighted_aucs,
    widest,
)


class Measured(Section):
    """A measure and its bootstrap interval."""

    value: float | None
    """None when nothing could be measured."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None


class LabelMetrics(Section):
    """One label against the rest."""

    label: str
    support: int
    """Tracks that have it."""
    prevalence: float
    """Their share: what PR-AUC is for a ranking at random."""
    precision: float | None = None
    """Of the accepted tracks; None when none was accepted."""
    recall: float | None = None
    f1: float | None = None
    roc_auc: float | None = None
    pr_auc: float | None = None
    """Average precision; None without a positive track or without a negative one."""


class AxisMetrics(Section):
    """One axis of one evaluation, over the tracks whose labels are known there."""

    axis: str
    exclusive: bool
    n_tracks: int
    n_groups: int
    """Creators: what the intervals are drawn over."""
    measures: dict[str, Measured]
    """accuracy, balanced_accuracy, macro_f1, kappa; on multi axes pr_auc, roc_auc (macro averages), macro_f1."""
    labels: tuple[LabelMetrics, ...]
    """In the taxonomy's order."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Exclusive axes: tracks per true label (row) and most probable label (column)."""
    without_positives: tuple[str, ...] = ()
    """Labels that no measured track has: left out of macro averages."""

    @property
    def headline(self) -> str:
        """The name of the measure that decides: accuracy, on multi axes pr_auc."""
        return "accuracy" if self.exclusive else "pr_auc"

    @property
    def value(self) -> float | None:
        """The measure that decides."""
        return self.measures[self.headline].value


class Difference(Section):
    """Model minus other on the same tracks, by paired bootstrap over creators."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p_worse: float | None = None
    """Share of the draws in which the model is worse."""


class Guessing(Section):
    """What the headline measure is without hearing anything."""

    chance: float
    """Any label at random; the mean prevalence for PR-AUC."""
    majority: float
    """Always the training tracks' most frequent label."""


def axis_metrics(
    axis: LabelSet,
    probabilities: NDArray[np.float32],
    targets: NDArray[np.float32],
    *,
    groups: Sequence[str],
    accepted: NDArray[np.bool_] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> AxisMetrics:
    """Measure (n_tracks, n_labels) probabilities against targets of the same shape; NaN rows are unknown, left out.

    groups: the creator of each track, what the bootstrap draws. accepted: (n_tracks, n_labels), which labels of a
    multi axis a track was given, from p = 0.5 on if left out; exclusive axes give the most probable label (of equal
    ones the first) and the true label is the first of the largest targets.

    Cohen's kappa (1960) is agreement beyond chance. PR-AUC is average precision, which a model cannot please by
    ranking the many negatives of a rare label well, as it can ROC-AUC (Davis & Goadrich 2006). Macro averages leave
    out labels without a positive (AUCs: or without a negative), and a draw of the bootstrap leaves out those of its
    own tracks, as if it were measured alone; draws on which a measure does not exist are left out. Fewer than two
    groups give no interval. ValueError: shapes that differ, or known tracks with NaN or infinite probabilities.

    Mind that few positives flatter PR-AUC, and draws of them once more: for labels with a dozen positives the interval
    lies above what many more tracks would show. `paired_difference` cancels it; compare models with that.
    """
    known = _known(probabilities, targets)
    answers = _answers(axis, probabilities, targets, known, accepted)
    names = _known_groups(groups, known)
    labels = tuple(
        _label_metrics(label.id, *columns)
        for label, *columns in zip(
            axis.labels, answers.probabilities.T, answers.positive.T, answers.accepted.T, strict=True
        )
    )
    values = _overall(answers, labels)
    kinds = [[_weighted(answers, w) for w in group_draws(unit, n_draws, seed)] for unit in units(names)]
    return AxisMetrics(
        axis=axis.axis,
        exclusive=axis.exclusive,
        n_tracks=len(names),
        n_groups=len(set(names)),
        measures={
            name: Measured(value=value, **interval(widest([existing(draw[name] for draw in draws) for draws in kinds])))
            for name, value in values.items()
        },
        labels=labels,
        confusion=_confusion(answers) if axis.exclusive else (),
        without_positives=tuple(label.label for label in labels if not label.support),
    )


def rightness(predicted: NDArray[np.float32], targets: NDArray[np.float32], *, exclusive: bool) -> float | None:
    """Accuracy of the top label if `exclusive`, else average precision over the labels that have both answers.

    `predicted` are probabilities or logits, (n_tracks, n_labels): both measures only look at their order. None when
    nothing is known. No interval, so that it can be told after every epoch.

    >>> rightness(np.array([[0.2, 0.8], [0.7, 0.3]]), np.array([[0, 1], [0, 1]]), exclusive=True)
    0.5
    """
    known = _known(predicted, targets)
    predicted, targets = predicted[known], targets[known]
    if exclusive:
        return float((predicted.argmax(1) == targets.argmax(1)).mean()) if len(targets) else None
    return _mean_of(_pr_auc(p, t) for p, t in zip(predicted.T, (targets > 0.5).T, strict=True))


def guessing(axis: LabelSet, targets: NDArray[np.float32], train_targets: NDArray[np.float32]) -> Guessing:
    """What `axis_metrics` on `targets` would find as headline without a model.

    Both (any number of tracks, n_labels), NaN rows unknown. The favourite is the label that most of the training
    tracks have, never of the tracks measured. Where nothing is known it is chance. A ranking of multi labels without
    hearing is constant, and its average precision the prevalence, 0 if no label has both answers.
    """
    targets, train_targets = (rows[~np.isnan(rows).any(axis=1)] for rows in (targets, train_targets))
    if not axis.exclusive:
        prevalence = (targets > 0.5).mean(axis=0) if len(targets) else np.zeros(targets.shape[1])
        chance = _mean_of(float(share) for share in prevalence if 0 < share < 1) or 0.0
        return Guessing(chance=chance, majority=chance)
    chance = 1 / len(axis.labels)
    if not len(targets) or not len(train_targets):
        return Guessing(chance=chance, majority=chance)
    favourite = np.bincount(train_targets.argmax(1)).argmax()
    return Guessing(chance=chance, majority=float((targets.argmax(1) == favourite).mean()))


def paired_difference(
    axis: LabelSet,
    probabilities: NDArray[np.float32],
    other: NDArray[np.float32],
    targets: NDArray[np.float32],
    *,
    groups: Sequence[str],
    n_draws: int = 1000,
    seed: int = 0,
) -> Difference:
    """Headline measure (accuracy, on multi axes PR-AUC) of `probabilities` minus that of `other`, on the same tracks.

    All (n_tracks, n_labels) with the same columns. Both are measured on the same draws of creators, so that what
    makes a draw easy or hard for both is gone from the interval. `p_worse` counts draws without a difference half.
    ValueError as for `axis_metrics`.
    """
    known = _known(probabilities, targets) & _known(other, targets)
    names = _known_groups(groups, known)
    ours, theirs = (_answers(axis, p, targets, known, None) for p in (probabilities, other))
    headline = "accuracy" if axis.exclusive else "pr_auc"
    mine, its = (rightness(p, targets, exclusive=axis.exclusive) for p in (probabilities, other))
    draws = widest(
        [
            existing(
                _weighted(ours, weights)[headline] - _weighted(theirs, weights)[headline]
                for weights in group_draws(unit, n_draws, seed)
            )
            for unit in units(names)
        ]
    )
    return Difference(
        value=None if mine is None or its is None else mine - its,
        p_worse=float((draws < 0).mean() + (draws == 0).mean() / 2) if len(draws) else None,
        **interval(draws),
    )


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What was asked and answered on the known tracks of an axis, each (n_tracks, n_labels)."""

    exclusive: bool
    probabilities: NDArray[np.float32]
    positive: NDArray[np.bool_]
    accepted: NDArray[np.bool_]


def _known(predicted: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    if predicted.shape != targets.shape:
        raise ValueError(f"probabilities are {predicted.shape} and targets {targets.shape}; one row a track in both")
    known: NDArray[np.bool_] = np.logical_not(np.isnan(targets).any(axis=1))
    wrong = np.flatnonzero(known & ~np.isfinite(predicted).all(axis=1))
    if len(wrong):
        raise ValueError(f"row {wrong[0]} and {len(wrong) - 1} more have NaN or infinite probabilities")
    return known


def _known_groups(groups: Sequence[str], known: NDArray[np.bool_]) -> list[str]:
    if len(groups) != len(known):
        raise ValueError(f"{len(groups)} groups for {len(known)} tracks; give each track its creator")
    return [group for group, here in zip(groups, known, strict=True) if here]


def _answers(
    axis: LabelSet,
    probabilities: NDArray[np.float32],
    targets: NDArray[np.float32],
    known: NDArray[np.bool_],
    accepted: NDArray[np.bool_] | None,
) -> _Answers:
    if targets.shape[1] != len(axis.labels):
        raise ValueError(f"axis {axis.axis} has {len(axis.labels)} labels, the targets {targets.shape[1]} columns")
    if accepted is not None and accepted.shape != targets.shape:
        raise ValueError(f"accepted labels are {accepted.shape} and targets {targets.shape}; one row a track in both")
    probabilities, targets = probabilities[known], targets[known]
    if axis.exclusive:
        one_label = np.eye(len(axis.labels), dtype=np.bool_)
        positive, chosen = one_label[targets.argmax(1)], one_label[probabilities.argmax(1)]
    else:
        positive = targets > 0.5
        chosen = np.asarray(probabilities >= 0.5) if accepted is None else accepted[known]
    return _Answers(exclusive=axis.exclusive, probabilities=probabilities, positive=positive, accepted=chosen)


def _label_metrics(
    label: str, probability: NDArray[np.float32], positive: NDArray[np.bool_], accepted: NDArray[np.bool_]
) -> LabelMetrics:
    from sklearn.metrics import f1_score, precision_score, recall_score

    support = int(positive.sum())
    return LabelMetrics(
        label=label,
        support=support,
        prevalence=support / len(positive) if support else 0.0,
        precision=float(precision_score(positive, accepted)) if accepted.any() else None,
        recall=float(recall_score(positive, accepted)) if support else None,
        f1=float(f1_score(positive, accepted)) if support else None,
        roc_auc=_roc_auc(probability, positive),
        pr_auc=_pr_auc(probability, positive),
    )


def _pr_auc(predicted: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, predicted)) if _both_answers(positive) else None


def _roc_auc(predicted: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, predicted)) if _both_answers(positive) else None


def _both_answers(positive: NDArray[np.bool_]) -> bool:
    return bool(positive.any() and not positive.all())


def _overall(answers: _Answers, labels: Sequence[LabelMetrics]) -> dict[str, float | None]:
    macro_f1 = _mean_of(label.f1 for label in labels)
    if not answers.exclusive:
        return {
            "pr_auc": _mean_of(label.pr_auc for label in labels),
            "roc_auc": _mean_of(label.roc_auc for label in labels),
            "macro_f1": macro_f1,
        }
    from sklearn.metrics import accuracy_score, cohen_kappa_score

    true, top = answers.positive.argmax(1), answers.accepted.argmax(1)
    return {
        "accuracy": float(accuracy_score(true, top)) if len(true) else None,
        "balanced_accuracy": _mean_of(label.recall for label in labels),
        "macro_f1": macro_f1,
        "kappa": float(cohen_kappa_score(true, top)) if len({*true, *top}) > 1 else None,
    }


def _confusion(answers: _Answers) -> tuple[tuple[int, ...], ...]:
    counts = answers.positive.T.astype(np.int64) @ answers.accepted.astype(np.int64)
    return tuple(tuple(row) for row in counts.tolist())


def _mean_of(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def _weighted(answers: _Answers, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The measures of `axis_metrics` where a track counts `weights` times, (n_tracks, n_draws) -> each (n_draws,).

    NaN on draws where one does not exist. The same as scikit-learn on rows repeated so often.
    """
    n = weights.sum(axis=0)
    positive, accepted = answers.positive.T.astype(np.float64), answers.accepted.T.astype(np.float64)
    hits, n_positive, n_accepted = (positive * accepted) @ weights, positive @ weights, accepted @ weights
    support = np.where(n_positive > 0, n_positive, np.nan)
    macro_f1 = mean_over_labels(2 * hits / (support + n_accepted))
    if answers.exclusive:
        right, by_chance = hits.sum(axis=0), (n_positive * n_accepted).sum(axis=0) / n
        return {
            "accuracy": right / n,
            "balanced_accuracy": mean_over_labels(hits / support),
            "macro_f1": macro_f1,
            "kappa": (right - by_chance) / np.where(by_chance < n, n - by_chance, np.nan),
        }
    areas = [weighted_aucs(p, t, weights) for p, t in zip(answers.probabilities.T, answers.positive.T, strict=True)]
    pr_auc, roc_auc = (mean_over_labels(np.array(each)) for each in zip(*areas, strict=True))
    return {"pr_auc": pr_auc, "roc_auc": roc_auc, "macro_f1": macro_f1}
