"""What a hostile file is, and the sound that most are made of."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests import signals
from tests.hostile.bytes import ogg_places, sealed

TAGGED = "tagged"
SECONDS = 10.0
"""Of the song below: room for two clips, the first of which starts at 0.44 s and the second of which ends at 9.56 s."""

Data = bytes | Sequence[bytes | int]
"""Bytes, or pieces of them, where a number stands for so many zeros: a hole in the file that takes no room."""


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One file, what it is a case of, and what must become of it."""

    name: str
    """Below the folder, with its suffix."""
    group: str
    """The line of the table that it is counted in."""
    expected: frozenset[str]
    """TAGGED, or reasons: the outcome must be one of them."""
    data: Callable[[], Data] | None = None
    """None: nothing is written, for a place that is no file."""
    uri: str | None = None
    """Of what is asked for, where that is not the file."""


def hostile(name: str, group: str, expected: str, data: Callable[[], Data] | Data) -> Hostile:
    """A file; `expected` is separated by blanks."""
    made = data if callable(data) else lambda: data
    return Hostile(name=name, group=group, expected=frozenset(expected.split()), data=made)


RATES = {"opus": 48_000, "ogg": 44_100, "mp3": 44_100, "aac": 16_000}
"""Hz of the song; 8 kHz where no encoder minds, so that files are small."""
RATE = 8_000


@functools.cache
def song(encoding: str, seconds: float = SECONDS, rate: int | None = None) -> bytes:
    """Mono music (Vorbis: stereo), as small as an encoder makes it."""
    rate = rate or RATES.get(encoding, RATE)
    return encoded(signals.music(seconds, rate), rate, encoding)


def encoded(waveform: signals.Waveform, rate: int, encoding: str, serial: int = 1) -> bytes:
    """The same every time: FFmpeg draws a serial number for Ogg."""
    file = signals.encode(waveform, rate, encoding, bit_rate=32_000)
    if not file.startswith(b"OggS"):
        return file
    places = itertools.pairwise([*ogg_places(file), len(file)])
    pages = (file[start:end] for start, end in places)
    return b"".join(sealed(page[:14] + serial.to_bytes(4, "little") + page[18:]) for page in pages)


def bare_mp3() -> bytes:
    """The song without the ID3 tag in front of it."""
    file = song("mp3")
    return file[file.index(b"\xff\xfb") :]
