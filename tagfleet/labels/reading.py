"""One track's texts, read once: what they say of the labels, and which mood words they hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from tagfleet.labels.lexicon import MoodWord, PolarityTable
from tagfleet.labels.matching import Claim, Matcher
from tagfleet.labels.polarity import MoodScorer, ScoredWord
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.labels.text import Prose, read_prose

MAX_TAG = 64
"""Characters of a tag whose reading is kept."""
TAGS_IN_MEMORY = 65536
"""Distinct tags whose reading is kept: creators use the same few thousand over and over."""


class TrackReading(NamedTuple):
    """What the texts of a track say, tags in their order first."""

    claims: list[Claim]
    words: list[ScoredWord]
    """Empty where the taxonomy has no axis that comes from a score."""


class TrackReader:
    """Holds a taxonomy's phrases and the mood lexicons."""

    def __init__(self, taxonomy: Taxonomy, own: Sequence[MoodWord] = (), tables: Sequence[PolarityTable] = ()) -> None:
        self.matcher = Matcher(taxonomy)
        scored = any(axis.polarity for axis in taxonomy.axes)
        self._scorer = MoodScorer(own, tables) if scored else None
        self._moods = {axis.axis for axis in taxonomy.axes if any(label.valence is not None for label in axis.labels)}
        self._tag = lru_cache(maxsize=TAGS_IN_MEMORY)(self._read_tag)

    def read(self, tags: Sequence[str], description: str) -> TrackReading:
        """Every claim and mood word of a track's tags and description."""
        claims: list[Claim] = []
        words: list[ScoredWord] = []
        for position, tag in enumerate(tags):
            said = self._tag(tag) if len(tag) <= MAX_TAG else self._read_tag(tag)
            if position:
                claims.extend(claim._replace(position=position) for claim in said.claims)
                words.extend(word._replace(position=position) for word in said.words)
            else:
                claims.extend(said.claims)
                words.extend(said.words)
        if description:
            prose = read_prose(description)
            said = self._with_words(prose, self.matcher.read_description(prose, len(tags)), "description", len(tags))
            claims.extend(said.claims)
            words.extend(said.words)
        return TrackReading(claims, words)

    def _read_tag(self, tag: str) -> TrackReading:
        prose = read_prose(tag)
        return self._with_words(prose, self.matcher.read_tag(prose, 0), "tag", 0)

    def _with_words(self, prose: Prose, claims: list[Claim], source: str, position: int) -> TrackReading:
        if self._scorer is None:
            return TrackReading(claims, [])
        others = [claim.place for claim in claims if claim.axis not in self._moods and claim.verdict != "stopped"]
        return TrackReading(claims, self._scorer.read(prose, source, position, others))
