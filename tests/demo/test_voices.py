import numpy as np
import pytest

from tagfleet.demo.voices import VOICES, drum

SAMPLE_RATE = 44_100


def power_spectrum(wave):
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    return np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), power


def centroid(wave):
    frequency, power = power_spectrum(wave)
    return np.sum(frequency * np.sqrt(power)) / np.sum(np.sqrt(power))


def rms(wave):
    return np.sqrt(np.mean(wave**2))


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("frequency", [110.0, 440.0, 443.3])
def test_a_note_has_its_energy_at_multiples_of_its_pitch(name, frequency):
    bins, power = power_spectrum(VOICES[name](frequency, 1.0, SAMPLE_RATE, 0.5))
    harmonic = np.maximum(1, np.round(bins / frequency))
    # Vibrato and detuning spread harmonic k over k times some cents of the pitch; 4 Hz is the window's width.
    near = np.abs(bins - harmonic * frequency) < 4 + harmonic * frequency * 0.012
    assert power[near].sum() > 0.97 * power.sum()


@pytest.mark.parametrize("name", sorted(set(VOICES) - {"bass"}))
def test_bright_is_brighter_than_dull(name):
    dull, bright = (VOICES[name](220.0, 1.0, SAMPLE_RATE, brightness) for brightness in (0.2, 0.9))
    assert centroid(bright) > 1.05 * centroid(dull)


@pytest.mark.parametrize(("name", "rings"), [(name, name in ("organ", "strings", "synth")) for name in VOICES])
def test_what_is_struck_dies_away_and_what_is_held_does_not(name, rings):
    wave = VOICES[name](440.0, 1.5, SAMPLE_RATE, 0.5)
    early, late = (rms(wave[int(start * SAMPLE_RATE) :][: SAMPLE_RATE // 4]) for start in (0.2, 1.0))
    assert (late > 0.6 * early) == rings


@pytest.mark.parametrize("name", VOICES)
def test_notes_of_every_length_rate_and_register_are_finite_and_begin_and_end_silently(name):
    for frequency, duration_s, sample_rate in [(32.7, 0.08, 48_000), (2093.0, 2.0, 22_050), (440.0, 0.05, 32_000)]:
        wave = VOICES[name](frequency, duration_s, sample_rate, 0.9)
        assert wave.dtype == np.float32
        assert len(wave) == int(duration_s * sample_rate)
        assert np.isfinite(wave).all()
        assert abs(wave[0]) < 1e-3
        assert abs(wave[-1]) < 0.01 * np.abs(wave).max()


def test_strings_come_slowly_and_a_guitar_at_once():
    first = {name: VOICES[name](440.0, 1.0, SAMPLE_RATE, 0.5) for name in ("strings", "guitar")}
    share = {name: rms(wave[:2000]) / rms(wave) for name, wave in first.items()}
    assert share["strings"] < 0.3
    assert share["guitar"] > 1.0


def test_the_kick_is_low_the_hat_is_high():
    rng = np.random.default_rng(0)
    kick, snare, hat = (centroid(drum(name, SAMPLE_RATE, rng, 0.5)) for name in ("kick", "snare", "hat"))
    assert kick < 500 < snare < hat
