"""How many bytes and requests the five clips of a track cost on S3: `python -m benchmarks.reading`.

First against a real server, by format; then by how far is read ahead, with a request at LATENCY_S and a stream at
BYTES_PER_S (a worker's part of 10 Gbit/s among 16), which is what the sizes in tagfleet/store/ranged.py are chosen by.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from unittest import mock

import boto3

from benchmarks.tracks import SAMPLE_RATE, music
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_clips, probe
from tagfleet.store import ranged
from tagfleet.store.config import StorageConfig
from tagfleet.store.ranged import HEAD_BYTES, RangedFile
from tagfleet.store.sources import open_uri
from tests import s3server
from tests.signals import ENCODINGS, encode

DURATION_S = 180.0
LATENCY_S = 0.025
BYTES_PER_S = 80e6
NO_XING = {"write_xing": "0", "id3v2_version": "0"}
TRACKS = {
    "WAV": ("wav", None, {}),
    "AIFF": ("aiff", None, {}),
    "W64": ("w64", None, {}),
    "FLAC": ("flac", None, {}),
    "M4A, AAC 160 kbit/s": ("m4a", 160_000, {}),
    "M4A, ALAC": ("m4a-alac", None, {}),
    "Ogg Vorbis": ("ogg", None, {}),
    "Ogg Opus 160 kbit/s": ("opus", 160_000, {}),
    "MP3 320 kbit/s": ("mp3", 320_000, {}),
    "MP3 VBR with Xing": ("mp3-vbr", None, {}),
    "MP3 VBR without Xing": ("mp3-vbr", None, NO_XING),
    "ADTS AAC": ("aac", 160_000, {}),
}
KIB = 1 << 10
# Share of the object, least and most KiB that are fetched at a seek.
AHEAD = [(24, 128, 1024), (1 << 40, 128, 128), (1 << 40, 256, 256), (1, 1024, 1024)]
AHEAD += [(16, 128, 1024), (32, 128, 1024), (48, 128, 1024), (24, 64, 1024), (24, 256, 1024)]
AHEAD += [(24, 128, 512), (24, 128, 2048)]


def main() -> None:
    sound = music(DURATION_S, seed=0)
    files = {name: encoded(sound, *how) for name, how in TRACKS.items()}
    print_formats(files)
    print_ahead({name: data for name, data in files.items() if not name.startswith(("MP3", "ADTS"))})


def encoded(sound, encoding, bit_rate, muxer_options):
    how = replace(ENCODINGS[encoding], muxer_options=muxer_options)
    with mock.patch.dict(ENCODINGS, {encoding: how}):
        return encode(sound, 48_000 if encoding == "opus" else SAMPLE_RATE, encoding, bit_rate)


def print_formats(files: dict[str, bytes]) -> None:
    audio, limits = AudioConfig(), DecodeLimits()
    model = f"ms at {1000 * LATENCY_S:.0f} ms a request and {BYTES_PER_S / 1e6:.0f} MB/s"
    print(f"\n{audio.n_clips} clips of {audio.clip_s:.1f} s from {DURATION_S:.0f} s, {s3server.kind()}; {model}\n")
    print("| format | MB | header only: bytes | requests | clips: bytes | requests | ms | whole object: ms |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with s3server.running() as server, mock.patch.dict(os.environ, server.environment):
        boto3.client("s3").create_bucket(Bucket="tracks")
        for name, data in files.items():
            boto3.client("s3").put_object(Bucket="tracks", Key=name, Body=data)
            counts = []
            for listen in (lambda file: probe(file, limits), lambda file: decode_clips(file, audio, limits)):
                with open_uri(f"s3://tracks/{name}", StorageConfig(), max_bytes=1 << 30) as source:
                    listen(source.file)
                counts.append(source.counts)
            shares = [f"{100 * c.n_bytes / c.size_bytes:.1f} % | {c.n_requests}" for c in counts]
            ms = f"{modelled_ms(counts[1].n_requests, counts[1].n_bytes):.0f} | {modelled_ms(2, len(data)):.0f}"
            print(f"| {name} | {len(data) / 1e6:.1f} | {' | '.join(shares)} | {ms} |")


def print_ahead(files: dict[str, bytes]) -> None:
    print("\nPer track of the containers that say where to go on\n")
    print("| share of the object | least KiB | most KiB | requests | bytes fetched | ms |\n|--:|--:|--:|--:|--:|--:|")
    for share, least, most in AHEAD:
        sizes = {"_AHEAD_SHARE": share, "_MIN_AHEAD_BYTES": least * KIB, "_MAX_AHEAD_BYTES": most * KIB}
        with mock.patch.multiple(ranged, **sizes):
            gets = {name: fetched(data) for name, data in files.items()}
        n = len(files)
        requests = sum(map(len, gets.values())) / n
        share_read = 100 * sum(sum(gets[name]) / len(files[name]) for name in files) / n
        ms = sum(modelled_ms(len(sizes), sum(sizes)) for sizes in gets.values()) / n
        part = "-" if least == most else f"1/{share}"
        print(f"| {part} | {least} | {most} | {requests:.1f} | {share_read:.0f} % | {ms:.0f} |")


def modelled_ms(n_requests: int, n_bytes: int) -> float:
    return 1000 * (n_requests * LATENCY_S + n_bytes / BYTES_PER_S)


def fetched(data: bytes) -> list[int]:
    """Bytes of each request that the clips of `data` cost."""
    gets = [min(HEAD_BYTES, len(data))]

    def get(begin: int, end: int) -> bytes:
        gets.append(end - begin)
        return data[begin:end]

    file = io.BufferedReader(RangedFile(get, len(data), data[:HEAD_BYTES]), ranged.PAGE_BYTES)
    decode_clips(file, AudioConfig(), DecodeLimits())
    return gets


if __name__ == "__main__":
    main()
