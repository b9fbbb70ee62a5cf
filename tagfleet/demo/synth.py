"""Sound from harmonics, with numpy only: decaying and steady tones, envelopes, and the room around them.

All waveforms are float32; a tone is (n_samples,), a mix is (2, n_samples).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]


def harmonics_below(frequency: float, sample_rate: int) -> NDArray[np.float64]:
    """Harmonic numbers 1, 2, … of `frequency` (Hz) that lie below 0.45 of the sample rate, at most 60."""
    return np.arange(1, max(2, min(61, int(0.45 * sample_rate / frequency) + 1)), dtype=np.float64)


def decaying(
    amplitudes: NDArray[np.float64],
    decay_s: NDArray[np.float64],
    frequency: float,
    duration_s: float,
    sample_rate: int,
) -> Wave:
    """The sum over k of a_k exp(-t / decay_k) sin(2 pi k f t): what a plucked or struck string does.

    Made one period per row of an inverse FFT (decay in steps of a period), then read off at the exact pitch.
    """
    n_table = 2 * int(np.ceil(sample_rate / frequency))
    periods = np.arange(int(duration_s * frequency) + 2)
    spectrum = np.zeros((len(periods), n_table // 2 + 1), dtype=np.complex64)
    spectrum[:, 1 : len(amplitudes) + 1] = -1j * amplitudes * np.exp(-periods[:, None] / (frequency * decay_s))
    table = np.fft.irfft(spectrum, n=n_table, axis=1).ravel() * (n_table / 2)
    at = np.arange(int(duration_s * sample_rate)) * (frequency * n_table / sample_rate)
    return _read(table.astype(np.float32), at)


def steady(
    amplitudes: NDArray[np.float64],
    frequency: float,
    duration_s: float,
    sample_rate: int,
    *,
    vibrato_cents: float = 0.0,
    vibrato_hz: float = 5.5,
) -> Wave:
    """The sum over k of a_k sin(2 pi k f t), from one period in a table, with vibrato of +-`vibrato_cents`."""
    n_table = 1024
    spectrum = np.zeros(n_table // 2 + 1, dtype=np.complex64)
    spectrum[1 : len(amplitudes) + 1] = -1j * amplitudes
    period = np.fft.irfft(spectrum, n=n_table) * (n_table / 2)
    t = np.arange(int(duration_s * sample_rate)) / sample_rate
    phase = frequency * t
    if vibrato_cents:
        swing = frequency * (2 ** (vibrato_cents / 1200) - 1) / (2 * np.pi * vibrato_hz)
        phase += swing * (1 - np.cos(2 * np.pi * vibrato_hz * t))
    return _read(np.append(period, period[0]).astype(np.float32), (phase % 1.0) * n_table)


def _read(table: Wave, at: NDArray[np.floating]) -> Wave:
    """`table` at fractional places, linearly interpolated."""
    place = at.astype(np.int32)
    share = (at - place).astype(np.float32)
    left = table[place]
    return left + (table[place + 1] - left) * share


def enveloped(wave: Wave, sample_rate: int, *, attack_s: float, release_s: float) -> Wave:
    """`wave` with linear ramps at both ends, changed in place."""
    for n, ramp in ((int(attack_s * sample_rate), wave), (int(release_s * sample_rate), wave[::-1])):
        n = min(n, len(wave))
        ramp[:n] *= np.linspace(0.0, 1.0, n, endpoint=False, dtype=np.float32)
    return wave


def rms(wave: Wave) -> float:
    """Root mean square over all samples."""
    return float(np.sqrt(np.mean(np.square(wave))))


def in_room(
    mix: Wave, sample_rate: int, rng: np.random.Generator, *, reverb: float, reverb_s: float, tilt_db: float
) -> Wave:
    """`mix` (2, n) through a spectral tilt of `tilt_db` per octave around 1 kHz and a room.

    The room is noise that decays by 60 dB in `reverb_s`, different on both sides; `reverb` is its level against the
    direct sound (1 = as much energy).
    """
    n = mix.shape[1]
    t = np.arange(int(reverb_s * sample_rate), dtype=np.float32) / sample_rate
    room = rng.standard_normal((2, len(t)), dtype=np.float32) * np.exp(-6.9 * t / reverb_s)
    room *= reverb / np.sqrt(np.sum(np.square(room), axis=1, keepdims=True))
    room[:, 0] += 1.0
    n_fft = 1 << (n + len(t) - 1).bit_length()
    frequency = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    tilt = (np.clip(frequency, 60.0, 12_000.0) / 1000.0) ** (tilt_db / 6.02)
    wet = np.fft.irfft(np.fft.rfft(mix, n_fft) * np.fft.rfft(room, n_fft) * tilt.astype(np.float32), n_fft)
    return wet[:, :n].astype(np.float32)
