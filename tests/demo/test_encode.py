import numpy as np
import pytest

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_track, probe
from tagfleet.demo.encode import encode


@pytest.mark.parametrize(
    ("format", "sample_rate", "codec"),
    [
        ("wav", 44_100, "pcm_s16le"),
        ("flac", 48_000, "flac"),
        ("mp3", 22_050, "mp3"),
        ("mp3", 32_000, "mp3"),
        ("ogg", 48_000, "opus"),
        ("m4a", 44_100, "aac"),
    ],
)
def test_what_is_written_can_be_read_and_is_written_again_alike(tmp_path, format, sample_rate, codec):
    t = np.arange(2 * sample_rate) / sample_rate
    tone = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)]).astype(np.float32)
    for name in ("が", "が2"):
        encode(tone, sample_rate, format, tmp_path / name, {"title": "が、まだ", "artist": "aoi"})
    assert (tmp_path / "が").read_bytes() == (tmp_path / "が2").read_bytes()
    with (tmp_path / "が").open("rb") as file:
        header = probe(file, DecodeLimits())
        assert (header.codec, header.sample_rate, header.n_channels) == (codec, sample_rate, 2)
        if format != "wav":  # RIFF INFO has no agreed encoding
            assert (header.title, header.artist) == ("が、まだ", "aoi")
        mono, duration_s = decode_track(file, AudioConfig(), DecodeLimits())
    assert duration_s == pytest.approx(2.0, abs=0.03)
    middle = mono[8_000:24_000]
    power = np.abs(np.fft.rfft(middle)) ** 2
    assert power[438:443].sum() > 0.99 * power.sum()  # 1 s: bins are 1 Hz
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=0.1)  # the mean of both channels
