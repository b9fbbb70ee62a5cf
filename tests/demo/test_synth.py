import numpy as np
import pytest

from tagfleet.demo.synth import decaying, enveloped, in_room, steady

SAMPLE_RATE = 44_100


def test_a_decaying_tone_is_the_formula():
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    truth = sum(a * np.exp(-t / d) * np.sin(2 * np.pi * k * 220 * t) for k, a, d in ((1, 1.0, 0.4), (2, 0.5, 0.2)))
    # The decay goes in steps of one period, 1.2 % of the faster time constant.
    made = decaying(np.array([1.0, 0.5]), np.array([0.4, 0.2]), 220.0, 1.0, SAMPLE_RATE)
    assert made == pytest.approx(truth, abs=0.03)


def test_a_steady_tone_is_a_sine():
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    assert steady(np.array([1.0]), 441.7, 1.0, SAMPLE_RATE) == pytest.approx(np.sin(2 * np.pi * 441.7 * t), abs=1e-3)


def test_vibrato_swings_as_far_as_asked():
    wave = steady(np.array([1.0]), 1000.0, 2.0, SAMPLE_RATE, vibrato_cents=50)
    rising = np.flatnonzero((wave[:-1] < 0) & (wave[1:] >= 0))
    crossings = rising - wave[rising] / (wave[rising + 1] - wave[rising])
    cents = 1200 * np.log2(SAMPLE_RATE / np.diff(crossings) / 1000)
    assert cents.max() == pytest.approx(50, abs=3)
    assert cents.min() == pytest.approx(-50, abs=3)


def test_an_envelope_longer_than_the_note_still_ends_in_silence():
    wave = enveloped(np.ones(100, dtype=np.float32), 1000, attack_s=1.0, release_s=1.0)
    assert wave[0] == wave[-1] == 0
    assert 0 < wave.max() < 1


def test_without_reverb_and_tilt_the_room_changes_nothing():
    mix = np.random.default_rng(1).standard_normal((2, 5000), dtype=np.float32)
    same = in_room(mix, SAMPLE_RATE, np.random.default_rng(2), reverb=0.0, reverb_s=0.1, tilt_db=0.0)
    assert same == pytest.approx(mix, abs=1e-4)


def test_tilt_is_in_db_per_octave():
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    level = {}
    for frequency in (1000, 2000, 4000):
        tone = np.tile(np.sin(2 * np.pi * frequency * t).astype(np.float32), (2, 1))
        out = in_room(tone, SAMPLE_RATE, np.random.default_rng(2), reverb=0.0, reverb_s=0.1, tilt_db=-3.0)
        level[frequency] = 20 * np.log10(np.abs(np.fft.rfft(out[0] * np.hanning(SAMPLE_RATE)))[frequency])
    assert level[2000] - level[1000] == pytest.approx(-3, abs=0.05)
    assert level[4000] - level[2000] == pytest.approx(-3, abs=0.05)
