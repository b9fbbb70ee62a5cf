import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.audio.config import AudioConfig, LogMelConfig
from tagfleet.audio.logmel import LogMel
from tests import signals

CONFIG = LogMelConfig()
RATE = CONFIG.sample_rate


def mel(hz: float) -> float:
    """HTK's mel scale."""
    return 2595 * np.log10(1 + hz / 700)


def band_edges_hz(band: int) -> tuple[float, float]:
    step = (mel(CONFIG.f_max) - mel(CONFIG.f_min)) / (CONFIG.n_mels + 1)
    low, high = (mel(CONFIG.f_min) + step * k for k in (band, band + 2))
    return 700 * (10 ** (low / 2595) - 1), 700 * (10 ** (high / 2595) - 1)


def log_mel(waveform: np.ndarray) -> torch.Tensor:
    return LogMel(CONFIG)(torch.from_numpy(waveform))


def assert_alike(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-3) -> None:
    """To `atol`, and to what rounding to float16 makes of a difference: one step of its grid at most."""
    step = torch.from_numpy(np.spacing(expected.abs().half().numpy()).astype(np.float32))
    assert torch.all((found - expected).abs() <= atol + step), (found - expected).abs().max()


@settings(max_examples=30)
@given(st.floats(400, 7_800))
def test_a_tone_lights_the_band_that_holds_it(frequency):
    loudest = log_mel(signals.tone(frequency, 1.0, RATE)).mean(dim=-1).argmax().item()
    low, high = band_edges_hz(loudest)
    assert low <= frequency <= high


def test_a4_lights_the_band_that_holds_440_hz():
    low, high = band_edges_hz(log_mel(signals.tone(440, 1.0, RATE)).mean(dim=-1).argmax().item())
    assert low <= 440 <= high


def test_a_chord_lights_a_band_for_each_of_its_tones():
    levels = log_mel(signals.chord((440, 1_760, 5_000), 1.0, RATE)).mean(dim=-1)
    peaks = [k for k in range(1, 95) if levels[k] >= levels[k - 1 : k + 2].max() and levels[k] > levels.max() - 20]
    for frequency in (440, 1_760, 5_000):
        assert any(low <= frequency <= high for low, high in map(band_edges_hz, peaks))


def test_ten_times_the_amplitude_is_20_db_more():
    quiet, loud = (log_mel(signals.tone(1_000, 1.0, RATE, amplitude)) for amplitude in (0.05, 0.5))
    audible = quiet > -40
    assert_alike(loud[audible] - 20, quiet[audible], atol=1e-2)


def test_silence_is_the_floor():
    assert torch.all(log_mel(signals.silence(1.0, RATE)) == -100)


def test_a_clip_has_exactly_the_frames_that_the_config_promises():
    audio = AudioConfig()
    assert log_mel(signals.noise(audio.clip_s, RATE)).shape == (CONFIG.n_mels, audio.clip_frames)


@given(st.integers(512, 5_000))
@settings(max_examples=30)
def test_frames_are_counted_without_padding(n_samples):
    assert log_mel(np.zeros(n_samples, np.float32)).shape[-1] == 1 + (n_samples - 512) // 256


def test_the_frames_of_a_clip_are_those_of_the_track():
    track = signals.noise(10.0, RATE)
    start, n_frames = 100, 256
    clip = track[start * 256 :][: 512 + (n_frames - 1) * 256]
    assert_alike(log_mel(clip), log_mel(track)[:, start : start + n_frames])


@pytest.mark.parametrize("shape", [(16_000,), (3, 16_000), (2, 3, 16_000)])
def test_leading_dimensions_stay(shape):
    waveforms = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32))
    assert LogMel(CONFIG)(waveforms).shape == (*shape[:-1], 96, 61)


def test_equals_torchaudio():
    reference = torchaudio.transforms.MelSpectrogram(
        RATE, 512, hop_length=256, n_mels=96, f_min=0, f_max=8_000, center=False, mel_scale="htk", norm=None
    )
    waveform = signals.noise(5.0, RATE)
    expected = 10 * torch.log10(reference(torch.from_numpy(waveform)).clamp(min=1e-10))
    nearest = expected.half().float()
    assert_alike(log_mel(waveform), nearest, atol=0)
    assert (log_mel(waveform) == nearest).float().mean() > 0.95  # the others lie between two values of float16


def test_the_same_waveform_gives_the_same_bits():
    waveform = signals.noise(5.0, RATE)
    assert torch.equal(log_mel(waveform), log_mel(waveform.copy()))


@pytest.mark.parametrize(
    "waveform", [signals.noise(5.0, RATE), signals.tone(440, 1.0, RATE), 1e-4 * signals.noise(5.0, RATE, seed=1)]
)
def test_what_was_stored_or_sent_as_float16_is_the_same(waveform):
    """What the network hears may come from a file or another process, and is never other bits."""
    heard = log_mel(waveform)
    assert heard.dtype == torch.float32 and torch.equal(heard.half().float(), heard)
