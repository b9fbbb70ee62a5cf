"""Which container a file is, by its first bytes: FFmpeg is told the demuxer and never guesses.

FFmpeg's own probing would also take playlists, image sequences and subtitles, and some of its demuxers open further
files. Here a file is one of eight containers or it is refused.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from tagfleet.errors import DecodeError

HEAD_BYTES = 16 * 1024
"""How much of a file is looked at."""

MOST_TAGS = 8
"""ID3v2 tags that are passed over in front of a file; one is usual."""

_W64_GUID = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_MP3_HZ = (44_100, 48_000, 32_000)
_MP3_KBPS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
# The info frame of LAME and others with its "number of frames" flag, or Fraunhofer's.
_MP3_DURATION = re.compile(rb"(?:Xing|Info)\x00\x00\x00[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI")


def after_id3(source: BinaryIO) -> tuple[int, bytes]:
    """Where the file begins behind its ID3v2 tags (id3.org/id3v2.4.0-structure, 3.1), and its head from there.

    Behind MOST_TAGS of them it is no longer looked for: a file of nothing but empty ones would take minutes.
    """
    offset = n_tags = 0
    while True:
        source.seek(offset)
        head = source.read(HEAD_BYTES)
        if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127 or n_tags == MOST_TAGS:
            return offset, head
        n_tags += 1
        has_footer = bool(head[5] & 0x10)
        offset += 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        offset += 10 * has_footer


def sniff_container(head: bytes) -> str:
    """The FFmpeg demuxer for a file that begins with `head`, which has no ID3v2 tag in front (see `after_id3`).

    MP3 and ADTS have no magic number: one frame header, and a second one where the first says, behind nothing but
    zero bytes. Raises DecodeError("unsupported-container").

    >>> sniff_container(b"fLaC" + bytes(34))
    'flac'
    """
    form = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and form == b"WAVE":
        return "wav"
    if head.startswith(_W64_GUID):
        return "w64"
    if head.startswith(b"FORM") and form in (b"AIFF", b"AIFC"):
        return "aiff"
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"OggS"):
        return "ogg"
    if head[4:8] == b"ftyp":
        return "mov"
    frames = head.lstrip(b"\0")
    for name, frame_bytes in (("mp3", _mp3_frame_bytes), ("aac", _adts_frame_bytes)):
        n_bytes = frame_bytes(frames)
        if n_bytes and (len(frames) < n_bytes + 7 or frame_bytes(frames[n_bytes:])):
            return name
    raise DecodeError(
        "unsupported-container",
        f"begins with {head[:8]!r}: not WAV, W64, AIFF, FLAC, Ogg, MP4/M4A, MP3 or ADTS AAC",
    )


def stores_duration(container: str, head: bytes) -> bool:
    """Whether the file says how long it is. FFmpeg guesses from the bit rate for ADTS, and for MP3 without info frame.

    The guess is off by any factor when the bit rate varies.
    """
    if container == "mp3":
        return _MP3_DURATION.search(head.lstrip(b"\0")[:192]) is not None
    return container != "aac"


def stated_bytes(container: str, head: bytes) -> int | None:
    """The file size in bytes that a RIFF, FORM or W64 header states; None where there is none or its writer knew none.

    FFmpeg silently shortens such a file to what is there. Writers to a pipe leave 0 or a size near 2 or 4 GiB, or in
    W64 all bits set.
    """
    if container == "w64":
        size = int.from_bytes(head[16:24], "little")
        return size if 0 < size < 1 << 63 else None
    if container not in ("wav", "aiff") or head[:4] not in (b"RIFF", b"RIFX", b"FORM"):
        return None
    size = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
    return size + 8 if 0 < size < 0x7FFF_0000 else None


def _mp3_frame_bytes(head: bytes) -> int:
    """Bytes of the MPEG-1/2/2.5 layer III frame that `head` starts with, 0 if none (ISO/IEC 11172-3, 2.4.1.3)."""
    word = int.from_bytes(head[:4], "big")
    version, layer, kbps, hz = (word >> 19) & 3, (word >> 17) & 3, (word >> 12) & 15, (word >> 10) & 3
    if len(head) < 4 or word >> 21 != 0x7FF or version == 1 or layer != 1 or kbps in (0, 15) or hz == 3:
        return 0
    padding = (word >> 9) & 1
    if version == 3:
        return 144_000 * _MP3_KBPS_1[kbps - 1] // _MP3_HZ[hz] + padding
    return 72_000 * _MP3_KBPS_2[kbps - 1] // (_MP3_HZ[hz] >> (1 if version == 2 else 2)) + padding


def _adts_frame_bytes(head: bytes) -> int:
    """Bytes of the ADTS frame that `head` starts with, 0 if none (ISO/IEC 13818-7, 6.2)."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or (head[2] >> 2) & 15 > 12:
        return 0
    n_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return n_bytes if n_bytes >= 7 else 0
