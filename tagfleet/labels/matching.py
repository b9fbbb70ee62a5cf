"""What one track's tags and description say of each label: stated, denied, or hidden by a stop phrase.

A tag is a statement, a description is prose: a spelling that is the whole tag always counts, in prose it must be a word
by itself and be said of the music. Where texts disagree, a tag's statement comes first, then a tag's denial, then the
description.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from tagfleet.labels.context import aside
from tagfleet.labels.negation import denial
from tagfleet.labels.phrases import Hit, PhraseIndex, phrases_of, resolve
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.labels.text import Prose, match_key

Verdict = Literal["stated", "denied", "stopped"]


class Claim(NamedTuple):
    """What one place of a text says of one label."""

    axis: str
    label: str
    rule: str
    """`name` (id or display name), `synonym`, or `parent`: the label is a parent of one that is stated."""
    source: str
    """`tag` or `description`."""
    position: int
    """Index of the tag in the creator's order; of a description, the number of tags."""
    start: int
    end: int
    """The characters of the original tag or description."""
    evidence: str
    """Those characters."""
    verdict: Verdict
    because: str
    """The words that deny it, the stop phrase, or what it is said of; empty for what is stated."""
    place: tuple[int, int]
    """The characters of the folded text."""

    @property
    def weight(self) -> float:
        """1 for the first tag, then 1/2, 1/3, …: creators list tags in order of importance."""
        return 1 / (1 + self.position)


class Matcher:
    """Holds a taxonomy's phrases."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._index = PhraseIndex(phrases_of(taxonomy))
        self._exclusive = {axis.axis for axis in taxonomy.axes if axis.exclusive}
        self._parents = {
            (axis.axis, label.id): axis.ancestors(label.id) for axis in taxonomy.axes for label in axis.labels
        }

    def read_description(self, prose: Prose, position: int) -> list[Claim]:
        """The claims of a text in which a spelling must be a word by itself, in the text's order."""
        hits = self._index.find(prose)
        return self._claims(prose, hits, "description", position) if hits else []

    def read_tag(self, prose: Prose, position: int) -> list[Claim]:
        """The claims of a tag; a spelling that is all of it always counts."""
        hits = self._index.find(prose)
        if whole := self._index.whole(match_key(prose.folded.text)):
            hits = list({*hits, *(Hit(phrase, 0, len(prose.folded.text)) for phrase in whole)})
        return self._claims(prose, hits, "tag", position) if hits else []

    def held(self, claims: Iterable[Claim]) -> list[Claim]:
        """Of each label that a track has, the claim that decides, in the order of claims; then the parents' claims."""
        deciding: dict[tuple[str, str], Claim] = {}
        last: dict[tuple[str, str], Claim] = {}
        for claim in sorted(claims, key=_authority):
            if claim.verdict != "stopped":
                deciding.setdefault(claim[:2], claim)
                if claim.source != "tag" and (claim[:2] not in last or claim.start > last[claim[:2]].start):
                    last[claim[:2]] = claim
        held = [claim for claim in deciding.values() if claim.verdict == "stated" and not self._taken_back(claim, last)]
        held.sort(key=lambda claim: (claim.position, claim.start))
        have = {claim[:2] for claim in held}
        for claim in held[:]:
            for parent in self._parents[claim[:2]]:
                if (claim.axis, parent) not in have:
                    have.add((claim.axis, parent))
                    held.append(claim._replace(label=parent, rule="parent"))
        return held

    def _taken_back(self, claim: Claim, last: Mapping[tuple[str, str], Claim]) -> bool:
        """ジャズと言われますが、ジャズではなく: where a track has one label, prose may take back what it said."""
        return claim.source != "tag" and claim.axis in self._exclusive and last[claim[:2]].verdict == "denied"

    def _claims(self, prose: Prose, hits: list[Hit], source: str, position: int) -> list[Claim]:
        kept, stopped = resolve(hits)
        spans: dict[str, list[tuple[int, int]]] = {}
        for hit in kept:
            spans.setdefault(hit.phrase.axis, []).append(hit[1:])
        denials = {hit: denial(prose, hit.start, hit.end, spans[hit.phrase.axis]) for hit in kept}
        # 壮大なオーケストラとは違い: what describes a thing that is not there is not there either. But the denial in
        # 明るいドラムレスの曲 belongs to its own word.
        absent = {hit.start: denied for hit, denied in denials.items() if denied and denied.start > hit.end}
        for hit in kept:
            if denials[hit] is None:
                behind = hit.end + (prose.folded.text[hit.end : hit.end + 1] in ("な", "の"))
                denials[hit] = absent.get(behind)
        claims = []
        for hit, denied in denials.items():
            verdict: Verdict = "denied" if denied else "stated"
            because = denied.told(prose, hit.start, hit.end) if denied else ""
            if not denied and (other := aside(prose, hit.end)):
                verdict, because = "stopped", prose.words(hit.start, other.end)
            claims.append(_claim(prose, hit, source, position, verdict, because))
        claims.extend(_claim(prose, hit, source, position, "stopped", stop.phrase.spelling) for hit, stop in stopped)
        return claims


def _authority(claim: Claim) -> tuple[bool, bool, int, int]:
    return claim.source != "tag", claim.verdict != "stated", claim.position, claim.start


def _claim(prose: Prose, hit: Hit, source: str, position: int, verdict: Verdict, because: str) -> Claim:
    start, end = prose.folded.span(hit.start, hit.end)
    return Claim(
        axis=hit.phrase.axis,
        label=hit.phrase.label,
        rule=hit.phrase.rule,
        source=source,
        position=position,
        start=start,
        end=end,
        evidence=prose.folded.original[start:end],
        verdict=verdict,
        because=because,
        place=(hit.start, hit.end),
    )
