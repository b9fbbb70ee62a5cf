"""Where the spellings of a taxonomy stand in a text: one pass of Aho-Corasick, then whole words, then the longest.

A spelling is found twice: as it is written, and by dictionary forms (暗い in 暗くて). Cost does not grow with the
number of spellings (Aho & Corasick 1975: all patterns in one pass).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.labels.text import Prose, base_key, fold, match_key, tokenize


class Phrase(NamedTuple):
    """A spelling of a label, or a phrase that hides the label (rule `stop`)."""

    axis: str
    label: str
    rule: str
    """`name`, `synonym` or `stop`."""
    spelling: str
    """As written in the taxonomy."""


def phrases_of(taxonomy: Taxonomy) -> Iterator[Phrase]:
    """Every spelling and stop phrase, but of the axes that come from a score."""
    for axis in taxonomy.axes:
        if axis.polarity:
            continue
        for label in axis.labels:
            for spelling, rule in label.spellings:
                yield Phrase(axis.axis, label.id, rule, spelling)
            for stop in label.stop:
                yield Phrase(axis.axis, label.id, "stop", stop)


class Hit(NamedTuple):
    """A phrase at a place of the folded text."""

    phrase: Phrase
    start: int
    end: int


class Resolved(NamedTuple):
    """The hits of one text that count, and those that a stop phrase hides, each in the order of the text."""

    kept: list[Hit]
    stopped: list[tuple[Hit, Hit]]
    """The hidden hit and the stop phrase over it."""


_COLLOQUIAL = re.compile("[ァ-ヿ]{2,}い")
_CONTENT = {"名詞", "形容詞", "形状詞", "動詞", "副詞", "感動詞", "代名詞", "連体詞"}
_DERIVING = {"さ", "げ", "み", "め", "そう"}
"""Suffixes that make another word of an adjective without changing what it says of the mood: 悲しげ."""
_ATTACHED = {"less", "レス"}
"""What may follow a spelling inside one unknown word: drumless."""
MIN_PART = 3
"""Characters of a spelling that is looked for inside an unknown katakana word."""


class PhraseIndex:
    """Holds the automata of spellings and stop phrases."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        written: dict[str, list[Phrase]] = {}
        by_base: dict[str, list[Phrase]] = {}
        for phrase in phrases:
            folded = fold(phrase.spelling)
            if _COLLOQUIAL.fullmatch(folded):  # エモい: letters to the tokenizer, so its forms are listed here
                for ending in ("く", "さ", "かっ", "すぎ"):
                    written.setdefault(match_key(folded[:-1] + ending), []).append(phrase)
            for keys, key in (
                (written, match_key(folded)),
                (by_base, "".join(base_key(token) for token in tokenize(folded))),
            ):
                same = keys.setdefault(key, [])
                if key and all((p.axis, p.label) != (phrase.axis, phrase.label) for p in same):
                    same.append(phrase)
        self._written = written
        self._written_automaton, self._written_phrases = _automaton(written)
        self._base_automaton, self._base_phrases = _automaton(by_base)

    def whole(self, key: str) -> Sequence[Phrase]:
        """The phrases whose spelling is all of `key`."""
        return self._written.get(key, ())

    def find(self, prose: Prose) -> list[Hit]:
        """Every phrase that stands in the text as whole words, overlapping ones too, stop phrases too."""
        hits = {*self._find_written(prose), *self._find_bases(prose)}
        if prose.breaks:
            hits = {hit for hit in hits if not prose.breaks_within(hit.start, hit.end)}
        return sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.phrase))

    def _find_written(self, prose: Prose) -> Iterator[Hit]:
        for pattern, key_start, key_end in self._written_automaton.find_matches_as_indexes(prose.key, overlapping=True):
            start, end = prose.places[key_start], prose.places[key_end - 1] + 1
            if start in prose.first and end in prose.last:
                if _is_particle(prose, start, end):
                    continue
            elif not self._is_part(prose, start, end):
                continue
            for phrase in self._written_phrases[pattern]:
                if phrase.rule != "stop" or _same_separators(prose.folded.text[start:end], phrase.spelling):
                    yield Hit(phrase, start, end)

    def _find_bases(self, prose: Prose) -> Iterator[Hit]:
        tokens = prose.tokens
        for pattern, base_start, base_end in self._base_automaton.find_matches_as_indexes(
            prose.bases, overlapping=True
        ):
            if base_start not in prose.base_first or base_end not in prose.base_last:
                continue
            first, last = prose.base_first[base_start], prose.base_last[base_end]
            while last + 1 < len(tokens) and tokens[last + 1].surface in _DERIVING and tokens[last + 1].pos == "接尾辞":
                last += 1
            start, end = tokens[first].start, tokens[last].end
            if _is_particle(prose, start, end):
                continue
            for phrase in self._base_phrases[pattern]:
                if phrase.rule != "stop" or _same_separators(prose.folded.text[start:end], phrase.spelling):
                    yield Hit(phrase, start, end)

    def _is_part(self, prose: Prose, start: int, end: int) -> bool:
        """Whether [start, end) is a part of an unknown word that means what it says alone: drum in drumless, the last
        word of an unknown katakana compound, or the first when the rest is a spelling too."""
        if start in prose.first and not (token := prose.tokens[prose.first[start]]).known:
            rest = prose.folded.text[end : token.end]
            return rest in _ATTACHED or (
                end - start >= MIN_PART and _is_katakana(token.surface) and match_key(rest) in self._written
            )
        if end in prose.last and not (token := prose.tokens[prose.last[end]]).known:
            return end - start >= MIN_PART and _is_katakana(token.surface) and start > token.start
        return False


def resolve(hits: Iterable[Hit]) -> Resolved:
    """Per axis: stop phrases hide their label where they are longer, then the longest phrase wins where two overlap.

    Axes do not hide each other: ピアノバラード is a ballad and has a piano.
    """
    labels: list[Hit] = []
    stops: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        if hit.phrase.rule == "stop":
            stops.setdefault(hit.phrase[:2], []).append(hit)
        else:
            labels.append(hit)
    reach = {}
    for label, found in stops.items():
        found.sort(key=_start)
        reach[label] = max(hit.end - hit.start for hit in found)
    kept: list[Hit] = []
    stopped: list[tuple[Hit, Hit]] = []
    taken: dict[str, list[Hit]] = {}
    for hit in sorted(labels, key=lambda hit: (hit.start - hit.end, hit.start, hit.phrase)):
        label = hit.phrase[:2]
        if label in stops and (hiding := _hiding(hit, stops[label], reach[label])):
            stopped.append((hit, hiding))
            continue
        of_axis = taken.setdefault(hit.phrase.axis, [])  # sorted, and none overlaps another
        place = bisect_left(of_axis, hit.start, key=_start)
        if not any(_overlap(other, hit) for other in of_axis[max(0, place - 1) : place + 1]):
            of_axis.insert(place, hit)
            kept.append(hit)
    kept.sort(key=lambda hit: (hit.start, -hit.end, hit.phrase))
    return Resolved(kept, sorted(stopped, key=lambda pair: pair[0][1:]))


def _hiding(hit: Hit, stops: Sequence[Hit], reach: int) -> Hit | None:
    """The first of the label's stop phrases (sorted, the longest of length `reach`) that is over `hit`, and longer."""
    for place in range(bisect_left(stops, hit.start - reach, key=_start), len(stops)):
        if stops[place].start >= hit.end:
            return None
        if _overlap(stops[place], hit) and stops[place].end - stops[place].start > hit.end - hit.start:
            return stops[place]
    return None


def _start(hit: Hit) -> int:
    return hit.start


def _same_separators(found: str, spelling: str) -> bool:
    """Whether a stop phrase stands there as one: ポップ・アップテンポ is no ポップアップ."""
    return not any(mark in found and mark not in spelling for mark in (" ", "・"))


def _is_particle(prose: Prose, start: int, end: int) -> bool:
    """くらい is `about` when it is no word of its own: hiragana counts only where a content word begins."""
    token = prose.tokens[prose.first[start]]
    return token.pos not in _CONTENT and is_hiragana(prose.folded.text[start:end])


def is_hiragana(text: str) -> bool:
    """Whether nothing tells words from particles."""
    return all("ぁ" <= character <= "ゟ" or character == "ー" for character in text)


def _is_katakana(text: str) -> bool:
    return all("ァ" <= character <= "ヿ" for character in text)


def _overlap(one: Hit, other: Hit) -> bool:
    return one.start < other.end and other.start < one.end


def _automaton(keys: Mapping[str, Sequence[Phrase]]) -> tuple[AhoCorasick, list[Sequence[Phrase]]]:
    patterns = [key for key in keys if key]
    return AhoCorasick(patterns), [keys[key] for key in patterns]
