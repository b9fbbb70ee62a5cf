"""Text as people typed it, read without changing it: folding, comparison keys and tokens, all with places.

Three spellings of one text, each with a way back to the one before it:

- the *original*, which is stored and never changed;
- the *folded* text (NFKC, case, dashes, waves, white space): what tokens and word boundaries are found in;
- the *key*: folded, hiragana as katakana, without separators: what spellings are compared in.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fugashi import Tagger


def word_set(*lines: str) -> frozenset[str]:
    """Words separated by blanks, as a set: word lists that people read and lengthen.

    >>> sorted(word_set("b a", "c"))
    ['a', 'b', 'c']
    """
    return frozenset(word for line in lines for word in line.split())


_DASHES = re.compile("[\u2212\uff0d\u2010\u2011\u2012\u2013\u2014\u2015]")
_WAVES = re.compile("[\u301c\uff5e\u223c]")
_SPACES = re.compile(r"\s+")
MAX_MARKS = 32
"""Combining marks on one letter; NFKC takes time with the square of their number, and no script has as many."""
_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u302a-\u302f\u3099\u309a\ufe20-\ufe2f]{33,}"
)

KATAKANA = {code: code + 0x60 for code in (*range(0x3041, 0x3097), 0x309D, 0x309E)}
"""str.translate table: hiragana to katakana."""

_SEPARATORS = frozenset(" -_'’´`・\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff") | {
    chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xFE00, 0xFE10))
}
"""What stands between or inside words without meaning anything, invisible characters too."""
_SEPARATOR = re.compile(f"[{re.escape(''.join(sorted(_SEPARATORS)))}]+")

_LINE_END = re.compile(r"[\n\r\v\f\x85\u2028\u2029]")
_CLAUSE = re.compile(r"[^。.!?、,;:\n\r]*[。.!?、,;:\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")  # what cannot be encoded, no library takes
_NO_WORD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\xad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff\ud800-\udfff]"
)
"""Controls, invisible marks and surrogates: white space to the tokenizer."""
MAX_CLAUSE = 512
"""Characters that the tokenizer is given at once: its time grows with the square of a run of kana."""


def fold(text: str) -> str:
    """NFKC, then case, dashes, waves and white space, until nothing changes any more.

    >>> fold("ﾋﾟｱﾉ"), fold("Ｊ－ＰＯＰ "), fold("Hip—Hop")
    ('ピアノ', 'j-pop', 'hip-hop')
    """
    while True:
        folded = _SPACES.sub(" ", _letters(text)).strip()
        if folded == text:
            return folded
        text = folded  # NFKC and casefold can each undo the other's work once (e.g. U+1E9E, U+0345)


def _letters(text: str) -> str:
    if _MARKS.search(text):
        text = _MARKS.sub(lambda marks: marks[0][:MAX_MARKS] + " " * (len(marks[0]) - MAX_MARKS), text)
    return _WAVES.sub("~", _DASHES.sub("-", unicodedata.normalize("NFKC", text))).casefold()


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A folded text, and for each of its characters the span of the original that it comes from."""

    original: str
    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the original that folded characters [start, end) come from; start < end."""
        return self.starts[start], self.ends[end - 1]


def fold_with_places(text: str) -> Folded:
    """`fold`, remembering where each character came from.

    Folding works on a base character and its marks at a time. For the few texts where that is not all (a mark in an
    unusual order), every character points to the whole text: a span is then too wide, never outside.
    """
    folded = fold(text)
    if folded == text or (len(folded) == len(text) and text.isascii()):
        return Folded(original=text, text=folded, starts=range(len(text)), ends=range(1, len(text) + 1))
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _segments(text):
        for character in _fixed(text[start:end]):
            if character.isspace():
                if not characters or characters[-1] == " ":
                    continue
                character = " "
            characters.append(character)
            starts.append(start)
            ends.append(end)
    if characters and characters[-1] == " ":
        del characters[-1], starts[-1], ends[-1]
    if "".join(characters) != folded:
        starts, ends = [0] * len(folded), [len(text)] * len(folded)
    return Folded(original=text, text=folded, starts=starts, ends=ends)


@lru_cache(maxsize=65536)
def _fixed(segment: str) -> str:
    while (folded := _letters(segment)) != segment:
        segment = folded
    return segment


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Spans of a character with the marks behind it that may melt into it."""
    start = 0
    for place in range(1, len(text)):
        if not _is_mark(text[place]):
            yield start, place
            start = place
    if text:
        yield start, len(text)


@lru_cache(maxsize=65536)
def _is_mark(character: str) -> bool:
    first = unicodedata.normalize("NFKD", character)[0]
    # Hangul vowels and finals join what stands before them without being marks.
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def match_key(folded: str) -> str:
    """The spelling in which a folded text is compared: kana are one, separators are gone.

    >>> match_key(fold("ろっく・アンド ロール")), match_key(fold("Ｊ－ＰＯＰ"))
    ('ロックアンドロール', 'jpop')
    """
    return _SEPARATOR.sub("", folded).translate(KATAKANA)


def key_with_places(folded: str) -> tuple[str, Sequence[int]]:
    """`match_key`, and for each of its characters its place in the folded text."""
    if not _SEPARATOR.search(folded):
        return folded.translate(KATAKANA), range(len(folded))
    places = [place for place, character in enumerate(folded) if character not in _SEPARATORS]
    return "".join([folded[place] for place in places]).translate(KATAKANA), places


class Token(NamedTuple):
    """A word of UniDic, or what it takes for one."""

    surface: str
    start: int
    """Place of the first character in the folded text."""
    end: int
    base: str
    """Dictionary form in the spelling that was typed (暗く -> 暗い); the surface itself of unknown words."""
    lemma: str
    """Dictionary form in UniDic's own spelling, without its gloss (ロック-rock（音楽） -> ロック)."""
    reading: str
    """Katakana reading of the dictionary form; empty for unknown words."""
    pos: str
    """Part of speech, UniDic's first level: 名詞, 形容詞, 形状詞, 動詞, 副詞, 助詞, …"""
    pos_detail: str
    """UniDic's second level."""
    known: bool
    """Whether UniDic has the word."""


def tokenize(folded: str) -> list[Token]:
    """The tokens of a folded text, in order; white space is no token."""
    tagger = _tagger()
    tokens = []
    for begin, clause in _pieces(_NO_WORD.sub(" ", folded)):
        place = 0
        for node in tagger.parseToNodeList(clause):
            surface = node.surface
            start = clause.find(surface, place)
            place = start + len(surface)
            base, lemma, reading, pos, detail, known = _features(surface, node.feature_raw)
            tokens.append(Token(surface, begin + start, begin + place, base, lemma, reading, pos, detail, known))
    return tokens


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Runs of whole clauses of up to MAX_CLAUSE characters, with their places; longer clauses and runs are cut."""
    if len(text) <= MAX_CLAUSE:
        yield 0, text
        return
    ends = [clause.end() for clause in _CLAUSE.finditer(text)]
    start = 0
    while start < len(text):
        limit = start + MAX_CLAUSE
        clause = bisect_left(ends, limit + 1) - 1
        end = ends[clause] if clause >= 0 else 0
        if end <= start:
            blank = text.rfind(" ", start + 1, limit)
            end = blank if blank > start else min(limit, len(text))
        yield start, text[start:end]
        start = end


@cache
def _tagger() -> Tagger:
    """fugashi with unidic-lite, loaded once per process."""
    import unidic_lite
    from fugashi import Tagger

    return Tagger(f'-d "{unidic_lite.DICDIR}"')


@lru_cache(maxsize=65536)
def _features(surface: str, raw: str) -> tuple[str, str, str, str, str, bool]:
    # pos1 pos2 pos3 pos4 cType cForm lForm lemma orth pron orthBase pronBase …; the lemma itself may hold no comma.
    fields = raw.split(",")
    if len(fields) < 11:
        return surface, surface, "", fields[0], fields[1] if len(fields) > 1 else "", False
    lemma = fields[7].split("-", 1)[0].strip() or fields[10]
    return fields[10], lemma, fields[6], fields[0], fields[1], True


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A text, folded, keyed and tokenised once, for all that reads it."""

    folded: Folded
    key: str
    """`match_key` of the folded text."""
    places: Sequence[int]
    """Of each character of `key`, its place in the folded text."""
    tokens: Sequence[Token]
    first: Mapping[int, int]
    """Place in the folded text -> the token that begins there."""
    last: Mapping[int, int]
    """Place in the folded text -> the token that ends there."""
    bases: str
    """The keys of the tokens' dictionary forms, one after the other."""
    base_first: Mapping[int, int]
    """Place in `bases` -> the token that begins there."""
    base_last: Mapping[int, int]
    """Place in `bases` -> the token that ends there."""
    breaks: Sequence[int]
    """Places of the folded text where a line of the original ends, sorted."""

    def breaks_within(self, start: int, end: int) -> bool:
        """Whether a line ends in [start, end) of the folded text."""
        return bisect_left(self.breaks, start) < bisect_left(self.breaks, end)

    def words(self, start: int, end: int) -> str:
        """What the original says where the folded text has [start, end)."""
        begin, stop = self.folded.span(start, end)
        return self.folded.original[begin:stop]


def read_prose(text: str) -> Prose:
    """Fold, key and tokenise a text; what MeCab cannot take (lone surrogates) is no part of any word."""
    folded = fold_with_places(text)
    key, places = key_with_places(_SURROGATE.sub("\ufffd", folded.text))
    tokens = tokenize(folded.text)
    keys = [base_key(token) for token in tokens]
    base_first, base_last = {}, {}
    place = 0
    for n, base in enumerate(keys):
        if base:
            base_first[place] = n
            place += len(base)
            base_last[place] = n
    return Prose(
        folded=folded,
        key=key,
        places=places,
        tokens=tokens,
        first={token.start: n for n, token in enumerate(tokens)},
        last={token.end: n for n, token in enumerate(tokens)},
        bases="".join(keys),
        base_first=base_first,
        base_last=base_last,
        breaks=_line_ends(folded) if _LINE_END.search(text) else (),
    )


def _line_ends(folded: Folded) -> list[int]:
    """Places of the blanks that stand for the end of a line: each is the first of its run of white space."""
    places = []
    for place, character in enumerate(folded.text):
        if character == " ":
            after = folded.starts[place + 1] if place + 1 < len(folded.text) else len(folded.original)
            if _LINE_END.search(folded.original, folded.starts[place], after):
                places.append(place)
    return places


def base_key(token: Token) -> str:
    """The key of a token's dictionary form; よい and いい are one word."""
    return "イイ" if token.lemma == "良い" else _word_key(token.base)


@lru_cache(maxsize=65536)
def _word_key(word: str) -> str:
    return match_key(fold(word))
