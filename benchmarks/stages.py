"""Our path taken apart: CPU milliseconds per track of each part, and the floor under all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soxr
import torch

from benchmarks.tracks import SAMPLE_RATE, BenchTrack
from benchmarks.work import parts_in, plan_rows, run_facts, untrained
from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.audio.logmel import LogMel
from tagfleet.audio.reader import AudioReader
from tagfleet.audio.stretch import MARGIN_S
from tagfleet.fleet.stages import Listening, Tagging
from tagfleet.store.objects import Storage
from tagfleet.store.parts import write_part

LIMITS = DecodeLimits()


def take_apart(root: Storage, tracks: Sequence[BenchTrack]) -> dict[str, Any]:
    """Per format and part: CPU ms per track. `mix` is what decode_clips does beside decoding and resampling.

    All in this process: what the worker pays for a decoder of its own is in (b) and not here.
    """
    torch.set_num_threads(1)
    tagger = untrained(root)
    log_mel_of = LogMel(tagger.audio.log_mel)
    listening = Listening(root=root, audio=tagger.audio, limits=LIMITS)
    tagging = Tagging(root, run_facts(tagger), last=True, listening=listening)
    waveforms, _ = _decoded(tracks[0], tagger.audio)
    log_mel = log_mel_of(torch.from_numpy(waveforms)).numpy()
    mel_ms = _ms(lambda: log_mel_of(torch.from_numpy(waveforms)), 10)
    network_ms = _ms(lambda: tagger.tag(log_mel), 10)
    (part,) = parts_in(tagging(plan_rows(tracks)))
    rows = pq.read_table(root.uri(f"predictions/{part.path}"), partitioning=None)
    write_ms = _ms(lambda: write_part(root, rows, part), 3) / len(tracks)
    resample_ms = _ms(lambda: _resample(tagger.audio, len(waveforms)), 10)
    parts = {}
    for name in dict.fromkeys(track.format for track in tracks):
        some = [track for track in tracks if track.format == name]
        decode_ms = _ms(lambda some=some: [_floor(track, tagger.audio) for track in some], 3) / len(some)
        clips_ms = _ms(lambda some=some: [_decoded(track, tagger.audio) for track in some], 3) / len(some)
        parts[name] = {
            "decode": decode_ms,
            "mix": clips_ms - decode_ms - resample_ms,
            "resample": resample_ms,
            "mel": mel_ms,
            "network": network_ms,
            "write": write_ms,
        }
    return {"parts_ms": parts}


def _floor(track: BenchTrack, audio: AudioConfig) -> None:
    """FFmpeg's decoder, opened and guarded as ours, over the stretches of the clips; its frames are thrown away."""
    with Path(track.path).open("rb") as source, AudioReader(source, LIMITS) as reader:
        for start_s in plan_clips(reader.duration_s(), audio.n_clips, audio.clip_s):
            end = round((start_s + audio.clip_s + MARGIN_S) * reader.sample_rate)
            for place, frame in reader.frames(start_s - MARGIN_S):
                if place + frame.samples >= end:
                    break


def _decoded(track: BenchTrack, audio: AudioConfig) -> tuple[np.ndarray, float]:
    with Path(track.path).open("rb") as source:
        return decode_clips(source, audio, LIMITS)


def _resample(audio: AudioConfig, n_clips: int) -> None:
    """soxr alone, on as much mono sound as the clips of a track and their margins."""
    noise = np.random.default_rng(0).standard_normal(int((audio.clip_s + 2 * MARGIN_S) * SAMPLE_RATE), np.float32)
    for _ in range(n_clips):
        soxr.resample(noise, SAMPLE_RATE, audio.log_mel.sample_rate, quality="HQ")


def _ms(work: Callable[[], object], n_times: int) -> float:
    """CPU milliseconds of one call, the median of `n_times` after a first one."""
    times = []
    for _ in range(n_times + 1):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times[1:]))
