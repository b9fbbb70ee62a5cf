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
    "corrected",  # a person said so; `detail` is the note
    "scored",  # the mood words' score is `detail`
    "between",  # scored, but at neither end
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
    stored: Sequence[Mapping[str, Any]],
    rare: Sequence[str] = (),
) -> Explanation:
    """The track's texts read anew, beside its rows in the labels table.

    track: a TRACKS row; stored: its LABELS rows; rare: `axis:label` that the labels leave out because a side of the
    split has too few.
    """
    tags = tuple(track["tags"] or ())
    description = track["description"] or ""
    claims, words = reader.read(tags, description)
    held = reader.matcher.held(claims)
    axes = []
    for axis in taxonomy.axes:
        rows = [row for row in stored if row["axis"] == axis.axis]
        labels = tuple(row["label"] for row in rows)
        score = score_of(words, axis.polarity) if axis.polarity else None
        if corrected := [row for row in rows if row["rule"] == "correction"]:
            reasons = [Reason(kind="corrected", label=row["label"], detail=row["evidence"]) for row in corrected]
        elif axis.polarity:
            reasons = _score_reasons(score, words, labels)
        else:
            reasons = _word_reasons(axis, claims, held, labels, rare)
        axes.append(AxisExplanation(axis=axis.axis, labels=labels, reasons=tuple(reasons), score=score))
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


def _score_reasons(score: float | None, words: Sequence[ScoredWord], labels: Sequence[str]) -> list[Reason]:
    if score is None:
        return [Reason(kind="unscored")]
    reasons = [Reason(kind="scored", label=labels[0] if labels else None, detail=f"{score:+.3f} ({len(words)})")]
    return reasons if labels else [*reasons, Reason(kind="between")]


def _word_reasons(
    axis: LabelSet, claims: Sequence[Claim], held: Sequence[Claim], labels: Sequence[str], rare: Sequence[str]
) -> list[Reason]:
    here = [claim for claim in held if claim.axis == axis.axis]
    reasons = []
    for n, claim in enumerate(here):
        if claim.label in labels:
            reasons.append(Reason(kind="said", label=claim.label, claim=claim))
        elif f"{axis.axis}:{claim.label}" in rare:
            reasons.append(Reason(kind="rare", label=claim.label, claim=claim))
        elif axis.exclusive and n and (labels or here[0].label in labels):
            reasons.append(Reason(kind="lost", label=claim.label, claim=claim))
        else:
            reasons.append(Reason(kind="stale", label=claim.label, claim=claim))
    has = {claim.label for claim in here}
    reasons.extend(Reason(kind="stale", label=label) for label in labels if label not in has | {NO_LABEL})
    told: set[str] = set()
    for claim in claims:
        if claim.axis == axis.axis and claim.verdict != "stated" and claim.label not in has | told:
            told.add(claim.label)
            reasons.append(Reason(kind=claim.verdict, label=claim.label, claim=claim))
    return reasons or [Reason(kind="silent")]
