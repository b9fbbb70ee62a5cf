"""Small files that would take hours of decoding, or memory without end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.hostile.bytes import (
    box,
    flac_block,
    flac_silence,
    id3,
    ogg_pages,
    opus_packets,
    streaminfo,
    wav,
    with_box,
)
from tests.hostile.files import RATE, TAGGED, Data, Hostile, bare_mp3, hostile, song
from tests.hostile.lying import TEN_HOURS, opus_of

MB = 1_000_000
_LONG = "10 hours of silence in a small file"
_ART = "cover art of 20 MB and more"
_MEMORY = "memory and time without end"


def silence() -> Iterator[Hostile]:
    """360 KB of FLAC, 930 KB of Opus and 3 MB of AAC; and the same under headers that say little."""
    n = TEN_HOURS * 44_100
    for name, stated, expected in (
        ("stated", n, "too-long"),
        ("unstated", 0, "too-long"),
        ("called-10s", 441_000, TAGGED),
        ("called-4h", 14_300 * 44_100, TAGGED),
    ):
        yield hostile(f"silence-{name}.flac", _LONG, expected, lambda stated=stated: _flac(stated, n))
    yield hostile("silence.opus", _LONG, "too-long", lambda: b"".join(ogg_pages(opus_packets(TEN_HOURS))))
    yield hostile(
        "silence-called-10s.opus", _LONG, TAGGED, lambda: opus_of(b"".join(ogg_pages(opus_packets(TEN_HOURS))), 480_000)
    )
    yield hostile("silence.aac", _LONG, "too-long", _adts)
    pcm = 2 * RATE * TEN_HOURS
    header = wav(b"", rate=RATE, data_size=pcm, riff_size=pcm + 36)
    yield hostile("silence-sparse.wav", _LONG, "too-long", [header, pcm])
    hours = 2 * RATE * 3600 * 3
    header = wav(b"", rate=RATE, data_size=hours, riff_size=hours + 36)
    yield hostile("silence-3h.wav", _LONG, TAGGED, [header, hours])
    yield hostile("silence-1GiB.wav", _LONG, "too-large", [header, 1 << 30])


def _flac(stated: int, n: int) -> bytes:
    info = flac_block(0, streaminfo(rate=44_100, n_samples=stated), last=True)
    return b"fLaC" + info + b"".join(flac_silence(n))


def _adts() -> bytes:
    """One frame of the encoder's silence again and again."""
    from tests import signals

    quiet = signals.encode(signals.silence(1.0, RATE), RATE, "aac", bit_rate=8_000)
    at = 0
    frames = []
    while at < len(quiet):
        size = (quiet[at + 3] & 3) << 11 | quiet[at + 4] << 3 | quiet[at + 5] >> 5
        frames.append(quiet[at : at + size])
        at += size
    return frames[3] * (TEN_HOURS * RATE // 1024)


def cover_art() -> Iterator[Hostile]:
    picture = b"\0image/png\0\3\0\x89PNG\r\n\x1a\n"
    size = 20 * MB
    frame = b"APIC" + struct.pack(">I", size) + b"\0\0" + picture
    tag = id3(b"", size=10 + size)[:10] + frame
    yield hostile("art.mp3", _ART, TAGGED, lambda: [tag, size - len(picture), bare_mp3()])
    yield hostile("art-4.mp3", _ART, TAGGED, lambda: [*[tag, size - len(picture)] * 4, bare_mp3()])
    covr = box(b"ilst", box(b"covr", box(b"data", struct.pack(">II", 14, 0) + bytes(size))))
    path = (b"moov", b"udta", b"meta")
    yield hostile("art.m4a", _ART, TAGGED, lambda: with_box(song("m4a"), path, covr))
    yield hostile("art.flac", _ART, TAGGED, lambda: _with_pictures(2, 10 * MB))
    yield hostile("art-160-MB.flac", _ART, TAGGED, lambda: _with_pictures(10, 16 * MB))


def _with_pictures(n: int, size: int) -> Data:
    """FLAC holds at most 16 MiB in one block; the second to last picture is as good as the first."""
    head = struct.pack(">II9sI", 3, 9, b"image/png", 0) + struct.pack(">IIIII", 1, 1, 24, 0, size)
    block = flac_block(6, head, size=len(head) + size)
    file = song("flac")
    return [file[:42].replace(b"\x80", b"\0"), *[block, size] * n, flac_block(1, b"", last=True), file[_frames(file) :]]


def _frames(flac: bytes) -> int:
    """Where the audio begins."""
    at = 4
    while True:
        last, at = flac[at] & 128, at + 4 + int.from_bytes(flac[at + 1 : at + 4], "big")
        if last:
            return at


def memory_and_time() -> Iterator[Hostile]:
    ftyp = box(b"ftyp", b"M4A \0\0\0\0")

    def compressed(claim: int, n: int) -> bytes:
        """An m4a whose map is compressed (QuickTime's `cmov`), and says how large it is."""
        inner = box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", claim) + zlib.compress(bytes(n), 9))
        return ftyp + box(b"moov", box(b"cmov", inner)) + box(b"mdat", bytes(100))

    yield hostile("map-of-64-MB.m4a", _MEMORY, "no-audio-stream corrupt", lambda: compressed(64 * MB, 64 * MB))
    yield hostile("map-of-1500-MB.m4a", _MEMORY, "memory", lambda: compressed(1500 * MB, 1000))
    yield hostile("map-of-4-GB.m4a", _MEMORY, "memory", lambda: compressed(2**32 - 1, 1000))
    for name, n in (("16M", 16 << 20), ("2^31", 1 << 31)):
        yield hostile(f"frames-of-{name}.m4a", _MEMORY, "corrupt memory truncated", lambda n=n: _alac(n))
    yield hostile("streams-2000.opus", _MEMORY, "memory", _many_streams)
    yield hostile("chunks-50000.wav", _MEMORY, TAGGED, wav(bytes(4 * RATE), rate=RATE, before=b"junk\0\0\0\0" * 50_000))
    yield hostile("tags-2000.flac", _MEMORY, TAGGED, lambda: comments(2_000))


def _alac(n: int) -> bytes:
    """Says that a packet holds n samples; the decoder makes room for them."""
    file = bytearray(song("m4a-alac"))
    struct.pack_into(">I", file, file.index(b"alac", file.index(b"alac") + 4) + 8, n)
    return bytes(file)


def _many_streams() -> bytes:
    head = [next(opus_packets(1.0))]
    return b"".join(next(ogg_pages(head, serial=n)) for n in range(2_000)) + song("opus")


def comments(n: int) -> bytes:
    """FLAC with n different comments. FFmpeg compares each with all others: 20,000 (260 KB) take half a minute."""
    texts = b"".join(struct.pack("<I7sss", 9, b"%07x" % i, b"=", b"1") for i in range(n))
    block = flac_block(4, struct.pack("<II", 0, n) + texts)
    file = song("flac")
    return file[:42].replace(b"\x80", b"\0") + block + flac_block(1, b"", last=True) + file[_frames(file) :]
