"""The baseline that every result is held against: MFCC statistics and logistic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagfleet.labels.taxonomy import LabelSet


def track_statistics(log_mel: NDArray[np.floating], n_mfcc: int = 20) -> NDArray[np.float32]:
    """(n_frames, n_mels) in dB -> mean and deviation of MFCC and of their first differences."""
    from scipy.fft import dct

    mfcc = dct(log_mel.astype(np.float32), axis=1, norm="ortho")[:, :n_mfcc]
    delta = np.diff(mfcc, axis=0) if len(mfcc) > 1 else np.zeros_like(mfcc)
    return np.concatenate([x.mean(0) for x in (mfcc, delta)] + [x.std(0) for x in (mfcc, delta)]).astype(np.float32)


@dataclass(frozen=True)
class Baseline:
    axes: Sequence[LabelSet]
    models: Mapping[str, Any]

    def probabilities(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found = {}
        for axis in self.axes:
            p = np.zeros((len(features), len(axis.labels)), np.float32)
            m = self.models[axis.axis]
            if axis.exclusive:
                p[:, m[-1].classes_] = m.predict_proba(features)
            else:
                for n, one in enumerate(m):
                    p[:, n] = one.predict_proba(features)[:, 1] if hasattr(one, "predict_proba") else one
            found[axis.axis] = p
        return found


def fit_baseline(axes, features, targets, validation_features, validation_targets, *, seed):  # type: ignore
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def pipe():
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))

    models = {}
    for axis in axes:
        t = targets[axis.axis]
        known = ~np.isnan(t).any(1)
        x, t = features[known], t[known]
        if axis.exclusive:
            models[axis.axis] = pipe().fit(x, t.argmax(1))
        else:
            models[axis.axis] = [
                pipe().fit(x, y > 0.5) if 0 < (y > 0.5).sum() < len(y) else float(y.mean()) for y in t.T
            ]
    return Baseline(axes, models)
