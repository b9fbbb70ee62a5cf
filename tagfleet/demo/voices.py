"""The instruments of the demo, each a few lines of physics: a voice gives one note as (n_samples,) float32.

`brightness` is 0 (dull) to 1 (brilliant). The spectra are the textbook ones (Fletcher and Rossing, The Physics of
Musical Instruments), the plucked string is the closed form of Karplus and Strong (1983).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from tagfleet.demo.synth import Wave, decaying, enveloped, harmonics_below, steady

Voice = Callable[[float, float, int, float], Wave]
"""(frequency in Hz, duration_s, sample_rate, brightness) -> (n_samples,)."""

Drum = Literal["kick", "snare", "hat"]


def piano(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """A string struck at an eighth of its length, which spares harmonics 8, 16, …; low notes ring longer."""
    k = harmonics_below(frequency, sample_rate)
    hammer = np.abs(np.sin(np.pi * k / 8)) * k ** -(1.3 - 0.6 * brightness)
    decay_s = 1.8 * np.sqrt(220 / frequency) / (1 + 0.3 * k)
    wave = decaying(hammer, decay_s, frequency, duration_s, sample_rate)
    return enveloped(wave, sample_rate, attack_s=0.003, release_s=0.06)


def guitar(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """A plucked string on a body that rings at 220 Hz: in every period cos(pi k f / 44100) of harmonic k is left."""
    k = harmonics_below(frequency, sample_rate)
    pick = np.abs(np.sin(np.pi * k * 0.17)) * k ** -(1.5 - 0.8 * brightness)
    pick *= 1 + 3 / (1 + ((k * frequency - 220) / 80) ** 2)
    loop = np.clip(np.cos(np.pi * k * frequency / 44_100), 0.05, None) ** (1.6 - brightness) * 0.997
    wave = decaying(pick, -1 / (frequency * np.log(loop)), frequency, duration_s, sample_rate)
    return enveloped(wave, sample_rate, attack_s=0.001, release_s=0.03)


def electric_piano(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """A tine: nearly a sine, a bell-like harmonic that is soon gone, and a slow tremolo."""
    k = harmonics_below(frequency, sample_rate)
    bell = (0.1 + 0.3 * brightness) * np.exp(-0.5 * (k - 9) ** 2)
    wave = decaying(k**-2.6 + bell, np.where(k > 4, 0.25, 1.1 / np.sqrt(k)), frequency, duration_s, sample_rate)
    t = np.arange(len(wave), dtype=np.float32) / sample_rate
    wave *= 1 + 0.45 * np.sin(2 * np.pi * 5.2 * t)
    return enveloped(wave, sample_rate, attack_s=0.002, release_s=0.05)


def strings(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """A bowed section: a sawtooth behind a soft low-pass that comes slowly, two players with vibrato."""
    k = harmonics_below(frequency, sample_rate)
    spectrum = 1 / k / (1 + (k * frequency / (1200 + 3000 * brightness)) ** 2)
    first = steady(spectrum, frequency * 0.9985, duration_s, sample_rate, vibrato_cents=18, vibrato_hz=5.1)
    second = steady(spectrum, frequency * 1.0015, duration_s, sample_rate, vibrato_cents=14, vibrato_hz=6.0)
    return enveloped(first + second, sample_rate, attack_s=min(0.18, duration_s / 3), release_s=0.15)


def organ(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """Drawbars 8', 4', 2 2/3', 2', 1 3/5' and 1': a few sines, as loud at the end as at the start."""
    k = harmonics_below(frequency, sample_rate)
    drawbars = np.select(
        [k == 1, k == 2, k == 3, k == 4, k == 5, k == 8],
        [1.0, 0.8, 0.6, 0.2 + 0.5 * brightness, 0.3 * brightness, 0.6 * brightness],
    )
    wave = steady(drawbars, frequency, duration_s, sample_rate)
    return enveloped(wave, sample_rate, attack_s=0.008, release_s=0.03)


def synth(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """Three detuned sawtooths behind a steep low-pass that resonates at its edge."""
    k = harmonics_below(frequency, sample_rate)
    place = k * frequency / (1000 + 4000 * brightness)
    spectrum = 1 / k / np.sqrt((1 - place**2) ** 2 + (place / 4) ** 2)
    detuned = (steady(spectrum, frequency * 2 ** (c / 1200), duration_s, sample_rate) for c in (-9.0, 0.0, 8.0))
    return enveloped(np.sum(list(detuned), axis=0), sample_rate, attack_s=0.005, release_s=0.05)


def bass(frequency: float, duration_s: float, sample_rate: int, brightness: float) -> Wave:
    """A round bass; no label of the taxonomy, as in life some of what sounds is not asked for."""
    k = harmonics_below(frequency, sample_rate)[:6]
    wave = decaying(k**-1.8, 0.9 / k, frequency, duration_s, sample_rate)
    return enveloped(wave, sample_rate, attack_s=0.004, release_s=0.03)


VOICES: dict[str, Voice] = {
    "piano": piano,
    "guitar": guitar,
    "electric_piano": electric_piano,
    "strings": strings,
    "organ": organ,
    "synth": synth,
    "bass": bass,
}


def drum(name: Drum, sample_rate: int, rng: np.random.Generator, brightness: float) -> Wave:
    """One stroke: a falling sine (kick), noise over a drum skin (snare), or noise without lows (hat)."""
    duration_s = {"kick": 0.25, "snare": 0.2, "hat": 0.07}[name]
    t = np.arange(int(duration_s * sample_rate), dtype=np.float32) / sample_rate
    noise = rng.standard_normal(len(t), dtype=np.float32)
    if name == "kick":
        return np.asarray(np.sin(2 * np.pi * (48 * t + 3.2 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.08), np.float32)
    if name == "snare":
        skin = np.sin(2 * np.pi * 185 * t) * np.exp(-t / 0.05)
        return np.asarray(0.5 * skin + (0.2 + 0.25 * brightness) * noise * np.exp(-t / 0.06), np.float32)
    return np.asarray((0.1 + 0.2 * brightness) * np.diff(noise, prepend=0) * np.exp(-t / 0.02), np.float32)
