"""How to come from clip to clip in a file: python -m benchmarks.seeking [--keep FOLDER] [--repeats 5].

Per format and length of track: CPU milliseconds of FFmpeg alone, its frames thrown away, and the share of the file's
bytes that were read. `seek`: as our reader does it, one seek per clip. `walk`: one seek to the first clip, then
everything up to the end of the last. `whole`: everything. In turn, in one thread; medians.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.agreement import table
from benchmarks.tracks import FORMATS, OGG, SAMPLE_RATE, encode, music
from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.reader import AudioReader
from tagfleet.audio.stretch import MARGIN_S

LIMITS = DecodeLimits()
DURATIONS_S = (30.0, 150.0, 600.0)


class Counted(io.BytesIO):
    """A file that counts the bytes that are read."""

    n_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.n_read += len(data)
        return data


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeking", description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder of the rendered files; a second call finds them there")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"load {os.getloadavg()[0]:.1f}\n")
        rows = [row for s in DURATIONS_S for row in compared(s, options.keep or Path(folder), options.repeats)]
    heads = [*("format", "track, s"), *(f"{name}, {unit}" for name in WAYS for unit in ("ms", "% of bytes"))]
    print(table(heads, rows))


def compared(duration_s: float, folder: Path, repeats: int) -> list[list[str]]:
    """A row per format."""
    folder.mkdir(parents=True, exist_ok=True)
    waveform = None
    rows = []
    for name, format in (FORMATS | OGG).items():
        path = folder / f"{name}-{duration_s:.0f}.{format.suffix}"
        if not path.exists():
            waveform = music(duration_s, seed=1) if waveform is None else waveform
            encode(waveform, format, path)
        data, cells = path.read_bytes(), [name, f"{duration_s:.0f}"]
        ms: dict[str, list[float]] = {way: [] for way in WAYS}
        share = {}
        for _ in range(repeats + 1):
            for way, decode in WAYS.items():
                source = Counted(data)
                before = time.process_time()
                decode(source, AudioConfig())
                ms[way].append(1000 * (time.process_time() - before))
                share[way] = 100 * source.n_read / len(data)
        for way in WAYS:
            cells += [f"{statistics.median(ms[way][1:]):.1f}", f"{share[way]:.0f}"]
        rows.append(cells)
    return rows


def seek(source: io.BytesIO, audio: AudioConfig) -> None:
    with AudioReader(source, LIMITS) as reader:
        for start_s in plan_clips(reader.duration_s(), audio.n_clips, audio.clip_s):
            through(reader, start_s - MARGIN_S, start_s + audio.clip_s + MARGIN_S)


def walk(source: io.BytesIO, audio: AudioConfig) -> None:
    with AudioReader(source, LIMITS) as reader:
        starts = plan_clips(reader.duration_s(), audio.n_clips, audio.clip_s)
        through(reader, starts[0] - MARGIN_S, starts[-1] + audio.clip_s + MARGIN_S)


def whole(source: io.BytesIO, audio: AudioConfig) -> None:
    with AudioReader(source, LIMITS) as reader:
        through(reader, 0.0, reader.duration_s() + 1)


def through(reader: AudioReader, start_s: float, end_s: float) -> None:
    for place, frame in reader.frames(start_s):
        if place + frame.samples >= end_s * SAMPLE_RATE:
            break


WAYS: dict[str, Callable[[io.BytesIO, AudioConfig], None]] = {"seek": seek, "walk": walk, "whole": whole}


if __name__ == "__main__":
    main()
