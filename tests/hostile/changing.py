"""Files whose sample rate, channels or sample format change on the way, and files behind files."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from tests import signals
from tests.hostile.bytes import flac_block, flac_silence, streaminfo
from tests.hostile.files import TAGGED, Hostile, encoded, hostile, song

CHANGES = {"rate": ((48_000, 2), (24_000, 2)), "fewer": ((48_000, 2), (48_000, 1)), "more": ((48_000, 1), (48_000, 2))}
"""Hz and channels of the first half and of the second."""


@functools.cache
def _half(encoding: str, rate: int, channels: int) -> bytes:
    """Five seconds; a FLAC does not say how long it is, so that all behind it belongs to it."""
    waveform = np.stack([signals.music(5.0, rate)] * channels)
    file = encoded(waveform, rate, encoding, serial=rate * channels)
    return file[:21] + bytes((file[21] & 0xF0, 0, 0, 0, 0)) + file[26:] if encoding.startswith("flac") else file


def changing() -> Iterator[Hostile]:
    group = "sample rate, channels or format change on the way"
    for name, (one, two) in CHANGES.items():
        for encoding, suffix in (("mp3-no-header", "mp3"), ("aac", "aac")):

            def data(encoding: str = encoding, one: tuple[int, int] = one, two: tuple[int, int] = two) -> bytes:
                return _half(encoding, *one) + _half(encoding, *two)

            yield hostile(f"{name}.{suffix}", group, "changed-mid-stream", data)
    yield hostile("frames-of-another-rate.flac", group, TAGGED, _another_rate)
    yield hostile("frames-of-other-channels.flac", group, TAGGED, _other_channels)


def behind() -> Iterator[Hostile]:
    """Two files in one. Ogg and FLAC count from the start of the second again: one of them is heard."""
    group = "two files in one"
    for name, (one, two) in CHANGES.items():
        for encoding in ("ogg", "opus", "flac"):

            def data(encoding: str = encoding, one: tuple[int, int] = one, two: tuple[int, int] = two) -> bytes:
                return _half(encoding, *one) + _half(encoding, *two)

            yield hostile(f"{name}.{encoding}", group, TAGGED, data)
    yield hostile("bits.flac", group, TAGGED, lambda: _half("flac", 48_000, 2) + _half("flac-24", 48_000, 2))
    for encoding, suffix in (("mp3-no-header", "mp3"), ("aac", "aac"), ("flac", "flac"), ("ogg", "ogg")):
        yield hostile(f"twice.{suffix}", group, TAGGED, lambda encoding=encoding: _half(encoding, 48_000, 2) * 2)
    for one, other, expected in (
        ("mp3-no-header", "aac", "corrupt"),
        ("aac", "mp3-no-header", "corrupt"),
        ("wav", "flac", TAGGED),
        ("ogg", "flac", TAGGED),
        ("opus", "ogg", TAGGED),
    ):
        suffix = one.split("-")[0]
        yield hostile(f"then-{other}.{suffix}", group, expected, lambda one=one, other=other: song(one) + song(other))


def _another_rate() -> bytes:
    """Its first block says 48 kHz, its frames 8 kHz, which is what FFmpeg believes."""
    file = song("flac")
    packed = int.from_bytes(file[18:26], "big")
    return file[:18] + (packed & (1 << 44) - 1 | 48_000 << 44).to_bytes(8, "big") + file[26:]


def _other_channels() -> bytes:
    """Its first block says 8, its frames are mono."""
    info = streaminfo(rate=44_100, n_samples=441_000, channels=8)
    return b"fLaC" + flac_block(0, info, last=True) + b"".join(flac_silence(441_000))
