"""What words there are: the phrases of creators, how often, beside which labels, and whether the taxonomy has them.

The list a person reads to write a taxonomy. A term is a whole tag, or in prose a run of up to four nouns, an
adjective, adverb or verb in dictionary form, or up to three English words. Spellings of one key are one term.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagfleet.labels.matching import Matcher
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import Taxonomy, spelling_key
from tagfleet.labels.text import Prose, Token, match_key, read_prose, word_set

SOURCES = ("all", "tags", "description")
MAX_NOUNS = 4
MAX_ENGLISH = 3
N_NEAR = 3
MAX_TAG = 64
"""Characters of a tag whose terms are remembered."""
MIN_TOGETHER = 3
"""Tracks with both, below which PMI says nothing."""
N_EXAMPLES = 3

_ENGLISH = re.compile(r"[a-z0-9&'’+#_-]+")
_NOUN_POS = {"名詞", "形状詞", "接頭辞"}
_NOT_NOUNS = {"数詞"}
_SINGLES = {"形容詞", "副詞"}
_ENGLISH_STOP = word_set(
    "a an and are as at be but by for from has have in is it its my no not of on or our so that the this to was",
    "we will with you i",
)


@dataclass(frozen=True, kw_only=True)
class Term:
    """A phrase that creators use."""

    phrase: str
    """Its most frequent spelling."""
    spellings: tuple[tuple[str, int], ...]
    """Each spelling with its uses, the most frequent first."""
    n_tracks: int
    """Document frequency."""
    n_uses: int
    n_creators: int
    """Distinct creator_id; tracks without one count as one creator together."""
    covered: Literal["yes", "part", "no"]
    """Whether spellings of the taxonomy account for all of it."""
    labels: tuple[str, ...]
    """`axis:label` that stand in it, denied or not."""
    near: tuple[tuple[str, float, int], ...]
    """Labels that its tracks have more than others: (`axis:label`, PMI in bits, tracks with both)."""
    examples: tuple[str, ...]
    """Track ids."""


@dataclass
class _Seen:
    """Terms met so far; a term is known by its number."""

    number: dict[str, int] = field(default_factory=dict)
    spellings: list[Counter[str]] = field(default_factory=list)
    parts: list[tuple[str, ...]] = field(default_factory=list)
    """Keys of its tokens."""
    tracks: array[int] = field(default_factory=lambda: array("q"))
    terms: array[int] = field(default_factory=lambda: array("q"))

    def add(self, track: int, key: str, spelling: str, parts: tuple[str, ...]) -> None:
        number = self.number.get(key)
        if number is None:
            number = self.number[key] = len(self.spellings)
            self.spellings.append(Counter())
            self.parts.append(parts)
        else:  # cut otherwise elsewhere: the same one, whichever comes first
            self.parts[number] = max(self.parts[number], parts)
        self.spellings[number][spelling] += 1
        self.tracks.append(track)
        self.terms.append(number)


def mine_terms(
    tracks: pa.Table,
    taxonomy: Taxonomy,
    *,
    source: str = "all",
    min_tracks: int = 2,
    min_creators: int = 1,
    advance: Callable[[int, int], None] = lambda done, failed: None,
) -> list[Term]:
    """The terms of TRACKS rows, those of most tracks first (then by key). Order of rows decides examples only.

    source: one of SOURCES. advance: called with (tracks read, 0) now and then.
    """
    reader = TrackReader(taxonomy.model_copy(update={"axes": tuple(a for a in taxonomy.axes if not a.polarity)}))
    seen = _Seen()
    label_number: dict[tuple[str, str], int] = {}
    label_tracks, label_labels = array("q"), array("q")
    columns = (tracks[name].to_pylist() for name in ("tags", "description"))
    for n, (tags, description) in enumerate(zip(*columns, strict=True)):
        if source != "description":
            for tag in tags or ():
                for key, spelling, parts in _tag_terms(tag) if len(tag) <= MAX_TAG else _terms_of_tag(tag):
                    seen.add(n, key, spelling, parts)
        claims = reader.read(tags or (), "").claims
        if description:
            prose = read_prose(description)
            claims = [*claims, *reader.matcher.read_description(prose, len(tags or ()))]
            for key, spelling, parts in _prose_terms(prose) if source != "tags" else ():
                seen.add(n, key, spelling, parts)
        for claim in reader.matcher.held(claims):
            label_tracks.append(n)
            label_labels.append(label_number.setdefault(claim[:2], len(label_number)))
        if n % 1000 == 999:
            advance(n + 1, 0)
    advance(tracks.num_rows, 0)
    counted = _counted(seen, tracks)
    keep = [n for n in counted.order if counted.df[n] >= min_tracks and counted.creators[n] >= min_creators]
    keep = _without_fragments(keep, seen, counted.tf)
    near = _near(keep, counted, label_tracks, label_labels, list(label_number), tracks.num_rows)
    ids = tracks["track_id"]
    terms = []
    for n in keep:
        spellings = tuple(sorted(seen.spellings[n].items(), key=lambda item: (-item[1], item[0])))
        covered, labels = _coverage(reader.matcher, spellings[0][0])
        terms.append(
            Term(
                phrase=spellings[0][0],
                spellings=spellings,
                n_tracks=int(counted.df[n]),
                n_uses=int(counted.tf[n]),
                n_creators=int(counted.creators[n]),
                covered=covered,
                labels=labels,
                near=near.get(n, ()),
                examples=tuple(ids[int(row)].as_py() for row in counted.examples(n)),
            )
        )
    return terms


_Terms = Iterator[tuple[str, str, tuple[str, ...]]]
"""(key, spelling as typed, keys of the tokens)."""


@lru_cache(maxsize=65536)
def _tag_terms(tag: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple(_terms_of_tag(tag))


def _terms_of_tag(tag: str) -> _Terms:
    """The tag, and each term in it once."""
    prose = read_prose(tag)
    whole = match_key(prose.folded.text)
    if whole:
        yield whole, tag.strip(), tuple(key for token in prose.tokens if (key := _key(token.surface)))
        yield from dict.fromkeys(term for term in _prose_terms(prose) if term[0] != whole)


def _prose_terms(prose: Prose) -> _Terms:
    """Every term of a text, in order; repeated ones too."""
    run: list[Token] = []
    for token in _whole_english(prose.tokens):
        if run and (token.start - run[-1].end > 1 or not _joins(run, token)):
            yield from _run_terms(run, prose)
            run = []
        if _is_noun(token) or (run and token.pos == "接尾辞"):
            run.append(token)
        elif token.pos in _SINGLES or (token.pos == "動詞" and token.pos_detail == "一般"):
            base = _key(token.base)
            yield base, token.base, (base,)
    yield from _run_terms(run, prose)


def _whole_english(tokens: Sequence[Token]) -> Iterator[Token]:
    """Tokens, with lo|-|fi, r|&|b and 8|bit as one each."""
    word: Token | None = None
    for token in tokens:
        if _ENGLISH.fullmatch(token.surface):
            if word and word.end == token.start:
                word = word._replace(surface=word.surface + token.surface, end=token.end)
            elif word:
                yield word
                word = token
            else:
                word = token
            continue
        if word:
            yield word
            word = None
        yield token
    if word:
        yield word


def _joins(run: Sequence[Token], token: Token) -> bool:
    if token.pos == "接尾辞":
        return token.start == run[-1].end
    return (
        _is_noun(token)
        and _is_english(token) == _is_english(run[-1])
        and (_is_english(token) or token.start == run[-1].end)
    )


def _is_noun(token: Token) -> bool:
    if not _is_english(token) and (token.pos not in _NOUN_POS or token.pos_detail in _NOT_NOUNS):
        return False
    return any(character.isalnum() for character in token.surface) and not token.surface.isdigit()


def _is_english(token: Token) -> bool:
    return _ENGLISH.fullmatch(token.surface) is not None


def _run_terms(run: Sequence[Token], prose: Prose) -> _Terms:
    if not run:
        return
    english = _is_english(run[0])
    longest = MAX_ENGLISH if english else MAX_NOUNS
    keys = [_key(token.surface) for token in run]
    for first in range(len(run)):
        if run[first].pos == "接尾辞" or (english and run[first].surface in _ENGLISH_STOP):
            continue
        for last in range(first + 1, min(first + longest, len(run)) + 1):
            if run[last - 1].pos == "接頭辞" or (english and run[last - 1].surface in _ENGLISH_STOP):
                continue
            key = "".join(keys[first:last])
            if len(key) > 1 or not key.isascii():
                yield key, prose.words(run[first].start, run[last - 1].end), tuple(keys[first:last])


@lru_cache(maxsize=65536)
def _key(word: str) -> str:
    return match_key(word)


@dataclass(frozen=True, kw_only=True)
class _Counted:
    tf: NDArray[np.int64]
    df: NDArray[np.int64]
    creators: NDArray[np.int64]
    order: list[int]
    pairs: NDArray[np.int64]
    """Distinct (term, track), as term * n_tracks + track, sorted."""
    first: NDArray[np.int64]
    """Where each term's pairs begin."""
    n_tracks: int

    def examples(self, term: int) -> NDArray[np.int64]:
        begin = self.first[term]
        return self.pairs[begin : begin + min(N_EXAMPLES, self.df[term])] % self.n_tracks


def _counted(seen: _Seen, tracks: pa.Table) -> _Counted:
    n_terms, n_tracks = len(seen.spellings), max(1, tracks.num_rows)
    terms = np.frombuffer(seen.terms, dtype=np.int64) if seen.terms else np.zeros(0, np.int64)
    rows = np.frombuffer(seen.tracks, dtype=np.int64) if seen.tracks else np.zeros(0, np.int64)
    pairs = np.unique(terms * n_tracks + rows)
    codes = tracks["creator_id"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy() + 1
    n_creators = int(codes.max(initial=0)) + 1
    by_creator = np.unique(pairs // n_tracks * n_creators + codes[pairs % n_tracks]) // n_creators
    df = np.bincount(pairs // n_tracks, minlength=n_terms)
    keys = list(seen.number)
    return _Counted(
        tf=np.bincount(terms, minlength=n_terms),
        df=df,
        creators=np.bincount(by_creator, minlength=n_terms),
        order=sorted(range(n_terms), key=lambda n: (-df[n], keys[n])),
        pairs=pairs,
        first=np.concatenate([[0], np.cumsum(df)]),
        n_tracks=n_tracks,
    )


def _without_fragments(keep: list[int], seen: _Seen, tf: NDArray[np.int64]) -> list[int]:
    """Without parts of terms that never stand outside one longer term (疾走 where there is 疾走感 only)."""
    uses = {key: int(tf[n]) for key, n in seen.number.items()} if keep else {}
    fragments = set()
    for n in keep:
        parts = seen.parts[n]
        for first in range(len(parts)):
            for last in range(first + 1, min(first + MAX_NOUNS, len(parts)) + 1):
                key = "".join(parts[first:last])
                if last - first < len(parts) and uses.get(key) == tf[n]:
                    fragments.add(key)
    keys = list(seen.number)
    return [n for n in keep if keys[n] not in fragments]


def _near(
    keep: Sequence[int],
    counted: _Counted,
    label_tracks: array[int],
    label_labels: array[int],
    names: Sequence[tuple[str, str]],
    n_tracks: int,
) -> dict[int, tuple[tuple[str, float, int], ...]]:
    """Per term the labels with the highest PMI = log2(p(term, label) / (p(term) p(label))), above 0."""
    if not names or not keep:
        return {}
    tracks, labels = np.frombuffer(label_tracks, dtype=np.int64), np.frombuffer(label_labels, dtype=np.int64)
    label_df = np.bincount(labels, minlength=len(names))
    begin = np.searchsorted(tracks, np.arange(n_tracks + 1))  # tracks come in order
    near = {}
    for term in keep:
        rows = counted.pairs[counted.first[term] : counted.first[term + 1]] % counted.n_tracks
        lengths = begin[rows + 1] - begin[rows]
        starts = np.repeat(begin[rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        together = np.bincount(labels[starts + np.arange(lengths.sum())], minlength=len(names))
        often = np.flatnonzero(together >= MIN_TOGETHER)
        pmi = np.log2(together[often] * n_tracks / (label_df[often] * len(rows)))
        best = sorted(zip((-pmi).tolist(), often.tolist(), strict=True))[:N_NEAR]
        near[term] = tuple((":".join(names[n]), round(-p, 2), int(together[n])) for p, n in best if p < -0.005)
    return near


def _coverage(matcher: Matcher, phrase: str) -> tuple[Literal["yes", "part", "no"], tuple[str, ...]]:
    """Whether spellings account for all letters of a phrase, and the labels they are of."""
    prose = read_prose(phrase)
    claims = [claim for claim in matcher.read_tag(prose, 0) if claim.verdict != "stopped"]
    covered = {place for claim in claims for place in range(*claim.place)}
    letters = {place for place, character in enumerate(prose.folded.text) if spelling_key(character)}
    labels = tuple(dict.fromkeys(f"{claim.axis}:{claim.label}" for claim in claims))
    return ("yes" if letters <= covered else "part") if covered else "no", labels
