"""Small valid files of every container, broken at random: (seed, index) gives the same bytes everywhere."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Callable

from tests.hostile.bytes import id3, sealed
from tests.hostile.files import song
from tests.hostile.truncated import map_first, rf64

SECONDS = 3.0
ENCODINGS = (
    *("wav", "wav-u8", "wav-float", "w64", "aiff", "flac", "flac-24", "mp3", "mp3-vbr", "mp3-no-header"),
    *("ogg", "opus", "m4a", "m4a-alac", "aac"),
)
_NUMBERS = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_HEAD = 1200
"""Most of a file's sizes, rates and counts are in so many bytes at its begin, or at its end."""


@functools.cache
def bases() -> tuple[bytes, ...]:
    """What is broken: 10 to 200 KB each."""
    return (
        *(song(name, SECONDS) for name in ENCODINGS),
        map_first(song("m4a", SECONDS)),
        rf64(song("wav", SECONDS)),
        id3(b"TIT2" + struct.pack(">I", 9) + b"\0\0\0some song") + song("aac", SECONDS),
    )


def broken(seed: int, index: int) -> bytes:
    """One to eight mutations of one base, most of the time few."""
    rng = random.Random(f"{seed}:{index}")
    data = bytearray(rng.choice(bases()))
    for _ in range(min(8, 1 + int(rng.expovariate(0.7)))):
        if len(data) > 1:
            data = rng.choice(_MUTATIONS)(data, rng)
    # FFmpeg throws away Ogg pages whose checksum is wrong: most times it is made right, so that they are looked into.
    return resealed(bytes(data)) if data[:4] == b"OggS" and rng.random() < 0.8 else bytes(data)


def resealed(ogg: bytes) -> bytes:
    """Every page with the checksum of what it holds."""
    pages = ogg.split(b"OggS")
    return pages[0] + b"".join(sealed(b"OggS" + page) if len(page) >= 23 else b"OggS" + page for page in pages[1:])


def _flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 4, 30, 300))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _flip_head(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 2, 5))):
        data[_in_headers(data, rng)] = rng.randrange(256)
    return data


def _number(data: bytearray, rng: random.Random) -> bytearray:
    """A field of a header becomes a number that programs have trouble with."""
    at, size = _in_headers(data, rng), rng.choice((1, 2, 4, 4, 8))
    order = rng.choice(("big", "little"))
    if rng.random() < 0.3:
        value = int.from_bytes(data[at : at + size], order) + rng.choice((-1, 1, -16, 256))  # type: ignore[arg-type]
    else:
        value = rng.choice(_NUMBERS)
    data[at : at + size] = (value % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
    return data


def _in_headers(data: bytearray, rng: random.Random) -> int:
    at = rng.randrange(min(_HEAD, len(data)))
    return at if rng.random() < 0.7 else len(data) - 1 - at


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(1, len(data))]


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 4, 16, 100, 1000, 10_000)))


def _remove(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    del data[start:end]
    return data


def _repeat(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    n = rng.choice((1, 1, 2, 50)) if end - start <= 1000 else 1
    data[start:start] = data[start:end] * n
    return data


def _swap(data: bytearray, rng: random.Random) -> bytearray:
    (a, b), (c, d) = sorted((_block(data, rng), _block(data, rng)))
    return data if c < b else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    filling = rng.choice((b"\0", b"\xff", None))
    data[start:end] = filling * (end - start) if filling else rng.randbytes(end - start)
    return data


def _splice(data: bytearray, rng: random.Random) -> bytearray:
    """The beginning of this and the end of another."""
    other = rng.choice(bases())
    return data[: rng.randrange(1, len(data))] + other[rng.randrange(len(other)) :]


def _piece(data: bytearray, rng: random.Random) -> bytearray:
    """A chunk, box, page or block by its name: moved to before another one, doubled, or renamed."""
    places = [at for name in _NAMES for at in _all(data, name)]
    if len(places) < 2:
        return data
    a, b = sorted(rng.sample(places, 2))
    how = rng.randrange(3)
    if how == 0:
        data[a : a + 4] = data[b : b + 4]
    elif how == 1:
        data[a:a] = data[a:b]
    else:
        data[a:b] = b""
    return data


_NAMES = (
    *(b"fmt ", b"data", b"LIST", b"ds64", b"COMM", b"SSND", b"OggS", b"ftyp", b"moov", b"trak", b"mdia", b"minf"),
    *(b"stbl", b"stsd", b"stts", b"stsc", b"stsz", b"stco", b"mdat", b"udta", b"edts", b"elst", b"esds", b"alac"),
    *(b"Xing", b"Info", b"ID3\x04", b"\1vor", b"\3vor", b"\5vor", b"Opus"),
)


def _all(data: bytearray, name: bytes) -> list[int]:
    places, at = [], data.find(name)
    while at >= 0 and len(places) < 50:
        places.append(at)
        at = data.find(name, at + 1)
    return places


_MUTATIONS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    *(_flip_bits, _flip_head, _flip_head, _number, _number, _number, _cut, _remove, _repeat, _swap, _overwrite),
    *(_splice, _piece, _piece),
)
