"""Pieces of audio files as bytes, for files that no encoder writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk; `size` where it shall lie."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def wav(
    samples: bytes,
    *,
    rate: int,
    channels: int = 1,
    tag: int = 1,
    bits: int = 16,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
) -> bytes:
    """A WAV file of `samples`, whatever its header says of them."""
    align = channels * bits // 8 & 0xFFFF
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    inner = b"WAVE" + chunk(b"fmt ", fmt) + before + chunk(b"data", samples, data_size)
    return chunk(b"RIFF", inner, riff_size)


def aiff(samples: bytes, *, rate: bytes, channels: int = 1, n_frames: int | None = None) -> bytes:
    """An AIFF file of 16-bit samples; `rate` is the ten bytes of an extended float, see `extended`."""
    n_frames = len(samples) // (2 * channels) if n_frames is None else n_frames
    comm = struct.pack(">hIh", channels, n_frames, 16) + rate
    pieces = ((b"COMM", comm), (b"SSND", bytes(8) + samples))
    inner = b"AIFF" + b"".join(name + struct.pack(">I", len(piece)) + piece for name, piece in pieces)
    return b"FORM" + struct.pack(">I", len(inner)) + inner


def extended(value: int) -> bytes:
    """A positive integer as an 80-bit float."""
    exponent = value.bit_length() - 1
    return struct.pack(">HQ", 16383 + exponent, value << (63 - exponent))


def box(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """An MP4 box; `size` where it shall lie."""
    return struct.pack(">I", len(content) + 8 if size is None else size) + name + content


def with_box(mp4: bytes, path: tuple[bytes, ...], new: bytes, *, instead: bytes | None = None) -> bytes:
    """`mp4` with `new` at the end of the box at `path`, or in place of its child `instead`. What lies behind moves."""
    start, end, sizes = 0, len(mp4), []
    for name in path:
        start, end = _child(mp4, start, end, name)
        sizes.append(start)
        start += 8
    cut = _child(mp4, start, end, instead) if instead else (end, end)
    data = bytearray(mp4[: cut[0]] + new + mp4[cut[1] :])
    for at in sizes:
        (size,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, size + len(new) - (cut[1] - cut[0]))
    return bytes(data)


def _child(mp4: bytes, start: int, end: int, name: bytes) -> tuple[int, int]:
    while start < end:
        (size,) = struct.unpack_from(">I", mp4, start)
        if mp4[start + 4 : start + 8] == name:
            return start, start + size
        start += size
    raise KeyError(name)


def synchsafe(n: int) -> bytes:
    """A number as ID3v2 writes it: four times seven bits."""
    return bytes((n >> shift) & 127 for shift in (21, 14, 7, 0))


def id3(content: bytes, *, size: int | None = None, version: int = 3, flags: int = 0) -> bytes:
    """An ID3v2 tag; `size` where it shall lie."""
    return b"ID3" + bytes((version, 0, flags)) + synchsafe(len(content) if size is None else size) + content


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    entries = []
    for byte in range(256):
        crc = byte << (bits - 8)
        for _ in range(8):
            crc = ((crc << 1) ^ (polynomial if crc & top else 0)) & mask
        entries.append(crc)
    return entries


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = ((crc << 8) & 0xFFFF) ^ _CRC16[(crc >> 8) ^ byte]
    return crc


def flac_block(kind: int, content: bytes, *, last: bool = False, size: int | None = None) -> bytes:
    """A FLAC metadata block (RFC 9639, 8.1)."""
    return bytes((kind | 128 * last,)) + (len(content) if size is None else size).to_bytes(3, "big") + content


def streaminfo(*, rate: int, n_samples: int, block_size: int = 65_535, channels: int = 1, bits: int = 16) -> bytes:
    """The content of FLAC's first block (RFC 9639, 8.2)."""
    packed = rate << 44 | (channels - 1) << 41 | (bits - 1) << 36 | n_samples
    return struct.pack(">HH", block_size, block_size) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)


def flac_silence(n_samples: int, block_size: int = 65_535) -> Iterator[bytes]:
    """FLAC frames of 16-bit mono silence, 15 bytes each (RFC 9639, 9: constant subframes)."""
    for number in range(-(-n_samples // block_size)):
        head = b"\xff\xf8\x70\x08" + _coded(number) + struct.pack(">H", block_size - 1)
        frame = head + bytes((_crc8(head), 0, 0, 0))
        yield frame + struct.pack(">H", _crc16(frame))


def _coded(number: int) -> bytes:
    """A frame number: UTF-8, as far as it goes here."""
    return chr(number).encode("utf-8", "surrogatepass")


def ogg_pages(packets: Iterable[tuple[bytes, int]], serial: int = 1, *, last: bool = True) -> Iterator[bytes]:
    """Ogg pages (RFC 3533) of short packets, each with its granule; the two headers have pages of their own."""
    page: list[tuple[bytes, int]] = []
    number = n_segments = 0
    for n, packet in enumerate(packets):
        page.append(packet)
        n_segments += len(packet[0]) // 255 + 1
        if n < 2 or n_segments >= 250:
            yield _ogg_page(page, serial, number, 2 * (number == 0))
            page, number, n_segments = [], number + 1, 0
    if page:
        yield _ogg_page(page, serial, number, 4 * last)


def _ogg_page(packets: list[tuple[bytes, int]], serial: int, number: int, flags: int) -> bytes:
    lacing = b"".join(b"\xff" * (len(data) // 255) + bytes((len(data) % 255,)) for data, _ in packets)
    head = b"OggS\0" + struct.pack("<BQIII", flags, packets[-1][1] % 2**64, serial, number, 0)
    page = head + bytes((len(lacing),)) + lacing + b"".join(data for data, _ in packets)
    return sealed(page)


def ogg_places(ogg: bytes) -> Iterator[int]:
    """Where its pages begin."""
    at = 0
    while at < len(ogg):
        yield at
        n_segments = ogg[at + 26]
        at += 27 + n_segments + sum(ogg[at + 27 : at + 27 + n_segments])


def sealed(page: bytes) -> bytes:
    """An Ogg page with the right checksum: zlib's with its bits the other way round, from 0, not inverted."""
    data = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + struct.pack("<I", int(f"{crc:032b}"[::-1], 2)) + page[26:]


def opus_packets(duration_s: float, channels: int = 1, *, family: bytes = b"\0") -> Iterator[tuple[bytes, int]]:
    """The two headers (RFC 7845, 5) and packets of 120 ms of silence (RFC 6716, 3.2.5: six empty frames of 20 ms)."""
    yield b"OpusHead\1" + struct.pack("<BHIh", channels, 0, 48_000, 0) + family, 0
    yield b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", 0), 0
    for n in range(1, round(duration_s / 0.12) + 1):
        yield b"\xfb\x06", n * 5760
