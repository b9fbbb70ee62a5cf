"""How pleasant (or energetic) the words for a track's mood are: a score with the words that make it, and the two ends.

Score: the weighted mean over mood words, those of tags weighing more the earlier they stand; a denied word counts with
the other sign; no mood word, no score. Nouns score only where our own lexicon lists them (averaging all words of the PN
Table finds instruments and seasons: FIELD_NOTES). ない itself never scores, it denies.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tagfleet.labels.context import aside
from tagfleet.labels.lexicon import MoodWord, PolarityTable
from tagfleet.labels.negation import FILLERS, denial
from tagfleet.labels.phrases import Phrase, PhraseIndex, is_hiragana, resolve
from tagfleet.labels.text import Prose

Dimension = Literal["valence", "arousal"]
NO_MOOD = {"ない", "無い"}
"""Lemmas that no table may score."""


class ScoredWord(NamedTuple):
    """A mood word at a place of a text."""

    source: str
    """`tag` or `description`."""
    position: int
    start: int
    end: int
    """The characters of the original tag or description."""
    words: str
    valence: float
    """With the sign that it counts with."""
    arousal: float | None
    """None for a word of a table that knows valence only."""
    denied_by: str
    lexicon: str
    """Where the value stands."""


class MoodScorer:
    """Holds the lexicons: our own first, then tables in their order."""

    def __init__(self, own: Sequence[MoodWord], tables: Sequence[PolarityTable] = ()) -> None:
        self._own = {word.word: word for word in own}
        self._index = PhraseIndex(
            Phrase("mood", word.word, "synonym", spelling) for word in own for spelling in (word.word, *word.variants)
        )
        self._tables = tuple(tables)

    def read(self, prose: Prose, source: str, position: int, taken: Sequence[tuple[int, int]] = ()) -> list[ScoredWord]:
        """The mood words of one text in its order; what overlaps `taken` (folded spans) is another axis' word."""
        taken = _merged(taken)
        found: list[tuple[int, int, float, float | None, str]] = []
        for phrase, start, end in resolve(self._index.find(prose)).kept:
            word = self._own[phrase.label]
            if not _covered(start, end, taken) and _may_be(word, prose, start, end) and not aside(prose, end):
                found.append((start, end, word.valence, word.arousal, "mood_lexicon"))
        found.extend(self._from_tables(prose, sorted([*taken, *(entry[:2] for entry in found)])))
        found = [entry for entry in found if entry[2] or entry[3]]  # no mood, by decision: お楽しみください
        found.sort(key=lambda entry: entry[:2])
        spans = [entry[:2] for entry in found]
        words = []
        for start, end, valence, arousal, lexicon in found:
            denied = denial(prose, start, end, spans)
            sign = -1 if denied else 1
            begin, stop = prose.folded.span(start, end)
            words.append(
                ScoredWord(
                    source=source,
                    position=position,
                    start=begin,
                    end=stop,
                    words=prose.folded.original[begin:stop],
                    valence=sign * valence,
                    arousal=None if arousal is None else sign * arousal,
                    denied_by=denied.told(prose, start, end) if denied else "",
                    lexicon=lexicon,
                )
            )
        return words

    def _from_tables(
        self, prose: Prose, taken: Sequence[tuple[int, int]]
    ) -> Iterable[tuple[int, int, float, float | None, str]]:
        if not self._tables:
            return
        for token in prose.tokens:
            if token.lemma in NO_MOOD or (token.pos == "動詞" and token.pos_detail == "非自立可能"):
                continue  # 〜ている, 〜になる say nothing of a mood
            if token.lemma in FILLERS or _covered(token.start, token.end, taken):
                continue
            if aside(prose, token.end):
                continue
            for table in self._tables:
                value = table.value(token)
                if value:
                    yield token.start, token.end, value, None, table.name
                    break


def _may_be(word: MoodWord, prose: Prose, start: int, end: int) -> bool:
    """Whether hiragana that could be another word is this adjective: いい in 「〜といいます」 is a verb."""
    if word.pos != "adjective" or not is_hiragana(prose.folded.text[start:end]):
        return True
    after = bisect_right(prose.tokens, start, key=lambda token: token.start)
    return after > 0 and prose.tokens[after - 1].pos == "形容詞"


def score_of(words: Iterable[ScoredWord], dimension: Dimension = "valence") -> float | None:
    """The weighted mean in [-1, 1], or None when no word knows that dimension."""
    total = weights = 0.0
    for word in words:
        value = word.valence if dimension == "valence" else word.arousal
        if value is not None:
            weight = 1 / (1 + word.position)
            total += weight * value
            weights += weight
    return round(total / weights, 9) if weights else None  # equal words give equal scores, wherever they stand


def _covered(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether [start, end) overlaps one of `spans`, sorted, that do not overlap each other."""
    after = bisect_right(spans, (end - 1, end))
    return any(begin < end and start < stop for begin, stop in spans[max(0, after - 2) : after + 1])


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The score of one track, and what its ranking needs."""

    track_id: str
    score: float
    n_words: int
    creator: str
    """Whose share is limited; tracks without a creator each count as their own."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """The tracks at the two ends, each in the order of their rank, and the scores that bound them."""

    high: tuple[str, ...]
    low: tuple[str, ...]
    lowest_high: float | None
    highest_low: float | None
    n_over_share: int
    """Tracks that were passed over because their creator has enough on that side."""


MIN_SHARE_TRACKS = 3
"""Every creator may give this many tracks to a side, however small it is."""


def select_ends(
    scored: Sequence[Scored], *, per_side: int, max_creator_share: float = 0.1, threshold: float | None = None
) -> Ends:
    """The highest and the lowest `per_side` tracks by rank; with `threshold` all those at or beyond ± it instead.

    By rank never more than a third of all scored tracks per side; in any case no more than `max_creator_share` of a
    side by one creator.
    Among equal scores, more words come first, then a stable hash of the track id: the order of `scored` decides
    nothing. No score is on both sides.
    """
    limit = min(per_side, len(scored) // 3) if threshold is None else len(scored)

    def walk(ranked: Sequence[Scored]) -> tuple[list[Scored], int]:
        """The side, with a quota per creator that is a share of the side as it comes out."""
        size = min(limit, len(ranked))
        while True:
            side, passed = fill(ranked, max(MIN_SHARE_TRACKS, int(size * max_creator_share)))
            if len(side) >= size:
                return side, passed
            size = len(side)

    def fill(ranked: Sequence[Scored], quota: int) -> tuple[list[Scored], int]:
        taken: Counter[str] = Counter()
        side: list[Scored] = []
        passed = 0
        for track in ranked:
            if len(side) == limit:
                break
            if taken[track.creator] >= quota:
                passed += 1
                continue
            taken[track.creator] += 1
            side.append(track)
        return side, passed

    order = {track.track_id: (-track.n_words, stable_order(track.track_id)) for track in scored}
    falling = sorted(scored, key=lambda track: (-track.score, *order[track.track_id]))
    rising = sorted(scored, key=lambda track: (track.score, *order[track.track_id]))
    if threshold is None:
        falling, rising = falling[: len(scored) // 2], rising[: len(scored) // 2]
    else:
        falling = [track for track in falling if track.score >= threshold]
        rising = [track for track in rising if track.score <= -threshold]
    (high, over_high), (low, over_low) = walk(falling), walk(rising)
    if high and low and high[-1].score <= low[-1].score:
        # Too few different scores: what both sides reach belongs to neither.
        meet_high, meet_low = high[-1].score, low[-1].score
        high = [track for track in high if track.score > meet_low]
        low = [track for track in low if track.score < meet_high]
    return Ends(
        high=tuple(track.track_id for track in high),
        low=tuple(track.track_id for track in low),
        lowest_high=high[-1].score if high else None,
        highest_low=low[-1].score if low else None,
        n_over_share=over_high + over_low,
    )


def stable_order(text: str) -> bytes:
    """What tracks are ordered by where nothing else decides: the same on every machine and for ever."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
