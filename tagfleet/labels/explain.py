"""Why a track has its labels, or none: what its texts say, what was denied or stopped, and what decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tagfleet.labels.matching import Claim
from tagfleet.labels.polarity import ScoredWord, score_of
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import NO_LABEL, LabelSet, Taxonomy

ReasonKind = Literal[
    "said",  # the words of `claim` give `label`
    "denied",  # they would, but are denied
    "stopped",  # they would, but belong to a stop phrase
    "lost",  # given, but another label of an exclusive axis came first
    "conflict",  # given, but tracks with several labels of an exclusive axis are skipped
    "over",  # given, but `--per-class` tracks have it already
    "corrected",  # a person said so; `detail` is the note
    "scored",  # the mood words' score is `detail`
    "between",  # scored, but at neither end
    "planned",  # scored, and nothing was built yet that could rank it
    "unscored",  # no mood word
    "rare",  # given, but left out of the labels: too few tracks have it
    "stale",  # the labels table says something else: texts or taxonomy changed since
    "silent",  # no spelling of any label
]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One thing that decided, or did not."""

    kind: ReasonKind
    label: str | None = None
    claim: Claim | None = None
    detail: str = ""
    n_words: int = 0
    """Of a score."""


@dataclass(frozen=True, kw_only=True)
class AxisExplanation:
    """One axis of one track."""

    axis: str
    labels: tuple[str, ...]
    """In the labels table now."""
    reasons: tuple[Reason, ...]
    score: float | None = None
    """Of an axis that comes from a score."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Everything that is known of a track's labels."""

    track_id: str
    title: str | None
    tags: tuple[str, ...]
    description: str
    claims: tuple[Claim, ...]
    words: tuple[ScoredWord, ...]
    split: str | None
    axes: tuple[AxisExplanation, ...]


def explain_track(
    track: Mapping[str, Any],
    taxonomy: Taxonomy,
    reader: TrackReader,
    stored: Sequence[Mapping[str, Any]] | None,
    report: Mapping[str, Any] | None = None,
    corrections: Sequence[Mapping[str, Any]] = (),
) -> Explanation:
    """The track's texts read anew, beside its rows in the labels table.

    track: a TRACKS row; stored: its LABELS rows, None when nothing was ever built; report: what was counted while they
    were built; corrections: its CORRECTIONS rows.
    """
    tags = tuple(track["tags"] or ())
    description = track["description"] or ""
    claims, words = reader.read(tags, description)
    held = reader.matcher.held(claims)
    axes = []
    for axis in taxonomy.axes:
        rows = [row for row in stored or () if row["axis"] == axis.axis]
        said = [row for row in corrections if row["axis"] == axis.axis]
        score = score_of(words, axis.polarity) if axis.polarity else None
        if said:
            reasons = [Reason(kind="corrected", label=row["label"], detail=row["note"] or "") for row in said]
        elif axis.polarity:
            reasons = _score_reasons(axis, score, words, None if stored is None else rows, report or {})
        else:
            here = [claim for claim in held if claim.axis == axis.axis]
            labels = None if stored is None else [row["label"] for row in rows]
            reasons = [*_held_reasons(axis, here, labels, report or {}), *_other_reasons(axis, claims, here)]
            reasons = reasons or [Reason(kind="silent")]
        found = tuple(row["label"] for row in rows)
        axes.append(AxisExplanation(axis=axis.axis, labels=found, reasons=tuple(reasons), score=score))
    return Explanation(
        track_id=track["track_id"],
        title=track["title"],
        tags=tags,
        description=description,
        claims=tuple(claims),
        words=tuple(words),
        split=stored[0]["split"] if stored else None,
        axes=tuple(axes),
    )


def _score_reasons(
    axis: LabelSet,
    score: float | None,
    words: Sequence[ScoredWord],
    rows: Sequence[Mapping[str, Any]] | None,
    report: Mapping[str, Any],
) -> list[Reason]:
    label = rows[0]["label"] if rows else None
    if score is None:
        return [Reason(kind="stale", label=label)] if rows else [Reason(kind="unscored")]
    reasons = [Reason(kind="scored", label=label, detail=f"{score:+.3f}", n_words=len(words))]
    if rows is None:
        reasons.append(Reason(kind="planned"))
    elif rows:
        before = float(str(rows[0]["evidence"]).partition(":")[0] or 0)
        if abs(before - score) > 0.001:
            reasons.append(Reason(kind="stale", label=label))
    elif any(f"{axis.axis}:{end.id}" in report.get("rare", ()) for end in axis.labels):
        reasons.append(Reason(kind="rare"))
    else:
        reasons.append(Reason(kind="between"))
    return reasons


def _held_reasons(
    axis: LabelSet, here: Sequence[Claim], labels: Sequence[str] | None, report: Mapping[str, Any]
) -> list[Reason]:
    """Of each label that the texts give: taken, or why not. labels: in the table; None when nothing was built."""
    conflicts = report.get("config", {}).get("conflicts", "first")
    over = report.get("axes", {}).get(axis.axis, {}).get("n_over", {})
    reasons = []
    for n, claim in enumerate(here):
        kind: ReasonKind = "stale"
        if labels is not None and claim.label in labels:
            kind = "said"
        elif f"{axis.axis}:{claim.label}" in report.get("rare", ()):
            kind = "rare"
        elif axis.exclusive and len(here) > 1 and conflicts == "skip":
            kind = "conflict"
        elif axis.exclusive and n and conflicts == "first":
            kind = "lost"
        elif labels is None:
            kind = "said"
        elif claim.label in over:
            kind = "over"
        reasons.append(Reason(kind=kind, label=claim.label, claim=claim))
    has = {claim.label for claim in here}
    return reasons + [Reason(kind="stale", label=label) for label in labels or () if label not in has | {NO_LABEL}]


def _other_reasons(axis: LabelSet, claims: Sequence[Claim], here: Sequence[Claim]) -> list[Reason]:
    """Of each label that the texts would give: what denies or stops it."""
    told = {claim.label for claim in here}
    reasons = []
    for claim in claims:
        if claim.axis == axis.axis and claim.verdict != "stated" and claim.label not in told:
            told.add(claim.label)
            reasons.append(Reason(kind=claim.verdict, label=claim.label, claim=claim))
    return reasons
