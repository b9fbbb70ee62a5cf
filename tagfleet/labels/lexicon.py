"""Word lists that say how pleasant a mood word is: our own, and the readers of two Japanese polarity dictionaries.

The dictionaries are not part of tagfleet (they may be used for research and not be passed on); a user names the files.

- PN Table (Takamura, Inui, Okumura 2005): `見出し語:読み:品詞:値`, cp932 or UTF-8, values in [-1, 1].
- Tohoku Japanese Sentiment Polarity Dictionary: verbs and adjectives (Kobayashi et al. 2005,
  `ポジ（評価）<TAB>表現`) and nouns (Higashiyama et al. 2008, `表現<TAB>p|n|e<TAB>…`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from tagfleet.config import Section
from tagfleet.errors import ConfigError
from tagfleet.labels.text import Token, fold, match_key


class MoodWord(Section):
    """A word of our own lexicon; one of no valence and no arousal hides the mood words in it (お楽しみください)."""

    word: str = Field(min_length=1)
    """In dictionary form."""
    variants: tuple[str, ...] = ()
    """Other ways to write it; kana of both kinds are one."""
    pos: Literal["adjective", "adjectival_noun", "noun", "verb", "adverb", "english"]
    """Part of speech; `english` for a word of that language."""
    valence: float = Field(ge=-1, le=1)
    """How pleasant, -1 to 1."""
    arousal: float = Field(ge=-1, le=1)
    """How energetic, -1 to 1."""
    en: str
    """English gloss."""


class _LexiconFile(Section):
    words: tuple[MoodWord, ...] = Field(min_length=1)


def load_mood_lexicon(path: Path | None = None) -> tuple[MoodWord, ...]:
    """The words of a TOML file, or of the packaged one; ConfigError says what is wrong with it."""
    name = "mood_lexicon.toml" if path is None else str(path)
    try:
        source = resources.files("tagfleet.labels") / name if path is None else path
        words = _LexiconFile.model_validate(tomllib.loads(source.read_text(encoding="utf-8"))).words
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}", hint="check --lexicon") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not valid TOML: {error}", hint=f"edit {name}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:5])
        raise ConfigError(f"{name}: {problems}", hint=f"edit {name}; docs/labels.md shows the format") from error
    owner: dict[str, str] = {}
    for word in words:
        for spelling in (word.word, *word.variants):
            if owner.setdefault(match_key(fold(spelling)), word.word) != word.word:
                first = owner[match_key(fold(spelling))]
                raise ConfigError(f"{name}: {spelling!r} stands under {first} and {word.word}", hint=f"edit {name}")
    return words


@dataclass(frozen=True, kw_only=True)
class PolarityTable:
    """A polarity dictionary: values by headword, reading and part of speech."""

    name: str
    by_reading: dict[tuple[str, str, str], float | None] = field(default_factory=dict)
    """(headword, reading in katakana, part of speech) -> value; None where entries disagree in sign."""
    by_word: dict[tuple[str, str], float | None] = field(default_factory=dict)
    """(headword, part of speech) -> value; None where readings disagree in sign. Part of speech `""`: any."""

    def value(self, token: Token) -> float | None:
        """Of a mood-bearing token (adjective, adjectival noun, adverb, verb), or None."""
        pos = _TABLE_POS.get(token.pos)
        if pos is None:
            return None
        for word in dict.fromkeys((token.base, token.lemma)):
            for values, key in (
                (self.by_reading, (word, token.reading, pos)),
                (self.by_word, (word, pos)),
                (self.by_word, (word, "")),
            ):
                if key in values:
                    return values[key]  # type: ignore[index]  # each key is of its dict
        return None


_TABLE_POS = {"形容詞": "形容詞", "形状詞": "名詞", "副詞": "副詞", "動詞": "動詞"}
"""UniDic's part of speech -> the tables'. Nouns are left out: 曲, ピアノ and 夏 have values there and are no moods."""

_SIDE = re.compile("(?:ポジ|ネガ)[（(]")
_SIGNS = {"p": 1.0, "n": -1.0}


def load_polarity_table(path: Path) -> PolarityTable:
    """A PN Table or a Tohoku dictionary, told apart by its lines; ConfigError names the first line that is neither."""
    table = PolarityTable(name=path.name)
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        entry = _tohoku_entry(line.split("\t")) if "\t" in line else _pn_entry(line.split(":"))
        if entry is None:
            raise ConfigError(
                f"{path}, line {number} is no entry of a polarity dictionary: {line[:60]!r}",
                hint="見出し:読み:品詞:値 (PN Table), or the tab-separated Tohoku files",
            )
        word, reading, pos, value = entry
        if value:
            _add(table, word, reading, pos, value)
    if not table.by_word:
        raise ConfigError(f"{path} holds no entry with a polarity", hint="check --lexicon")
    return table


def _lines(path: Path) -> Sequence[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check --lexicon") from error
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        except UnicodeDecodeError:
            continue
    raise ConfigError(f"{path} is neither UTF-8 nor cp932 (Shift_JIS)", hint="check --lexicon")


def _pn_entry(fields: list[str]) -> tuple[str, str, str, float] | None:
    if len(fields) != 4:
        return None
    word, reading, pos, value = (text.strip() for text in fields)
    try:
        number = float(value)
    except ValueError:
        return None
    return (fold(word), match_key(fold(reading)), pos, number) if word and -1 <= number <= 1 else None


def _tohoku_entry(fields: list[str]) -> tuple[str, str, str, float] | None:
    first, second = (text.strip() for text in fields[:2])
    if _SIDE.match(first):
        return fold(second).replace(" ", ""), "", "", 1.0 if first.startswith("ポジ") else -1.0
    if not first or not second or len(second) > 8:
        return None
    return fold(first), "", "名詞", _SIGNS.get(second, 0.0)  # e (neutral), a, o and ?… take no side


def _add(table: PolarityTable, word: str, reading: str, pos: str, value: float) -> None:
    if reading:
        table.by_reading[word, reading, pos] = _both(table.by_reading.get((word, reading, pos), value), value)
    table.by_word[word, pos] = _both(table.by_word.get((word, pos), value), value)


def _both(one: float | None, other: float) -> float | None:
    """The weaker of two values, or None for good when they disagree in sign."""
    return None if one is None or one * other < 0 else min(one, other, key=abs)


def load_lexicons(paths: Iterable[Path]) -> tuple[tuple[MoodWord, ...], tuple[PolarityTable, ...]]:
    """Our own words (a .toml file among `paths` instead of the packaged ones), and the tables in their order."""
    own: list[Any] = []
    tables = []
    for path in paths:
        if path.suffix.lower() == ".toml":
            own.extend(load_mood_lexicon(path))
        else:
            tables.append(load_polarity_table(path))
    return tuple(own) or load_mood_lexicon(), tuple(tables)
