"""Which tracks come up in an epoch, in which order: a function of the seed and the epoch, for any number of workers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagfleet.fleet.excerpts import stable_seed
from tagfleet.labels.taxonomy import Taxonomy


class Draw(NamedTuple):
    """A track that comes up."""

    track: int
    """Its place among the training tracks."""
    turn: int
    """How often it came up before in this epoch."""


def sampling_weights(
    targets: dict[str, NDArray[np.float32]], taxonomy: Taxonomy, balance: float
) -> NDArray[np.float64]:
    """How often each track shall come up, relative to the others; the mean is 1.

    targets: per axis (n_tracks, n_labels), NaN rows unknown. A label counts as if it had the others' number of tracks
    at `balance` 1, and as it is at 0; a track is the mean of its labels, and then of its known axes.
    """
    by_axis = []
    for axis in taxonomy.axes:
        known = targets[axis.axis]
        count = np.nansum(known, axis=0)
        worth = (count.sum() / (np.maximum(count, 1) * len(axis.labels))) ** balance
        share = known / np.maximum(np.nansum(known, axis=1, keepdims=True), 1e-9)
        weight = (share * worth).sum(axis=1)
        by_axis.append(np.where(np.nansum(known, axis=1) > 0, weight, np.nan))
    stacked = np.stack(by_axis)
    n_known = (~np.isnan(stacked)).sum(axis=0)
    weights: NDArray[np.float64] = np.where(n_known, np.nansum(stacked, axis=0) / np.maximum(n_known, 1), 1.0)
    weights /= weights.mean()
    return weights


def epoch_draws(weights: NDArray[np.float64], n_draws: int, *, seed: int, epoch: int) -> list[Draw]:
    """`n_draws` draws, in the order in which they come up.

    Systematic sampling over a fresh order of the tracks: each comes up as often as its weight says, rounded up or down
    by chance; with equal weights and no more draws than tracks none comes up twice.
    """
    rng = np.random.default_rng(stable_seed("draws", seed, epoch))
    order = rng.permutation(len(weights))
    reach = np.cumsum(weights[order])
    at = (np.arange(n_draws) + rng.random()) * (reach[-1] / n_draws)
    tracks = order[np.minimum(np.searchsorted(reach, at, side="right"), len(order) - 1)]
    tracks = tracks[rng.permutation(n_draws)]
    turns: dict[int, int] = {}
    draws = []
    for track in tracks.tolist():
        turns[track] = turns.get(track, -1) + 1
        draws.append(Draw(track, turns[track]))
    return draws
