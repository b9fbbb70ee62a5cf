"""Clips out of a stored whole-track log-mel: drawn at random for training, evenly spaced for validation and test."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import AudioConfig

FLOOR_DB = -100.0
"""What LogMel gives for silence: a clip is filled up with it, and no gain goes below."""


def read_log_mel(log_mel: pa.BinaryScalar, n_mels: int) -> NDArray[np.float16]:
    """A cell of FEATURES.log_mel as (n_frames, n_mels), without a copy."""
    return np.frombuffer(log_mel.as_buffer(), dtype=np.float16).reshape(-1, n_mels)


def drawn_clips(
    log_mel: NDArray[np.float16], n_clips: int, clip_frames: int, max_gain_db: float, seed: int
) -> NDArray[np.float32]:
    """Clips from anywhere in the track, each with its own gain, as (n_clips, n_mels, clip_frames) dB."""
    draw = np.random.default_rng(seed)
    starts = draw.integers(0, max(1, len(log_mel) - clip_frames + 1), size=n_clips)
    gains = draw.uniform(-max_gain_db, max_gain_db, size=n_clips).astype(np.float32)
    clips = _cut(log_mel, [int(start) for start in starts], clip_frames)
    return np.asarray(np.maximum(clips + gains[:, None, None], FLOOR_DB), dtype=np.float32)


def planned_clips(log_mel: NDArray[np.float16], duration_s: float, audio: AudioConfig) -> NDArray[np.float32]:
    """The clips that tagging would take, to the nearest frame, as (n_clips, n_mels, clip_frames) dB."""
    kept_s = min(duration_s, len(log_mel) * audio.log_mel.hop_length / audio.log_mel.sample_rate)
    starts_s = plan_clips(kept_s, audio.n_clips, audio.clip_s)
    last = max(0, len(log_mel) - audio.clip_frames)
    frames_per_s = audio.log_mel.sample_rate / audio.log_mel.hop_length
    return _cut(log_mel, [min(last, round(start_s * frames_per_s)) for start_s in starts_s], audio.clip_frames)


def _cut(log_mel: NDArray[np.float16], starts: list[int], clip_frames: int) -> NDArray[np.float32]:
    clips = np.full((len(starts), log_mel.shape[1], clip_frames), FLOOR_DB, dtype=np.float32)
    for clip, start in zip(clips, starts, strict=True):
        piece = log_mel[start : start + clip_frames]
        clip[:, : len(piece)] = piece.T
    return clips


def stable_seed(*parts: object) -> int:
    """The same 63-bit number for the same parts, in every process and on every machine."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
