"""The baseline that a network must beat: MFCC and mel statistics of whole tracks, and logistic regression.

On some hundred tracks it is hard to beat from scratch, so it is trained on the same tracks and printed beside the
network's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tagfleet.labels.taxonomy import LabelSet

N_COARSE = 12
"""Groups of neighbouring mel bands in the coarse mel."""
C_GRID = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the L2 penalty that validation chooses from, the strongest first."""


def track_statistics(log_mel: NDArray[np.floating], n_mfcc: int = 20) -> NDArray[np.float32]:
    """What a track sounds like on the whole, from its (n_frames, n_mels) log-mel in dB: (n_features,) float32.

    In this order, each as mean and standard deviation over frames: MFCC (the first `n_mfcc` of the orthonormal DCT-II
    along the mel bands), their difference from frame to frame (0 for a track of one frame), and the coarse mel, the
    mean dB of N_COARSE groups of neighbouring bands. That makes 4 n_mfcc + 2 N_COARSE numbers, fewer where there are
    fewer bands. ValueError for a track without frames. A minute of audio takes 2 ms of one core.
    """
    if not len(log_mel):
        raise ValueError("a track without frames has no statistics; leave it out as failed")
    frames = log_mel.astype(np.float32)
    mfcc = np.ascontiguousarray(dct(frames, type=2, norm="ortho", axis=1)[:, :n_mfcc].T)
    steps = np.diff(mfcc) if len(frames) > 1 else np.zeros_like(mfcc)
    edges = np.unique(np.linspace(0, frames.shape[1], N_COARSE + 1, dtype=np.intp))
    coarse = np.add.reduceat(frames, edges[:-1], axis=1).T / np.diff(edges)[:, None].astype(np.float32)
    return np.concatenate([moment for x in (mfcc, steps, coarse) for moment in (x.mean(axis=1), x.std(axis=1))])


@dataclass(frozen=True, kw_only=True)
class LinearAxis:
    """Logistic regression of one axis: logits are features @ weights + bias."""

    exclusive: bool
    """True: softmax over the labels. False: sigmoid of each."""
    weights: NDArray[np.float64]
    """(n_features, n_labels)."""
    bias: NDArray[np.float64]
    """(n_labels,); -inf and inf where a label never or always was the answer."""

    def probabilities(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n_tracks, n_features) -> (n_tracks, n_labels)."""
        logits = features.astype(np.float64) @ self.weights + self.bias
        if self.exclusive:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A fitted baseline: numbers only, scikit-learn is no longer needed."""

    axes: Mapping[str, LinearAxis]

    def probabilities(self, features: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
        """`track_statistics` of tracks, (n_tracks, n_features) -> per axis (n_tracks, n_labels)."""
        return {name: axis.probabilities(features).astype(np.float32) for name, axis in self.axes.items()}


def fit_baseline(
    axes: Sequence[LabelSet],
    features: NDArray[np.floating],
    targets: Mapping[str, NDArray[np.floating]],
    validation_features: NDArray[np.floating],
    validation_targets: Mapping[str, NDArray[np.floating]],
    *,
    seed: int,
) -> Baseline:
    """Fit each axis on the tracks whose labels are known there; 3,000 tracks and 38 labels take 1.2 s of one core.

    Features (n_tracks, n_features), targets per axis (n_tracks, n_labels), NaN rows unknown. Features are standardised
    on the known training tracks. Exclusive axes are one softmax, the others one regression per label; of C_GRID an axis
    takes what gives its validation tracks the lowest log-loss, the strongest penalty where none is known. Labels with
    one answer only get it as a constant, an axis without known tracks gives all labels the same.

    Classes are not weighted to balance: on skewed axes that gave up to 9 points less accuracy where labels overlap, the
    measure of exclusive axes (1 more at best, where hardly any do), and on multi axes the same ranking and 5 to 14 %
    more log-loss (spoken digits, the demo's tracks, simulated Gaussians).
    """
    # Small products on many threads: among other busy processes they were 30 times slower than on one.
    with threadpool_limits(limits=1):
        return Baseline(
            axes={
                axis.axis: _fit_axis(
                    axis.exclusive,
                    *_known(features, targets[axis.axis]),
                    *_known(validation_features, validation_targets[axis.axis]),
                    seed,
                )
                for axis in axes
            }
        )


def _known(
    features: NDArray[np.floating], targets: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(targets).any(axis=1)
    return features[known].astype(np.float64), targets[known].astype(np.float64)


def _fit_axis(
    exclusive: bool,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    validation_x: NDArray[np.float64],
    validation_y: NDArray[np.float64],
    seed: int,
) -> LinearAxis:
    if not len(x):
        return LinearAxis(exclusive=exclusive, weights=np.zeros((x.shape[1], y.shape[1])), bias=np.zeros(y.shape[1]))
    scaler = StandardScaler().fit(x)
    scaled, fit = scaler.transform(x), _softmax if exclusive else _sigmoids
    candidates = []
    for c in C_GRID:
        weights, bias = fit(scaled, y, c, seed)
        weights = weights / scaler.scale_[:, None]
        candidates.append(LinearAxis(exclusive=exclusive, weights=weights, bias=bias - scaler.mean_ @ weights))
    return min(candidates, key=lambda axis: _log_loss(axis.probabilities(validation_x), validation_y, exclusive))


def _softmax(
    x: NDArray[np.float64], y: NDArray[np.float64], c: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias of one softmax over the labels that are there; the others get -inf."""
    true = y.argmax(axis=1)
    seen = np.unique(true)
    weights, bias = np.zeros((x.shape[1], y.shape[1])), np.full(y.shape[1], -np.inf)
    bias[seen] = 0
    if len(seen) > 1:
        fitted, offset = _regression(x, true, c, seed)
        # Of two classes scikit-learn gives one logit, the second's.
        there = seen if len(seen) > 2 else seen[1:]
        weights[:, there], bias[there] = fitted.T, offset
    return weights, bias


def _sigmoids(
    x: NDArray[np.float64], y: NDArray[np.float64], c: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias of one regression per label; a label with one answer has an infinite bias."""
    weights, bias = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for label, answers in enumerate(y.T > 0.5):
        if answers.all() or not answers.any():
            bias[label] = np.inf if answers.all() else -np.inf
            continue
        fitted, offset = _regression(x, answers, c, seed)
        weights[:, label], bias[label] = fitted[0], offset[0]
    return weights, bias


def _regression(
    x: NDArray[np.float64], true: NDArray[np.generic], c: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # On standardised features the solver needs some 10 to 200 steps; it is given as many as it could want.
    fitted = LogisticRegression(C=c, max_iter=10_000, random_state=seed).fit(x, true)
    return fitted.coef_, fitted.intercept_


def _log_loss(p: NDArray[np.float64], y: NDArray[np.float64], exclusive: bool) -> float:
    """Mean over tracks, summed over the labels of a multi axis; 0 without tracks."""
    right = (p * (y == y.max(axis=1, keepdims=True))).sum(axis=1) if exclusive else np.where(y > 0.5, p, 1 - p)
    return float(-np.log(np.maximum(right, 1e-6)).sum() / max(len(y), 1))
