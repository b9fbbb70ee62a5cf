"""Headers that say what is not so, and formats that nobody should have chosen."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tests import signals
from tests.hostile.bytes import (
    aiff,
    box,
    chunk,
    extended,
    flac_block,
    flac_silence,
    id3,
    ogg_pages,
    opus_packets,
    sealed,
    streaminfo,
    wav,
)
from tests.hostile.files import RATE, SECONDS, TAGGED, Hostile, bare_mp3, hostile, song

TEN_HOURS = 36_000
_LENGTH = "a header that claims hours, or 2^31 samples"


def lengths() -> Iterator[Hostile]:
    """One second to ten seconds of sound under a header that claims far more."""
    pcm = np.int16(20_000 * signals.music(1.0, RATE)).tobytes()
    hours = 2 * RATE * TEN_HOURS
    yield hostile("wav-2^31.wav", _LENGTH, TAGGED, wav(pcm, rate=RATE, data_size=2**32 - 2, riff_size=2**32 - 1))
    yield hostile("wav-10h.wav", _LENGTH, "truncated", wav(pcm, rate=RATE, data_size=hours, riff_size=hours + 36))
    yield hostile("wav-10h-only-data.wav", _LENGTH, TAGGED, wav(pcm, rate=RATE, data_size=hours))
    yield hostile("rf64-2^31.wav", _LENGTH, "too-long", _rf64(pcm, 2**32))
    yield hostile("w64-2^62.w64", _LENGTH, "truncated", lambda: _w64(2**62))
    yield hostile("aiff-2^31.aiff", _LENGTH, "corrupt", aiff(pcm, rate=extended(RATE), n_frames=2**31))
    for name, n_samples, expected in (
        ("2^31", 2**31, "too-long"),
        ("10h", TEN_HOURS * RATE, "too-long"),
        ("2^36", 2**36 - 1, "too-long"),
        ("1h", 3600 * RATE, "truncated"),
    ):
        yield hostile(f"flac-{name}.flac", _LENGTH, expected, lambda n=n_samples: _flac_of(n))
    for name, n_frames, expected in (
        ("2^31", 2**31 - 1, "too-long"),
        ("10h", TEN_HOURS * 44_100 // 1152, "too-long"),
        ("1h", 3600 * 44_100 // 1152, "truncated"),
    ):
        yield hostile(f"mp3-{name}.mp3", _LENGTH, expected, lambda n=n_frames: _mp3_of(n))
    for name, n_samples in (("2^31", 2**31 - 1), ("10h", TEN_HOURS * RATE)):
        yield hostile(f"m4a-{name}.m4a", _LENGTH, TAGGED, lambda n=n_samples: _m4a_of(n))
    for name, granule in (("2^62", 2**62), ("10h", TEN_HOURS * 48_000), ("negative", 2**63 + 5)):
        expected = "too-long" if granule < 2**63 else "tagged corrupt empty"
        yield hostile(f"opus-{name}.opus", _LENGTH, expected, lambda g=granule: opus_of(song("opus"), g))


def _rf64(pcm: bytes, data_size: int) -> bytes:
    """EBU Tech 3306: sizes of 64 bits, here far beyond the file."""
    ds64 = struct.pack("<QQQI", data_size + 72, data_size, data_size // 2, 0)
    file = wav(pcm, rate=RATE, data_size=2**32 - 1, riff_size=2**32 - 1)
    return b"RF64" + file[4:12] + chunk(b"ds64", ds64) + file[12:]


def _w64(size: int) -> bytes:
    file = bytearray(song("w64"))
    struct.pack_into("<Q", file, 16, size)
    struct.pack_into("<Q", file, file.index(b"data\xf3\xac\xd3\x11") + 16, size)
    return bytes(file)


def _flac_of(n_samples: int) -> bytes:
    file = bytearray(song("flac"))
    packed = int.from_bytes(file[18:26], "big")
    file[18:26] = (packed >> 36 << 36 | n_samples).to_bytes(8, "big")
    return bytes(file)


def _mp3_of(n_frames: int) -> bytes:
    file = bytearray(song("mp3"))
    at = max(file.find(b"Xing"), file.find(b"Info"))
    struct.pack_into(">I", file, at + 8, n_frames)
    return bytes(file)


def _m4a_of(n_samples: int) -> bytes:
    """In all places where an m4a says it; the table of its packets is right."""
    file = bytearray(song("m4a"))
    for name, place in ((b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)):
        struct.pack_into(">I", file, file.index(name) + place, n_samples)
    return bytes(file)


def opus_of(file: bytes, granule: int) -> bytes:
    """The last page says so; its checksum is made to agree."""
    at = file.rindex(b"OggS")
    page = bytearray(file[at:])
    struct.pack_into("<Q", page, 6, granule)
    return file[:at] + sealed(bytes(page))


def rates_and_channels() -> Iterator[Hostile]:
    pcm = np.int16(20_000 * signals.music(2.0, RATE)).tobytes()
    group = "1 Hz, 768 kHz and other sample rates"
    for rate in (1, 768_000, 2**32 - 1):
        yield hostile(f"{rate}-Hz.wav", group, "bad-sample-rate corrupt", wav(pcm, rate=rate))
    for rate in (1, 768_000):
        info = flac_block(0, streaminfo(rate=rate, n_samples=0, block_size=4096), last=True)
        frames = b"".join(flac_silence(4096 if rate == 1 else 5 * rate, 4096))
        yield hostile(f"{rate}-Hz.flac", group, "bad-sample-rate", b"fLaC" + info + frames)
        yield hostile(f"{rate}-Hz.aiff", group, "bad-sample-rate", aiff(pcm, rate=extended(rate)))
    yield hostile("0-Hz.wav", group, "corrupt", wav(pcm, rate=0))
    for name, bits in (
        ("nan", 0x7FFF << 64 | 3 << 62),
        ("infinite", 0x7FFF << 64 | 1 << 63),
        ("minus", 0xC00C << 64 | 1 << 63),
    ):
        yield hostile(f"{name}-Hz.aiff", group, "corrupt bad-sample-rate", aiff(pcm, rate=bits.to_bytes(10, "big")))
    group = "255 channels and other numbers"
    for channels, expected in (
        (17, "bad-channels"),
        (255, "bad-channels"),
        (65_535, "bad-channels corrupt"),
        (0, "corrupt"),
    ):
        yield hostile(f"{channels}-channels.wav", group, expected, wav(pcm * 8, rate=RATE, channels=channels))
    yield hostile("16-channels.wav", group, TAGGED, wav(pcm * 16, rate=RATE, channels=16))
    yield hostile("255-channels.aiff", group, "bad-channels", aiff(pcm * 8, rate=extended(RATE), channels=255))
    yield hostile("255-channels.ogg", group, "bad-channels corrupt", lambda: _vorbis_of(255))
    yield hostile("255-channels.opus", group, "bad-channels corrupt", _opus_255)
    yield hostile("0-bits.wav", group, "corrupt unsupported-codec", wav(pcm, rate=RATE, bits=0))
    yield hostile("3-bits.wav", group, TAGGED, wav(pcm, rate=RATE, bits=3))


def _vorbis_of(channels: int) -> bytes:
    file = bytearray(song("ogg"))
    file[file.index(b"\1vorbis") + 11] = channels
    second = file.index(b"OggS", 4)
    return sealed(bytes(file[:second])) + bytes(file[second:])


def _opus_255() -> bytes:
    family = b"\xff\xff\0" + bytes(range(255))
    return b"".join(ogg_pages(opus_packets(5.0, 255, family=family)))


def samples() -> Iterator[Hostile]:
    """Float samples that are no numbers, or far beyond full scale."""
    group = "NaN, infinite and huge float samples"
    whole = signals.music(SECONDS, RATE)
    heard, unheard = 50_000, 1_000
    for name, value, place, expected in (
        ("nan", np.nan, heard, "not-finite"),
        ("nan-unheard", np.nan, unheard, TAGGED),
        ("infinite", np.inf, heard, "not-finite"),
        ("minus-infinite", -np.inf, heard, "not-finite"),
        ("1e30", 1e30, heard, "not-finite"),
        ("32768", 32768.0, heard, TAGGED),
        ("denormal", 1e-42, heard, TAGGED),
    ):
        broken = whole.copy()
        broken[place] = value
        yield hostile(f"{name}.wav", group, expected, lambda b=broken: wav(b.tobytes(), rate=RATE, tag=3, bits=32))
    double = whole.astype("<f8")
    double[heard] = 1e300
    yield hostile("1e300.wav", group, "not-finite", lambda: wav(double.tobytes(), rate=RATE, tag=3, bits=64))
    nothing = np.full(len(whole), np.nan, "<f4")
    yield hostile("all-nan.wav", group, "not-finite", lambda: wav(nothing.tobytes(), rate=RATE, tag=3, bits=32))


def sizes() -> Iterator[Hostile]:
    """Boxes, chunks and tags whose sizes lie."""
    pcm = np.int16(20_000 * signals.music(2.0, RATE)).tobytes()
    group = "ID3 tags with wrong sizes"
    for name, tag, expected in (
        ("beyond", id3(bytes(100), size=2**28 - 1), "unsupported-container"),
        ("small-zeros", id3(b"TIT2" + bytes(200), size=20), TAGGED),
        ("small-text", id3(b"TIT2" + b"x" * 200, size=20), "unsupported-container"),
        ("large", id3(bytes(100), size=5_000), "unsupported-container"),
        ("no-size", b"ID3\3\0\0\xff\xff\xff\xff" + bytes(100), "unsupported-container"),
        ("five", id3(b"") * 5, TAGGED),
        ("30000", id3(b"") * 30_000, "unsupported-container"),
        ("frame", id3(b"TIT2" + struct.pack(">I", 2**31 - 1) + bytes(50)), TAGGED),
    ):
        yield hostile(f"id3-{name}.mp3", group, expected, lambda tag=tag: tag + bare_mp3())
    yield hostile("id3-only.mp3", group, "unsupported-container", id3(bytes(5_000)))
    group = "chunks and boxes with wrong sizes"
    yield hostile("fmt-2^32.wav", group, "corrupt empty", b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + pcm)
    yield hostile(
        "list-2^32.wav", group, "corrupt empty truncated", wav(pcm, rate=RATE, before=b"LIST\xff\xff\xff\xffINFO")
    )
    ftyp = box(b"ftyp", b"M4A \0\0\0\0M4A ")
    yield hostile(
        "box-size-1.m4a", group, "corrupt no-audio-stream", ftyp + b"\0\0\0\1moov\x7f" + b"\xff" * 7 + bytes(100)
    )
    yield hostile("box-size-4.m4a", group, "corrupt no-audio-stream", ftyp + box(b"moov", bytes(100), 4))
    yield hostile("box-size-0.m4a", group, "corrupt no-audio-stream", ftyp + box(b"moov", bytes(100), 0))
    yield hostile("nested.m4a", group, "corrupt no-audio-stream", ftyp + _nested(5_000))
    yield hostile(
        "flac-block.flac",
        group,
        "corrupt empty truncated",
        lambda: song("flac")[:42].replace(b"\x80", b"\0") + flac_block(4, bytes(8), size=2**24 - 1),
    )


def _nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = box(b"moov", inner)
    return inner
