"""Who plays what: per genre, which voice takes which role. Genres overlap, pops with all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

T = TypeVar("T", bound=str)

Genre = Literal["rock", "fusion", "ballad", "pops", "classical"]
Mood = Literal["bright", "dark"]
Style = Literal["drive", "syncopated", "arpeggio", "strum"]
Beat = Literal["backbeat", "sixteenth", "half-time"]

GENRES: tuple[Genre, ...] = ("rock", "fusion", "ballad", "pops", "classical")
MOODS: tuple[Mood, ...] = ("bright", "dark")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a genre draws from: options with weights ("" = nobody plays this), and a range of beats per minute."""

    tempo_bpm: tuple[float, float]
    style: Mapping[Style, float]
    chords: Mapping[str, float]
    pad: Mapping[str, float]
    lead: Mapping[str, float]
    beat: Mapping[Beat | Literal[""], float]
    bass: float = 1.0
    """Probability of a bass."""


CHOICES: Mapping[Genre, Choices] = MappingProxyType(
    {
        "rock": Choices(
            tempo_bpm=(126, 158),
            style={"drive": 9, "strum": 1},
            chords={"guitar": 9, "synth": 1},
            pad={"": 5, "organ": 4, "synth": 1},
            lead={"": 3, "guitar": 3, "synth": 3, "piano": 1},
            beat={"backbeat": 1.0},
        ),
        "fusion": Choices(
            tempo_bpm=(100, 126),
            style={"syncopated": 9, "strum": 1},
            chords={"electric_piano": 6, "organ": 2, "guitar": 2},
            pad={"": 6, "strings": 1, "synth": 2},
            lead={"": 1, "guitar": 3, "synth": 4, "piano": 2},
            beat={"sixteenth": 9, "backbeat": 1},
        ),
        "ballad": Choices(
            tempo_bpm=(62, 80),
            style={"arpeggio": 3, "strum": 1},
            chords={"piano": 5, "guitar": 3, "electric_piano": 2},
            pad={"": 3, "strings": 5, "organ": 1, "synth": 1},
            lead={"": 4, "strings": 2, "synth": 1, "guitar": 2},
            beat={"": 4, "half-time": 6},
            bass=0.7,
        ),
        "pops": Choices(
            tempo_bpm=(84, 136),
            style={"drive": 1, "syncopated": 2, "arpeggio": 2, "strum": 5},
            chords={"piano": 3, "guitar": 4, "electric_piano": 2, "synth": 1},
            pad={"": 4, "strings": 3, "synth": 3},
            lead={"": 2, "synth": 4, "guitar": 2, "piano": 2},
            beat={"backbeat": 6, "sixteenth": 2, "half-time": 2},
        ),
        "classical": Choices(
            tempo_bpm=(66, 108),
            style={"arpeggio": 1.0},
            chords={"piano": 6, "strings": 2, "guitar": 2},
            pad={"": 2, "strings": 6, "organ": 2},
            lead={"": 3, "strings": 4, "piano": 3},
            beat={"": 1.0},
            bass=0.2,
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Who plays a track, and how; a role that nobody takes is ""."""

    tempo_bpm: float
    style: Style
    chords: str
    pad: str
    lead: str
    beat: Beat | Literal[""]
    has_bass: bool

    @property
    def instruments(self) -> tuple[str, ...]:
        """What can be heard and has a label, sorted."""
        return tuple(sorted({self.chords, self.pad, self.lead, "drums" if self.beat else ""} - {""}))


def arrange(genre: Genre, mood: Mood, favourites: Sequence[str], tempo: float, rng: random.Random) -> Arrangement:
    """An arrangement by a creator with `favourites` (three times as likely) and a `tempo` factor; dark is slower."""
    choices = CHOICES[genre]
    return Arrangement(
        tempo_bpm=rng.uniform(*choices.tempo_bpm) * tempo * (1.05 if mood == "bright" else 0.93),
        style=_draw(choices.style, (), rng),
        chords=_draw(choices.chords, favourites, rng),
        pad=_draw(choices.pad, favourites, rng),
        lead=_draw(choices.lead, favourites, rng),
        beat=_draw(choices.beat, (), rng),
        has_bass=rng.random() < choices.bass,
    )


def _draw(weights: Mapping[T, float], favourites: Sequence[str], rng: random.Random) -> T:
    options = list(weights)
    return rng.choices(options, [weights[name] * (3 if name in favourites else 1) for name in options])[0]
