"""The publish gate: whether a new snapshot looks so unlike the last one that a person should look first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagfleet.fleet.distribution import UNKNOWN
from tagfleet.fleet.resources import GateConfig

ALL_AXES = "all"
"""In the place of an axis: what is looked at concerns none in particular."""


@dataclass(frozen=True, kw_only=True)
class GateValue:
    """One thing that is looked at, on one axis."""

    axis: str
    what: str
    """stability-index | unknown-rise | flips | tagged-fall"""
    value: float | None
    """None where there was nothing to compare, or too little to say anything."""
    most: float
    n: int
    """Tracks that the value is made of, on the smaller side."""

    @property
    def refused(self) -> bool:
        """Whether it is above what is allowed."""
        return self.value is not None and self.value > self.most

    def __str__(self) -> str:
        return f"{self.axis} {self.what} {self.value:.3f} > {self.most:g} ({self.n} tracks)"


def gate_values(
    before: Mapping[str, Mapping[str, int]],
    after: Mapping[str, Mapping[str, int]],
    n_before: int,
    n_after: int,
    flips: Mapping[str, tuple[int, int]],
    config: GateConfig,
) -> tuple[GateValue, ...]:
    """How many fewer tracks are tagged; per axis: how far the labels' distribution moved, how much more is unknown, how
    many top labels flipped.

    before, after: labels of the two snapshots, `unknown` among them. n_before, n_after: their tagged tracks. flips:
    (compared, flipped), of tracks that the same model had tagged before. An axis that no track had a label on before
    is new: there is nothing to compare with.
    """
    n = min(n_before, n_after)
    fall = 1 - n_after / n_before if n_before >= config.min_tracks else None
    values = [GateValue(axis=ALL_AXES, what="tagged-fall", value=fall, most=config.max_tagged_fall, n=n)]
    for axis in after:
        old, new = before.get(axis, {}), after[axis]
        comparable = n >= config.min_tracks and bool(old.keys() - {UNKNOWN})
        index = stability_index(old, new) if comparable else None
        rise = new.get(UNKNOWN, 0) / n_after - old.get(UNKNOWN, 0) / n_before if comparable else None
        compared, flipped = flips.get(axis, (0, 0))
        share = flipped / compared if compared >= config.min_tracks else None
        values += [
            GateValue(axis=axis, what="stability-index", value=index, most=config.max_stability_index, n=n),
            GateValue(axis=axis, what="unknown-rise", value=rise, most=config.max_unknown_rise, n=n),
            GateValue(axis=axis, what="flips", value=share, most=config.max_flips, n=compared),
        ]
    return tuple(values)


def stability_index(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Population stability index: sum of (q - p) ln(q / p) over all labels, 0 for equal shares.

    Below 0.1 is usually called stable, above 0.25 a major shift (Siddiqi, "Credit Risk Scorecards", 2006). Shares are
    those of (n + 1/2), so that a label which appears or vanishes gives a finite number.

    >>> stability_index({"rock": 50, "jazz": 50}, {"rock": 500, "jazz": 500}) < 1e-3
    True
    >>> round(stability_index({"rock": 500, "jazz": 500}, {"rock": 900, "jazz": 100}), 2)
    0.88
    """
    labels = sorted(before.keys() | after.keys())
    p, q = _shares(before, labels), _shares(after, labels)
    return math.fsum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def _shares(counts: Mapping[str, int], labels: Sequence[str]) -> list[float]:
    smoothed = [counts.get(label, 0) + 0.5 for label in labels]
    return [n / sum(smoothed) for n in smoothed]
