"""Where a model and the labels disagree, track by track: for the report, and as CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tagfleet.config import Section
from tagfleet.labels.taxonomy import LabelSet

Kind = Literal["wrong", "extra", "missing"]
"""`wrong`: another label of an exclusive axis. Elsewhere `extra` (accepted, but the track does not have it) and
`missing` (the track has it, but it was not accepted)."""

FORMULA = re.compile(r"[\s\x00-\x20\u200b-\u200f\u2028-\u202f\u2060\ufeff]*[=+\-@＝＋－＠]|[\t\r]")
"""How a cell begins that a spreadsheet may take for a formula (OWASP, CSV injection), full-width forms too."""


class Mistake(Section):
    """One label of one track that the model got wrong."""

    track_id: str
    axis: str
    kind: Kind = "wrong"
    source_name: str | None = None
    """Last part of the uri, for people."""
    title: str | None = None
    uri: str
    true_label: str | None
    """None for an extra label."""
    evidence: str = ""
    """The words that gave the true label; empty for an extra label."""
    rule: str = ""
    """How they gave it: name, synonym, parent, polarity or correction."""
    predicted_label: str | None
    """None for a missing label."""
    confidence: float
    """Probability of the wrong answer: of `predicted_label`; of a missing label, that the track does not have it."""
    probabilities: dict[str, float]
    """Of every label of the axis."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A mistake before the catalogue is asked about its track."""

    index: int
    """Row of the track in what was measured."""
    kind: Kind
    true_label: str | None
    predicted_label: str | None
    confidence: float


def mistakes_of(
    axis: LabelSet,
    track_ids: Sequence[str],
    probabilities: NDArray[np.float32],
    targets: NDArray[np.float32],
    *,
    accepted: NDArray[np.bool_] | None = None,
) -> list[Disagreement]:
    """Where (n_tracks, n_labels) probabilities and targets of the same shape disagree, the surest mistake first.

    NaN rows of `targets` are unknown and skipped. On an exclusive axis the top labels are compared, as in the
    confusion matrix: its cells off the diagonal are these mistakes, whatever `unknown_below` would keep back. Elsewhere
    each label counts for itself; accepted: (n_tracks, n_labels), which ones a track was given, from p = 0.5 on if left
    out. Ties stand in the order of the track ids, then of the labels.
    """
    known = set(np.flatnonzero(~np.isnan(targets).any(axis=1)).tolist())
    if axis.exclusive:
        found = _exclusive(axis, probabilities, targets)
    else:
        found = _multi(axis, probabilities, targets, np.asarray(probabilities >= 0.5) if accepted is None else accepted)
    return sorted(
        (disagreement for disagreement in found if disagreement.index in known),
        key=lambda disagreement: (-disagreement.confidence, track_ids[disagreement.index]),
    )


def _exclusive(
    axis: LabelSet, probabilities: NDArray[np.float32], targets: NDArray[np.float32]
) -> Iterable[Disagreement]:
    predicted, true = probabilities.argmax(axis=1), targets.argmax(axis=1)
    for index in np.flatnonzero(predicted != true):
        yield Disagreement(
            index=int(index),
            kind="wrong",
            true_label=axis.labels[true[index]].id,
            predicted_label=axis.labels[predicted[index]].id,
            confidence=float(probabilities[index, predicted[index]]),
        )


def _multi(
    axis: LabelSet, probabilities: NDArray[np.float32], targets: NDArray[np.float32], accepted: NDArray[np.bool_]
) -> Iterable[Disagreement]:
    has = targets > 0.5
    for index, column in np.argwhere(accepted != has):
        label, probability = axis.labels[column].id, float(probabilities[index, column])
        extra = bool(accepted[index, column])
        yield Disagreement(
            index=int(index),
            kind="extra" if extra else "missing",
            true_label=None if extra else label,
            predicted_label=label if extra else None,
            confidence=probability if extra else 1 - probability,
        )


COLUMNS = (
    "axis",
    "kind",
    "confidence",
    "true_label",
    "predicted_label",
    "track_id",
    "title",
    "source_name",
    "uri",
    "evidence",
    "rule",
    "probabilities",
)
"""Of the CSV; `probabilities` is a JSON object, because axes have different labels."""


def mistakes_csv(mistakes: Iterable[Mistake]) -> str:
    """All mistakes as CSV (RFC 4180, no byte order mark), every cell quoted.

    A cell that a spreadsheet could run as a formula gets an apostrophe in front; whoever reads the file by program
    takes it off again, from ids and uris too.
    """
    text = io.StringIO()
    rows = csv.writer(text, quoting=csv.QUOTE_ALL)
    rows.writerow(COLUMNS)
    rows.writerows([_cell(getattr(mistake, column)) for column in COLUMNS] for mistake in mistakes)
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps({label: round(float(p), 6) for label, p in value.items()}, allow_nan=False)
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    return "'" + text if FORMULA.match(text) else text
