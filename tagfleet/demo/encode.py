"""Audio files from samples, with the FFmpeg inside PyAV: the same samples give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import av
import numpy as np

from tagfleet.demo.synth import Wave

Format = Literal["wav", "flac", "mp3", "ogg", "m4a"]

_CODECS: dict[Format, tuple[str, str, str, int | None]] = {
    "wav": ("wav", "pcm_s16le", "s16", None),
    "flac": ("flac", "flac", "s16", None),
    "mp3": ("mp3", "libmp3lame", "fltp", 192_000),
    "ogg": ("ogg", "libopus", "flt", 128_000),
    "m4a": ("ipod", "aac", "fltp", 160_000),
}
"""Container, encoder, its sample format and its bits per second. Opus takes 48 kHz only."""

_BLOCK = 1 << 16


def encode(waveform: Wave, sample_rate: int, format: Format, path: Path, metadata: dict[str, str]) -> None:
    """Write (2, n_samples) samples of -1 to 1 to `path`, whose name needs no ending, with `metadata` as tags."""
    container_format, codec, sample_format, bit_rate = _CODECS[format]
    samples = np.clip(waveform, -1.0, 1.0)
    if sample_format == "s16":
        samples = np.round(samples * 32_767).astype(np.int16)
    packed = not sample_format.endswith("p")
    with path.open("wb") as file, av.open(file, "w", format=container_format, options={"fflags": "+bitexact"}) as out:
        out.metadata.update(metadata)
        stream = cast(av.AudioStream, out.add_stream(codec, rate=sample_rate, layout="stereo", format=sample_format))
        stream.codec_context.options = {"flags": "+bitexact", "compression_level": "7"}
        if bit_rate:
            stream.bit_rate = bit_rate
        for start in range(0, samples.shape[1], _BLOCK):
            block = samples[:, start : start + _BLOCK]
            block = block.T.reshape(1, -1) if packed else block
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format=sample_format, layout="stereo")
            frame.sample_rate, frame.pts = sample_rate, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
