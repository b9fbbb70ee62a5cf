"""What tags and costs change where numbers are made coarser on the way: python -m benchmarks.rounding ROOT MODEL.

Resamplers: soxr's other qualities against HQ, on tracks that are resampled. Between the stages: what is sent per track,
as bytes of Arrow IPC, and the CPU time to write and to read it. Each against the logits of log-mels not rounded
to float16 (LogMel does that since it was measured here), in one process and one thread, all ways in turn on every track
(the catalogue of ROOT, or `--audio FOLDER`); medians over tracks.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import soxr
import torch
from numpy.typing import NDArray

from benchmarks.agreement import Agreement, decoded, table, track_uris
from tagfleet.audio.logmel import LogMel
from tagfleet.fleet.taggers import load_tagger
from tagfleet.store.objects import Storage

QUALITIES = ("QQ", "LQ", "MQ", "VHQ")
DB_STEPS = 256
"""Steps of an int16 per dB: -128 to 128 dB, which hold all that full-scale audio gives."""
BYTE_STEPS = 1.6
"""Steps of a byte per dB, from -100 dB on: up to 59 dB."""


def as_is(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x


def to_int16(x: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(x * DB_STEPS), -32768, 32767).astype(np.int16)


def to_bytes(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint((x + 100) * BYTE_STEPS), 0, 255).astype(np.uint8)


LOG_MELS: dict[str, tuple[Callable, Callable]] = {
    "log-mel, float32": (as_is, as_is),
    "log-mel, float16": (lambda x: x.astype(np.float16), lambda y: y.astype(np.float32)),
    "log-mel, int16 of 1/256 dB": (to_int16, lambda y: y.astype(np.float32) / DB_STEPS),
    "log-mel, bytes of 1/1.6 dB": (to_bytes, lambda y: y.astype(np.float32) / np.float32(BYTE_STEPS) - 100),
}
WAVEFORMS: dict[str, tuple[Callable, Callable]] = {
    "waveform, float32": (as_is, as_is),
    "waveform, int16": (
        lambda x: np.clip(np.rint(x * 32767), -32768, 32767).astype(np.int16),
        lambda y: y.astype(np.float32) / 32767,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounding", description=__doc__)
    parser.add_argument("root")
    parser.add_argument("model")
    parser.add_argument("--audio", type=Path, action="append", default=[])
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = Storage(options.root)
    tagger = load_tagger(root, options.model)[1]
    log_mel_of = LogMel(tagger.audio.log_mel)
    resampled = {quality: Agreement(tagger) for quality in QUALITIES}
    sent = {name: Agreement(tagger) for name in LOG_MELS | WAVEFORMS}
    ms: dict[str, list[float]] = {name: [] for name in sent}
    n_bytes: dict[str, list[int]] = {name: [] for name in sent}
    for uri in track_uris(root, options.audio)[: options.limit]:
        waveforms = decoded(uri, root, tagger)
        if waveforms is None:
            continue
        log_mel = unrounded(log_mel_of, waveforms)
        expected = tagger.clip_logits(log_mel)
        for ways, values in ((LOG_MELS, log_mel), (WAVEFORMS, waveforms)):
            for name, (encode, decode) in ways.items():
                before = time.process_time()
                data = write(encode(values))
                back = decode(read(data)).reshape(values.shape)
                ms[name].append(1000 * (time.process_time() - before))
                n_bytes[name].append(len(data) // len(values))
                heard = back if ways is LOG_MELS else unrounded(log_mel_of, back)
                sent[name].add(expected, tagger.clip_logits(heard))
        for quality, found in resampled.items():
            other = with_quality(quality, uri, root, tagger)
            if other is None or np.array_equal(other, waveforms):  # not resampled
                continue
            found.add(expected, tagger.clip_logits(unrounded(log_mel_of, other)))
    print(f"{sent['log-mel, float32'].n_tracks} tracks; load {os.getloadavg()[0]:.1f}\n")
    rows = [
        [name, f"{statistics.median(n_bytes[name]):,.0f}", f"{statistics.median(ms[name]):.2f}", *found.cells()]
        for name, found in sent.items()
    ]
    print(table(["sent", "bytes per clip", "CPU ms to write and read", *Agreement.heads()], rows))
    cost = resample_ms()
    rows = [
        [quality, f"{cost[quality]:.2f}", f"{cost[quality] / cost['HQ']:.2f}", str(found.n_tracks), *found.cells()]
        for quality, found in resampled.items()
    ]
    print(f"\nHQ: {cost['HQ']:.2f} ms\n")
    print(table(["soxr", "ms per 5 clips", "of HQ", "tracks", *Agreement.heads()], rows))


def unrounded(log_mel_of: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    with mock.patch.object(torch.Tensor, "half", lambda x: x):
        return log_mel_of(torch.from_numpy(waveforms.copy())).numpy()


def write(values: NDArray) -> pa.Buffer:
    """As a list column of one row, which is what a block of the stream holds per track."""
    flat = pa.array(values.ravel())
    column = pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat)
    batch = pa.record_batch([column], ["log_mel"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def read(data: pa.Buffer) -> NDArray:
    with pa.ipc.open_stream(data) as stream:
        return stream.read_next_batch().column(0).values.to_numpy()


def with_quality(quality: str, uri: str, root: Storage, tagger) -> NDArray[np.float32] | None:
    stream = soxr.ResampleStream
    with mock.patch("soxr.ResampleStream", lambda *a, **k: stream(*a, **(k | {"quality": quality}))):
        return decoded(uri, root, tagger)


def resample_ms() -> dict[str, float]:
    """CPU ms of the five clips of a track at 44.1 kHz, the qualities in turn."""
    noise = np.random.default_rng(0).standard_normal(int(4.3 * 44_100), np.float32)
    times: dict[str, list[float]] = {quality: [] for quality in ("HQ", *QUALITIES)}
    for _ in range(30):
        for quality, ms in times.items():
            before = time.process_time()
            for _ in range(5):
                soxr.resample(noise, 44_100, 16_000, quality=quality)
            ms.append(1000 * (time.process_time() - before))
    return {quality: statistics.median(ms) for quality, ms in times.items()}


if __name__ == "__main__":
    main()
