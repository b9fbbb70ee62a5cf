"""The cluster bootstrap: measures where whole creators are drawn, as weights of their tracks.

Percentile intervals (Efron & Tibshirani 1993) over groups drawn with replacement (Field & Welsh 2007). A handful of
groups promise too much: three creators who are right equally often give an interval of no width. Below ENOUGH_GROUPS
tracks are drawn singly too, and the wider of the two intervals counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

CHUNK = 250
"""Draws computed at once; more are no faster and take memory: n_tracks * CHUNK * 8 bytes a few times over."""


ENOUGH_GROUPS = 30
"""From here on drawing groups alone is right (Cameron, Gelbach & Miller 2008 warn below 20 to 30)."""


def units(groups: Sequence[str]) -> list[Sequence[str]]:
    """What is drawn: the groups, and where those are few the single tracks too; nothing if there are no two groups."""
    n_groups = len(set(groups))
    if n_groups < 2:
        return []
    return [groups] if n_groups >= min(ENOUGH_GROUPS, len(groups)) else [groups, [str(n) for n in range(len(groups))]]


def group_draws(groups: Sequence[str], n_draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each track counts, (n_tracks, up to CHUNK draws) at a time."""
    place = {group: n for n, group in enumerate(sorted(set(groups)))}
    of_track = np.array([place[group] for group in groups])
    rng = np.random.default_rng(seed)
    for start in range(0, n_draws, CHUNK):
        times = rng.multinomial(len(place), np.full(len(place), 1 / len(place)), size=min(CHUNK, n_draws - start))
        yield times.T[of_track].astype(np.float64)


def existing(draws: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """All draws as one (n_draws,), without those on which a measure does not exist (NaN)."""
    joined: NDArray[np.float64] = np.concatenate([np.empty(0), *draws])
    return joined[~np.isnan(joined)]


def widest(kinds: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Of draws of several kinds of units, those that spread most; none without kinds."""
    there = [draws for draws in kinds if len(draws)]
    return max(there, key=lambda draws: float(np.ptp(np.percentile(draws, (2.5, 97.5)))), default=np.empty(0))


def interval(draws: NDArray[np.float64]) -> dict[str, float]:
    """`low` and `high` of the middle 95 %; nothing without draws."""
    if not len(draws):
        return {}
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"low": float(low), "high": float(high)}


def weighted_aucs(
    predicted: NDArray[np.float32], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precision and ROC-AUC of one label, per column of (n_tracks, n_draws) weights.

    Each positive adds the precision of all that rank at least as high as it, and the share of negatives that rank
    lower, those that rank equal counting half. NaN without a positive or without a negative.
    """
    order = np.argsort(-predicted, kind="stable")
    falling, places = -predicted[order], np.flatnonzero(positive[order])
    before, after = (np.searchsorted(falling, falling[places], side=side) for side in ("left", "right"))
    weights = weights[order]
    start = np.zeros((1, weights.shape[1]))
    ranked, hits = (np.concatenate([start, w.cumsum(axis=0)]) for w in (weights, weights[places]))
    n_positive = hits[-1]
    n_negative = ranked[-1] - n_positive
    both = (n_positive > 0) & (n_negative > 0)
    n_positive, n_negative = np.where(both, n_positive, np.nan), np.where(both, n_negative, np.nan)
    hits_before, hits_after = (hits[np.searchsorted(places, edge)] for edge in (before, after))
    precision = hits_after / np.maximum(ranked[after], 1)  # 0 / 1 where nothing so high was drawn
    passed = (ranked[before] - hits_before + ranked[after] - hits_after) / 2
    pr_auc = (weights[places] * precision).sum(axis=0) / n_positive
    return pr_auc, (weights[places] * (1 - passed / n_negative)).sum(axis=0) / n_positive


def mean_over_labels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_labels, n_draws) -> (n_draws,), NaN left out."""
    n = (~np.isnan(values)).sum(axis=0)
    mean: NDArray[np.float64] = np.nansum(values, axis=0) / np.where(n > 0, n, np.nan)
    return mean
