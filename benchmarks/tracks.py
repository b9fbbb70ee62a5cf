"""The tracks that are timed: stereo music of 2 to 3 minutes at 44.1 kHz, the same pieces in every format."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 44_100
_SCALE = (0, 2, 4, 5, 7, 9, 11)
_MANIFEST = "tracks.json"


@dataclass(frozen=True)
class Format:
    """How FFmpeg writes it. LAME and AAC at their quick settings: decoding costs the same."""

    suffix: str
    codec: str
    sample_format: str
    bit_rate: int | None = None
    options: dict[str, str] = field(default_factory=dict)


OGG = {"ogg": Format("ogg", "vorbis", "fltp", 160_000, {"strict": "experimental"})}
"""Beside FORMATS where seeking is compared."""

FORMATS = {
    "mp3-320": Format("mp3", "libmp3lame", "fltp", 320_000, {"compression_level": "7"}),
    "mp3-128": Format("mp3", "libmp3lame", "fltp", 128_000, {"compression_level": "7"}),
    "flac": Format("flac", "flac", "s16"),
    "wav": Format("wav", "pcm_s16le", "s16"),
    "m4a": Format("m4a", "aac", "fltp", 160_000, {"aac_coder": "fast"}),
}


@dataclass(frozen=True, kw_only=True)
class BenchTrack:
    """One rendered file."""

    path: str
    format: str
    duration_s: float


def rendered(folder: Path, n_tracks: int) -> list[BenchTrack]:
    """`n_tracks` files in `folder`, a fifth per format; what an earlier call left there is taken as it is."""
    manifest = folder / _MANIFEST
    n_pieces = max(1, n_tracks // len(FORMATS))
    if manifest.exists():
        tracks = [BenchTrack(**row) for row in json.loads(manifest.read_text())]
        if len(tracks) == n_pieces * len(FORMATS):
            return tracks
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        pieces = pool.map(_piece_in_all_formats, [folder] * n_pieces, range(n_pieces), [n_pieces] * n_pieces)
        tracks = sorted((track for piece in pieces for track in piece), key=lambda track: (track.format, track.path))
    manifest.write_text(json.dumps([asdict(track) for track in tracks]))
    return tracks


def _piece_in_all_formats(folder: Path, piece: int, n_pieces: int) -> list[BenchTrack]:
    duration_s = 120.0 + 60.0 * (piece + 0.5) / n_pieces
    waveform = music(duration_s, seed=piece)
    tracks = []
    for name, format in FORMATS.items():
        path = folder / f"{name}-{piece:02}.{format.suffix}"
        encode(waveform, format, path)
        tracks.append(BenchTrack(path=str(path), format=name, duration_s=duration_s))
    return tracks


def encode(waveform: NDArray[np.float32], format: Format, path: Path) -> None:
    """(2, n_samples) at SAMPLE_RATE as a file."""
    frame = av.AudioFrame.from_ndarray(waveform, "fltp", "stereo")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    with av.open(path, "w") as file:
        stream = file.add_stream(
            format.codec, rate=SAMPLE_RATE, layout="stereo", format=format.sample_format, options=format.options
        )
        if format.bit_rate:
            stream.bit_rate = format.bit_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


def music(duration_s: float, seed: int) -> NDArray[np.float32]:
    """(2, n_samples): plucked notes, three every quarter second, with drum hits and hiss; FLAC keeps 70 % of it."""
    rng = np.random.default_rng(seed)
    n_samples, beat = int(duration_s * SAMPLE_RATE), SAMPLE_RATE // 4
    time_s = np.arange(2 * SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    harmonics = np.arange(1, 13)[:, None]
    fading = np.exp(-time_s * (1 + harmonics / 2)) / harmonics
    pitches = [110 * 2 ** ((step + 12 * octave) / 12) for octave in range(3) for step in _SCALE]
    notes = [
        (0.12 * np.sum(np.sin(2 * np.pi * pitch * harmonics * time_s) * fading, axis=0)).astype(np.float32)
        for pitch in pitches
    ]
    hit = (0.15 * rng.standard_normal((2, beat)) * np.exp(-25 * time_s[:beat])).astype(np.float32)
    mix = 0.003 * rng.standard_normal((2, n_samples + len(time_s)), dtype=np.float32)
    for start in range(0, n_samples, beat):
        mix[:, start : start + beat] += hit
        for note in rng.integers(len(notes), size=3):
            sides = rng.uniform(0.3, 1.0, (2, 1)).astype(np.float32)
            mix[:, start : start + len(time_s)] += sides * notes[note]
    mix = np.ascontiguousarray(mix[:, :n_samples])
    return 0.9 * mix / np.max(np.abs(mix))
