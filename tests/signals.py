"""Sound whose truth is known, and files of it. Waveforms are float32, (n_samples,) or (n_channels, n_samples)."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


def tone(frequency: float, duration_s: float, sample_rate: int, amplitude: float = 0.5) -> Waveform:
    """A sine that starts at phase 0."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time_s)).astype(np.float32)


def chord(frequencies: tuple[float, ...], duration_s: float, sample_rate: int) -> Waveform:
    """Equally loud sines, together at most 0.5."""
    return np.sum([tone(f, duration_s, sample_rate, 0.5 / len(frequencies)) for f in frequencies], axis=0)


def noise(duration_s: float, sample_rate: int, seed: int = 0, amplitude: float = 0.1) -> Waveform:
    """White Gaussian noise with the given standard deviation."""
    return np.random.default_rng(seed).normal(0, amplitude, round(duration_s * sample_rate)).astype(np.float32)


def silence(duration_s: float, sample_rate: int) -> Waveform:
    return np.zeros(round(duration_s * sample_rate), np.float32)


def music(duration_s: float, sample_rate: int, seed: int = 0) -> Waveform:
    """Band-limited (below 5 kHz) notes that change twice a second: every second of it sounds different."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    n_notes = int(duration_s * 2) + 1
    note = np.minimum((time_s * 2).astype(int), n_notes - 1)
    fade = np.minimum(1, np.minimum(time_s % 0.5, 0.5 - time_s % 0.5) / 0.02)
    voices = np.zeros_like(time_s)
    for _ in range(3):
        frequencies = 110 * 2 ** (rng.integers(0, 48, n_notes) / 12)
        voices += rng.uniform(0.1, 0.25) * np.sin(2 * np.pi * frequencies[note] * time_s)
    return (fade * voices).astype(np.float32)


@dataclass(frozen=True)
class Encoding:
    """How FFmpeg is asked to write a format."""

    muxer: str
    codec: str
    sample_format: str
    codec_options: dict[str, str] = field(default_factory=dict)
    muxer_options: dict[str, str] = field(default_factory=dict)


ENCODINGS = {
    "wav": Encoding("wav", "pcm_s16le", "s16"),
    "wav-u8": Encoding("wav", "pcm_u8", "u8"),
    "wav-s24": Encoding("wav", "pcm_s24le", "s32"),
    "wav-float": Encoding("wav", "pcm_f32le", "flt"),
    "wav-double": Encoding("wav", "pcm_f64le", "dbl"),
    "w64": Encoding("w64", "pcm_s16le", "s16"),
    "aiff": Encoding("aiff", "pcm_s16be", "s16"),
    "flac": Encoding("flac", "flac", "s16"),
    "flac-24": Encoding("flac", "flac", "s32"),
    "mp3": Encoding("mp3", "libmp3lame", "fltp"),
    "mp3-vbr": Encoding("mp3", "libmp3lame", "fltp", {"global_quality": "472", "flags": "+qscale"}),
    "mp3-no-header": Encoding("mp3", "libmp3lame", "fltp", {}, {"write_xing": "0", "id3v2_version": "0"}),
    "ogg": Encoding("ogg", "vorbis", "fltp", {"strict": "experimental"}),
    "opus": Encoding("ogg", "libopus", "flt"),
    "m4a": Encoding("ipod", "aac", "fltp"),
    "m4a-alac": Encoding("ipod", "alac", "s16p"),
    "aac": Encoding("adts", "aac", "fltp"),
}
"""By the name that `encode` takes."""


def encode(
    waveform: Waveform,
    sample_rate: int,
    encoding: str,
    bit_rate: int | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """The file that FFmpeg writes for `waveform`. Vorbis is always stereo (its encoder here knows nothing else)."""
    how = ENCODINGS[encoding]
    channels = np.atleast_2d(waveform)
    if how.codec == "vorbis" and len(channels) == 1:
        channels = np.repeat(channels, 2, axis=0)
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(channels)]
    # Not planar: of eight channels PyAV would make nine.
    interleaved = np.ascontiguousarray(channels.T, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, "flt", layout)
    frame.sample_rate = sample_rate
    frame.pts, frame.time_base = 0, Fraction(1, sample_rate)  # without it the Vorbis encoder writes wrong granules
    target = io.BytesIO()
    with av.open(target, "w", format=how.muxer, options=how.muxer_options) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(how.codec, rate=sample_rate, layout=layout, options=how.codec_options)
        stream.codec_context.format = how.sample_format
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return target.getvalue()
