"""Why bytes are no audio that we take. Imports nothing: plans and reports need the words, not the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "no bytes, or no samples",
        "unsupported-container": "not WAV, W64, AIFF, FLAC, Ogg, MP4/M4A, MP3 or ADTS AAC",
        "unsupported-codec": "FFmpeg has no decoder for what is in the container",
        "no-audio-stream": "the container holds no audio",
        "corrupt": "the header cannot be read, or too many packets cannot be decoded",
        "truncated": "much less audio than the header says",
        "too-large": "more bytes than DecodeLimits.max_size_bytes",
        "too-long": "longer than DecodeLimits.max_duration_s, by the header or while decoding",
        "bad-sample-rate": "outside the sample rates of DecodeLimits",
        "bad-channels": "more than DecodeLimits.max_channels",
        "changed-mid-stream": "sample rate, channels or sample format change on the way",
        "not-finite": "samples are NaN, infinite, or a million times full scale",
        "decoder-crash": "the decoder's process died of it, twice",
        "memory": "it would take more than DecodeLimits.max_memory_mb, or more than the machine had",
        "timeout": "not decoded within DecodeLimits.max_track_s",
    }
)
"""Stable codes of DecodeError, each with its meaning."""

TRANSIENT = frozenset({"timeout"})
"""Reasons that may not hold the next time: such a track is tried again by the next run, as is every one whose bytes
could not be had. The others hold until the file changes."""
