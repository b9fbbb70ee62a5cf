"""From a planned track to its samples."""

from __future__ import annotations

import random

import numpy as np

from tagfleet.demo.creators import Creator
from tagfleet.demo.patterns import Note, Part, Score, Stroke, compose
from tagfleet.demo.plan import DemoTrack
from tagfleet.demo.synth import Wave, in_room, rms
from tagfleet.demo.voices import VOICES, drum

_FADE_S = 0.5


def render(track: DemoTrack) -> Wave:
    """The samples of `track`, (2, n_samples) between -1 and 1 at its sample rate; the same whenever it is called."""
    creator, sample_rate = track.creator, track.sample_rate
    n_samples = int(track.duration_s * sample_rate)
    if track.arrangement is None:
        return np.zeros((2, n_samples), dtype=np.float32)
    rng = np.random.default_rng(track.seed)
    score = compose(track.mood, track.arrangement, track.duration_s, random.Random(track.seed))
    brightness = 0.75 if track.mood == "bright" else 0.3
    brightness += rng.uniform(-0.15, 0.15)
    mix = _mixed(score, creator, n_samples, sample_rate, brightness, rng)
    room = {"reverb": creator.reverb, "reverb_s": creator.reverb_s, "tilt_db": creator.tilt_db}
    mix = in_room(mix, sample_rate, rng, **room)
    n_fade = int(_FADE_S * sample_rate)
    mix[:, -n_fade:] *= np.linspace(1.0, 0.0, n_fade, dtype=np.float32)
    mix *= creator.peak / np.max(np.abs(mix))
    mix += 10 ** (creator.noise_db / 20) * rng.standard_normal(mix.shape, dtype=np.float32)
    return np.clip(mix, -1.0, 1.0)


def _mixed(
    score: Score, creator: Creator, n_samples: int, sample_rate: int, brightness: float, rng: np.random.Generator
) -> Wave:
    mix = np.zeros((2, n_samples), dtype=np.float32)
    for part in score.parts:
        wave = _played(part, creator.tuning_cents, n_samples, sample_rate, brightness)
        wave *= part.level * rng.uniform(0.8, 1.2)
        angle = (part.pan + 1) * np.pi / 4
        mix += np.outer((np.cos(angle), np.sin(angle)), wave).astype(np.float32)
    if score.strokes:
        mix += (
            score.drum_level * rng.uniform(0.8, 1.2) * _drummed(score.strokes, n_samples, sample_rate, brightness, rng)
        )
    return mix


def _played(part: Part, tuning_cents: float, n_samples: int, sample_rate: int, brightness: float) -> Wave:
    """One part alone, (n_samples,) with an RMS of 0.1; a note that comes again is not made again."""
    made: dict[tuple[int, float], Wave] = {}
    wave = np.zeros(n_samples, dtype=np.float32)
    for note in part.notes:
        key = (note.pitch, round(note.duration_s, 2))
        if key not in made:
            frequency = 440 * 2 ** ((note.pitch - 69 + tuning_cents / 100) / 12)
            made[key] = VOICES[part.voice](frequency, key[1], sample_rate, brightness)
        _add(wave, made[key], note, sample_rate)
    if part.drive:
        wave = np.tanh(part.drive * wave / max(float(np.max(np.abs(wave))), 1e-9))
    return wave * np.float32(0.1 / max(rms(wave), 1e-9))


def _drummed(
    strokes: tuple[Stroke, ...], n_samples: int, sample_rate: int, brightness: float, rng: np.random.Generator
) -> Wave:
    kit = {name: drum(name, sample_rate, rng, brightness) for name in ("kick", "snare", "hat")}
    wave = np.zeros(n_samples, dtype=np.float32)
    for stroke in strokes:
        _add(wave, kit[stroke.drum], stroke, sample_rate)
    return 0.35 * wave


def _add(wave: Wave, sound: Wave, event: Note | Stroke, sample_rate: int) -> None:
    start = int(event.start_s * sample_rate)
    room = max(0, len(wave) - start)
    wave[start : start + len(sound)] += event.gain * sound[:room]
