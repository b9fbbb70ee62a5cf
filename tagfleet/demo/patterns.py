"""Scores: which note sounds when. Chords, rhythm and register are what makes a genre and a mood, apart from voices."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tagfleet.demo.arrange import Arrangement, Beat, Mood, Style
from tagfleet.demo.voices import Drum


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note of a voice; `pitch` is a MIDI number (69 = A4)."""

    start_s: float
    duration_s: float
    pitch: int
    gain: float


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """One stroke of a drum."""

    start_s: float
    drum: Drum
    gain: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one voice plays; `level` is its loudness in the mix, `pan` -1 (left) to 1, `drive` how much it distorts."""

    voice: str
    notes: tuple[Note, ...]
    level: float
    pan: float
    drive: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Score:
    """All parts of a track."""

    parts: tuple[Part, ...]
    strokes: tuple[Stroke, ...]
    drum_level: float


Chord = tuple[int, ...]
"""MIDI pitches from the root up, the root between C3 and B3 before the mood's shift."""

_MAJOR = (
    ((0, "major"), (7, "major"), (9, "minor"), (5, "major")),
    ((5, "major"), (7, "major"), (4, "minor"), (9, "minor")),
)
_MINOR = (
    ((0, "minor"), (8, "major"), (3, "major"), (10, "major")),
    ((0, "minor"), (5, "minor"), (8, "major"), (7, "minor")),
)
_TRIAD = {"major": (0, 4, 7), "minor": (0, 3, 7)}
_NINTH = {"major": (0, 4, 11, 14), "minor": (0, 3, 10, 14)}

_STEPS: dict[Style, tuple[tuple[int, int], ...]] = {
    "drive": tuple((step, 2) for step in range(0, 16, 2)),
    "syncopated": ((0, 2), (3, 1), (6, 3), (10, 2), (13, 2)),
    "strum": ((0, 4), (4, 2), (6, 2), (8, 4), (12, 2), (14, 2)),
    "arpeggio": tuple((step, 3) for step in range(0, 16, 2)),
}
"""Where in a bar of sixteenths a style plays, and for how many of them."""

_BEATS: dict[Beat, tuple[tuple[Drum, tuple[int, ...], float], ...]] = {
    "backbeat": (("kick", (0, 8, 10), 1.0), ("snare", (4, 12), 0.9), ("hat", tuple(range(0, 16, 2)), 0.8)),
    "sixteenth": (
        ("kick", (0, 7, 10), 0.8),
        ("snare", (4, 12), 0.8),
        ("snare", (7, 9, 15), 0.2),
        ("hat", tuple(range(16)), 0.5),
    ),
    "half-time": (("kick", (0, 10), 0.8), ("snare", (8,), 0.7), ("hat", tuple(range(0, 16, 4)), 0.4)),
}


def compose(mood: Mood, arrangement: Arrangement, duration_s: float, rng: random.Random) -> Score:
    """A score of `duration_s`: four chords in a circle; bright is major and high, dark is minor and low."""
    bars = list(_bars(arrangement, duration_s, rng))
    key = 48 + rng.randrange(12) + (5 if mood == "bright" else -5)
    progression = rng.choice(_MAJOR if mood == "bright" else _MINOR)
    shapes = _NINTH if arrangement.style == "syncopated" else _TRIAD
    chords = [tuple(key + root - 12 * (root > 6) + tone for tone in shapes[kind]) for root, kind in progression]
    harmony = [(start, step, chords[n % len(chords)]) for n, (start, step) in enumerate(bars)]

    style = arrangement.style
    power = style == "drive" and arrangement.chords == "guitar"
    parts = [
        Part(
            voice=arrangement.chords,
            notes=_notes(harmony, lambda start, step, chord: _comping(start, step, chord, style, power, rng)),
            level=1.0,
            pan=-0.3,
            drive=8.0 if power else 0.0,
        )
    ]
    if arrangement.pad:
        parts.append(Part(voice=arrangement.pad, notes=_notes(harmony, _pad), level=0.8, pan=0.3))
    if arrangement.lead:
        sparse = arrangement.tempo_bpm < 90
        notes = _notes(harmony, lambda start, step, chord: _lead(start, step, chord, sparse, rng))
        parts.append(Part(voice=arrangement.lead, notes=notes, level=0.8, pan=0.1))
    if arrangement.has_bass:
        notes = _notes(harmony, lambda start, step, chord: _bass(start, step, chord, style))
        parts.append(Part(voice="bass", notes=notes, level=0.7, pan=0.0))
    strokes = tuple(_strokes(bars, arrangement.beat, rng)) if arrangement.beat else ()
    return Score(parts=tuple(parts), strokes=strokes, drum_level=0.5 if arrangement.beat == "half-time" else 1.0)


def _bars(arrangement: Arrangement, duration_s: float, rng: random.Random) -> Iterator[tuple[float, float]]:
    """Start and sixteenth, in seconds, of every bar that begins in time; who plays without drums and bass breathes."""
    free = not arrangement.beat and not arrangement.has_bass
    start = 0.0
    while start < duration_s - 0.5:
        sixteenth = 15 / arrangement.tempo_bpm * (rng.uniform(0.88, 1.14) if free else 1.0)
        yield start, sixteenth
        start += 16 * sixteenth


def _notes(
    harmony: list[tuple[float, float, Chord]], play: Callable[[float, float, Chord], Iterator[Note]]
) -> tuple[Note, ...]:
    return tuple(note for bar in harmony for note in play(*bar))


def _comping(start: float, step: float, chord: Chord, style: Style, power: bool, rng: random.Random) -> Iterator[Note]:
    if power:
        chord = (chord[0] - 12, chord[2] - 12, chord[0])
    for n, (at, n_steps) in enumerate(_STEPS[style]):
        rising = (*chord, chord[0] + 12, *reversed(chord[1:]))
        pitches = (rising[n % len(rising)] + 12,) if style == "arpeggio" else chord
        gain = (1.0 if at % 8 == 0 else 0.75) * rng.choice((0.9, 1.0))
        for pitch in pitches:
            yield Note(start_s=start + at * step, duration_s=n_steps * step, pitch=pitch, gain=gain)


def _pad(start: float, step: float, chord: Chord) -> Iterator[Note]:
    for pitch in chord[:3]:
        yield Note(start_s=start, duration_s=16 * step, pitch=pitch + 12, gain=1.0)


def _lead(start: float, step: float, chord: Chord, sparse: bool, rng: random.Random) -> Iterator[Note]:
    at = 0
    while at < 16:
        n_steps = rng.choice((4, 8) if sparse else (2, 2, 4, 6))
        if rng.random() < 0.8:
            pitch = rng.choice(chord) + 24
            yield Note(start_s=start + at * step, duration_s=n_steps * step, pitch=pitch, gain=1.0)
        at += n_steps


def _bass(start: float, step: float, chord: Chord, style: Style) -> Iterator[Note]:
    steps = ((0, 8), (8, 8)) if style == "arpeggio" else _STEPS[style]
    for at, n_steps in steps:
        yield Note(start_s=start + at * step, duration_s=n_steps * step, pitch=chord[0] - 12, gain=1.0)


def _strokes(bars: list[tuple[float, float]], beat: Beat, rng: random.Random) -> Iterator[Stroke]:
    for start, step in bars:
        for drum, places, gain in _BEATS[beat]:
            for at in places:
                yield Stroke(start_s=start + at * step, drum=drum, gain=gain * rng.uniform(0.85, 1.0))
