"""Short tracks of all kinds, really encoded, that come, change and go over three versions of a catalogue."""

from __future__ import annotations

import io
import random
import wave
from dataclasses import dataclass
from functools import cache

import numpy as np

from tests.signals import Waveform, encode, music

_KINDS = (("wav", "wav"), ("flac", "flac"), ("mp3", "mp3"), ("ogg", "ogg"), ("m4a", "m4a"), ("opus", "opus"))
_RATES = (16_000, 22_050, 44_100, 48_000)
_LONG_S = 60
_BROKEN, _HOSTILE, _OTHER = 0.03, 0.01, 0.05


@dataclass(frozen=True)
class Song:
    """One object: its bytes in each of the three versions of the catalogue, None where it is not there."""

    key: str
    bytes: tuple[bytes | None, bytes | None, bytes | None]


def make_songs(n_tracks: int, seed: int = 0) -> list[Song]:
    """`n_tracks` in the second version, a few of them broken or hostile, and those that come and go."""
    draw = random.Random(seed)
    n_broken, n_hostile = max(2, round(n_tracks * _BROKEN)), max(1, round(n_tracks * _HOSTILE))
    n_other = max(1, round(n_tracks * _OTHER))
    songs = [_song(n, draw) for n in range(n_tracks - n_broken - n_hostile + 2 * n_other)]
    for n, life in enumerate(("new", "changed", "gone", "late", "leaving")):
        for place in range(n * n_other, (n + 1) * n_other):
            key, (data, *_) = songs[place].key, songs[place].bytes
            other = _song(place, draw).bytes[0]
            lives = {
                "new": (None, data, data),
                "changed": (data, other, other),
                "gone": (data, None, None),
                "late": (None, None, data),
                "leaving": (data, data, None),
            }
            songs[place] = Song(key, lives[life])
    songs += [Song(f"壊れた {n}.{_BAD[n % len(_BAD)][0]}", (_bad(n),) * 3) for n in range(n_broken)]
    songs += [Song(f"hostile/{n}.{_EVIL[n % len(_EVIL)][0]}", (_evil(n),) * 3) for n in range(n_hostile)]
    return songs


def _song(n: int, draw: random.Random) -> Song:
    suffix, encoding = _KINDS[n % len(_KINDS)]
    rate = 48_000 if encoding == "opus" else draw.choice(_RATES)
    data = _sound(encoding, draw.randrange(1 << 30), draw.uniform(1, 3), rate)
    return Song(f"曲 #{n % 3}?50%&a+b/{n:04d} [が].{suffix}", (data, data, data))


def _sound(encoding: str, seed: int, duration_s: float, rate: int) -> bytes:
    start = seed % (_LONG_S - 4) * rate  # a stretch of one piece: to make each anew takes longer than to encode it
    stretch = _piece(rate)[start : start + round(duration_s * rate)]
    return encode(stretch * np.float32(0.5 + seed % 97 / 200), rate, encoding)


@cache
def _piece(rate: int) -> Waveform:
    return music(_LONG_S, rate, seed=rate)


def _wav(samples: bytes, claimed: int | None = None, tag: int = 1, bits: int = 16) -> bytes:
    head = io.BytesIO()
    with wave.open(head, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(bits // 8)
        file.setframerate(16_000)
        file.writeframes(samples)
    data = bytearray(head.getvalue())
    data[20:22] = tag.to_bytes(2, "little")
    if claimed is not None:
        data[40:44] = claimed.to_bytes(4, "little")
    return bytes(data)


_BAD = (
    ("mp3", lambda n: b""),
    ("flac", lambda n: b"no audio at all %d" % n),
    ("wav", lambda n: _wav(bytes(4000 + 2 * n), claimed=3_200_000)),
    ("m4a", lambda n: _sound("m4a", n, 1.5, 16_000)[:2000]),
)
_EVIL = (
    ("mp3", lambda n: b"#EXTM3U\n#%d\nfile:///etc/passwd\nhttp://127.0.0.1:9/\n" % n),
    ("wav", lambda n: _wav(np.full(16_000 + n, np.nan, "<f4").tobytes(), tag=3, bits=32)),
    ("wav", lambda n: _wav(bytes(2000 + 2 * n), claimed=0xFFFFFF00)),
    ("mp3", lambda n: b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(500 + n)),
)


def _bad(n: int) -> bytes:
    return bytes(_BAD[n % len(_BAD)][1](n))


def _evil(n: int) -> bytes:
    return bytes(_EVIL[n % len(_EVIL)][1](n))
