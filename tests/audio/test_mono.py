import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.audio.mono import downmix, resample
from tests import signals


@pytest.mark.parametrize(
    ("sample_format", "dtype", "zero", "full_scale"),
    [("u8", np.uint8, 128, 128), ("s16", np.int16, 0, 2**15), ("s32", np.int32, 0, 2**31), ("dbl", np.float64, 0, 1)],
)
def test_half_of_full_scale_is_one_half(sample_format, dtype, zero, full_scale):
    channels = np.full((2, 5), zero + full_scale / 2).astype(dtype)
    np.testing.assert_array_equal(downmix(channels, sample_format), np.full(5, 0.5, np.float32))


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_one_loud_channel_counts_as_its_share(n_channels):
    channels = np.zeros((n_channels, 10), np.float32)
    channels[-1] = 3.0
    np.testing.assert_allclose(downmix(channels, "flt"), 3.0 / n_channels, rtol=1e-6)


def test_opposite_channels_cancel():
    left = signals.noise(1.0, 8_000)
    assert np.all(downmix(np.stack([left, -left]), "flt") == 0)


def test_what_no_float32_holds_becomes_infinite_without_a_warning():
    assert np.all(np.isinf(downmix(np.full((1, 3), 1e300), "dbl")))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4_000), max_size=20), st.sampled_from([8_000, 16_000, 22_050, 44_100, 96_000]))
def test_cutting_into_blocks_changes_no_bit(cuts, rate):
    waveform = signals.noise(0.5, rate)
    whole = resample([waveform], rate, 16_000)
    np.testing.assert_array_equal(resample(np.split(waveform, sorted(cuts)), rate, 16_000), whole)


@pytest.mark.parametrize("rate", [8_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_a_tone_below_both_nyquist_rates_survives_and_one_above_dies(rate):
    kept = resample([signals.tone(1_000, 2.0, rate)], rate, 16_000)
    np.testing.assert_allclose(kept[1_600:-1_600], signals.tone(1_000, 2.0, 16_000)[1_600:-1_600], atol=1e-3)
    if rate > 22_000:
        dead = resample([signals.tone(10_000, 2.0, rate)], rate, 16_000)
        assert np.abs(dead[1_600:-1_600]).max() < 1e-3


@pytest.mark.parametrize("n_samples", [0, 1, 9])
def test_a_handful_of_samples_is_no_special_case(n_samples):
    assert len(resample([np.ones(n_samples, np.float32)], 44_100, 16_000)) == round(n_samples * 16 / 44.1)
