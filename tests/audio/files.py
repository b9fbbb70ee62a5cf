"""Encoded files that several tests of this area share; each is made once."""

from __future__ import annotations

import functools
import io

import numpy as np

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tests import signals

AUDIO = AudioConfig()
LIMITS = DecodeLimits()
RATE = AUDIO.log_mel.sample_rate

EXACT = ("wav", "wav-s24", "wav-float", "wav-double", "w64", "aiff", "flac", "flac-24", "m4a-alac")
"""Encodings that lose nothing but rounding."""
LOSSY = ("mp3", "mp3-vbr", "ogg", "opus", "m4a")
"""Encodings that say how much the encoder put in front: no delay is left."""
DELAYED = {"mp3-no-header": 1105, "aac": 1024}
"""Encodings that do not say it, with the samples that the encoder put in front."""
ALL = (*EXACT, "wav-u8", *LOSSY, *DELAYED)


def source_rate(encoding: str) -> int:
    """Opus knows no 44.1 kHz."""
    return 48_000 if encoding == "opus" else 44_100


@functools.cache
def song(encoding: str, duration_s: float = 20.0) -> bytes:
    """`signals.music` in stereo, its right channel half as loud as its left."""
    left = signals.music(duration_s, source_rate(encoding))
    return signals.encode(np.stack([left, left / 2]), source_rate(encoding), encoding)


class CountingFile(io.BytesIO):
    """Knows how much of it was read."""

    n_bytes = 0
    n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.n_bytes += len(data)
        self.n_reads += 1
        return data
