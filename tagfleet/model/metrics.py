"""How right the probabilities are, beside what guessing would give."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tagfleet.config import Section


class AxisMetrics(Section):
    """One axis of one evaluation."""

    axis: str
    measure: Literal["accuracy", "roc_auc"]
    """accuracy of the top label on exclusive axes, ROC-AUC averaged over labels on the others."""
    value: float | None
    """Between 0 and 1; None when nothing could be measured."""
    chance: float
    """What guessing gives: the better of one label always and any label at random; 0.5 for ROC-AUC."""
    n_tracks: int
    """Tracks whose labels are known on this axis."""


def axis_metrics(
    axis: str,
    *,
    exclusive: bool,
    probabilities: NDArray[np.float32],
    targets: NDArray[np.float32],
    train_targets: NDArray[np.float32],
) -> AxisMetrics:
    """Measure (n_tracks, n_labels) probabilities against targets of the same shape; NaN rows are unknown.

    `train_targets` (any number of tracks, n_labels) tells which single answer is the best guess: the most frequent
    label of the training tracks, never of the tracks measured.
    """
    known = ~np.isnan(targets).any(axis=1)
    return AxisMetrics(
        axis=axis,
        measure="accuracy" if exclusive else "roc_auc",
        value=rightness(probabilities, targets, exclusive=exclusive),
        chance=_accuracy_of_guessing(targets[known], train_targets) if exclusive else 0.5,
        n_tracks=int(known.sum()),
    )


def rightness(predicted: NDArray[np.float32], targets: NDArray[np.float32], *, exclusive: bool) -> float | None:
    """Accuracy of the top label if `exclusive`, else ROC-AUC averaged over the labels that have both answers.

    `predicted` are probabilities or logits, both measures only look at their order. None when nothing is known.
    """
    known = ~np.isnan(targets).any(axis=1)
    predicted, targets = predicted[known], targets[known]
    if exclusive:
        return float((predicted.argmax(1) == targets.argmax(1)).mean()) if len(targets) else None
    areas = [roc_auc(p, t) for p, t in zip(predicted.T, targets.T, strict=True)]
    measured = [area for area in areas if area is not None]
    return sum(measured) / len(measured) if measured else None


def _accuracy_of_guessing(targets: NDArray[np.float32], train_targets: NDArray[np.float32]) -> float:
    at_random: float = 1 / targets.shape[1]
    if not len(targets):
        return at_random
    favourite = int(np.nansum(train_targets, axis=0).argmax())
    return max(at_random, float((targets.argmax(1) == favourite).mean()))


def roc_auc(predicted: NDArray[np.float32], targets: NDArray[np.float32]) -> float | None:
    """The chance that a positive track ranks above a negative one, ties counting half (Mann-Whitney U).

    Both (n_tracks,), targets 0 or 1. None without a positive or without a negative.

    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.9], np.float32), np.array([0, 0, 1, 1], np.float32))
    0.875
    """
    positive = targets > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    _, place, count = np.unique(predicted, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    u = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))
