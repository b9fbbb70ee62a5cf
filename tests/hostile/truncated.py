"""Files that end early, are empty, or are called what they are not."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.hostile.bytes import chunk
from tests.hostile.files import TAGGED, Hostile, hostile, song

FORMATS = ("wav", "flac", "mp3", "m4a", "ogg", "opus", "aac")
"""Each also the suffix of its files."""

_CUT = {
    "wav": "truncated",
    "flac": "truncated corrupt",
    "mp3": "truncated",
    "m4a": "corrupt",
    "m4a-map-first": "truncated",
    "ogg": "tagged corrupt",
    "opus": "tagged corrupt",
    "aac": "tagged",
    "aiff": "truncated",
    "w64": "truncated",
    "rf64": "truncated",
}
"""What a cut file is. Ogg tells its length at its end, ADTS nowhere: what is left of such a file is a shorter one, and
corrupt only where the headers themselves are cut."""


def cut() -> Iterator[Hostile]:
    """Each format at every 1/16 of its bytes. m4a has its map at the end, where it is always lost, or in front."""
    for name, expected in _CUT.items():
        for part in range(1, 16):

            def data(name: str = name, part: int = part) -> bytes:
                whole = _WHOLE[name]() if name in _WHOLE else song(name)
                return whole[: len(whole) * part // 16]

            if part == 15 and name in ("mp3", "rf64"):
                expected = TAGGED  # less than a twentieth of the last clip is missing
            yield hostile(f"cut-{part:02}-{name}.{name.split('-')[0]}", f"{name}, cut at every 1/16", expected, data)


def map_first(m4a: bytes) -> bytes:
    """An m4a as a server would send it: its `moov` box before its audio, which thereby moves."""
    at = m4a.index(b"moov") - 4
    moov = bytearray(m4a[at:])
    place = moov.index(b"stco") + 12  # one chunk
    struct.pack_into(">I", moov, place, struct.unpack_from(">I", moov, place)[0] + len(moov))
    ftyp = struct.unpack_from(">I", m4a)[0]
    return m4a[:ftyp] + moov + m4a[ftyp:at]


def rf64(wav: bytes) -> bytes:
    """A WAV as EBU Tech 3306 has it: its sizes have 64 bits and are in a chunk of their own."""
    data = wav.index(b"data")
    n_bytes = len(wav) - data - 8
    sizes = struct.pack("<QQQI", len(wav) + 28, n_bytes, n_bytes // 2, 0)
    head = b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", sizes)
    return head + wav[12 : data + 4] + b"\xff\xff\xff\xff" + wav[data + 8 :]


_WHOLE = {"m4a-map-first": lambda: map_first(song("m4a")), "rf64": lambda: rf64(song("wav"))}


def empty() -> Iterator[Hostile]:
    for name in FORMATS:
        yield hostile(f"empty.{name}", "0 bytes", "empty", b"")


def misnamed() -> Iterator[Hostile]:
    """Audio under another format's suffix, and what is none under an audio suffix."""
    for name, other in zip(FORMATS, FORMATS[1:] + FORMATS[:1], strict=True):
        yield hostile(f"{name}-called.{other}", "audio under a wrong extension", TAGGED, lambda name=name: song(name))
    others = {
        "text": "曲はありません\n".encode() * 400,
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(400),
        "program": b"\x7fELF\2\1\1" + bytes(4000),
        "pickle": b"\x80\x04cos\nsystem\n\x94\x8c\x04true\x94\x85\x94R\x94.",
        "matroska": b"\x1aE\xdf\xa3" + bytes(4000),
        "zeros": bytes(40_000),
        "ones": b"\xff" * 40_000,
    }
    for name, data in others.items():
        yield hostile(f"{name}.mp3", "no audio under an audio extension", "unsupported-container", data)
