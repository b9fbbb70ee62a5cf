"""Class health: which labels of an exclusive axis a network cannot tell, and what one might do about each."""

from __future__ import annotations

from typing import Literal

from tagfleet.config import Section

Verdict = Literal["healthy", "diffuse", "confusable", "rare", "too-few"]


class LabelHealth(Section):
    """One label."""

    label: str
    verdict: Verdict
    partner: str | None = None
    """The label that it is taken for most often, and the other way round; what `confusable` means."""
    support: int
    """Tracks that have it."""
    f1: float
    masked_accuracy: float
    """Accuracy of the same probabilities without this label and its tracks: what dropping it gives by arithmetic."""
    masked_kappa_gain: float
    """Cohen's kappa without it minus kappa with it."""
    confusion_spread: float
    """How evenly its errors go to the other labels, 0 (all to one) to 1 (normalised entropy)."""


class AxisHealth(Section):
    """One exclusive axis."""

    axis: str
    n_tracks: int
    accuracy: float
    kappa: float
    labels: tuple[LabelHealth, ...]
    """In the taxonomy's order."""
