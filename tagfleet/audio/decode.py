"""From the bytes of an audio file to float32 mono at the network's sample rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.mono import Waveform
from tagfleet.audio.reader import AudioReader
from tagfleet.audio.reasons import REASONS as REASONS
from tagfleet.audio.reasons import TRANSIENT as TRANSIENT
from tagfleet.audio.stretch import read_stretch

MAX_PROBED_TAG_BYTES = 4 << 20
"""An ID3v2 tag above this size (cover art) is not read by `probe`: title and artist are None then."""

MAX_TAG_CHARACTERS = 1000
"""Title and artist end here: a tag that is repeated in a file arrives as one long text."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the header of an audio file says."""

    container: str
    """FFmpeg's name: wav, w64, aiff, flac, ogg, mov (M4A, MP4), mp3, aac (ADTS)."""
    codec: str
    sample_rate: int
    n_channels: int
    duration_s: float | None
    """None where the file does not say (ADTS, MP3 without info frame, streamed FLAC)."""
    title: str | None
    artist: str | None


def probe(source: BinaryIO, limits: DecodeLimits) -> Probe:
    """Reads the header only, and refuses with DecodeError as `decode_clips` would by it; decodes nothing.

    `source` is seekable; it is left open, at any position.
    """
    with AudioReader(source, limits, max_tag_bytes=MAX_PROBED_TAG_BYTES) as reader:
        tags = reader.tags
        return Probe(
            container=reader.container,
            codec=reader.codec,
            sample_rate=reader.sample_rate,
            n_channels=reader.n_channels,
            duration_s=reader.stored_duration_s,
            title=tags.get("title", "")[:MAX_TAG_CHARACTERS] or None,
            artist=tags.get("artist", "")[:MAX_TAG_CHARACTERS] or None,
        )


def decode_clips(source: BinaryIO, audio: AudioConfig, limits: DecodeLimits) -> tuple[Waveform, float]:
    """The clips of `plan_clips`, (n_clips, clip_samples) at `audio.log_mel.sample_rate`, and the track's seconds.

    Only the stretches that the clips need are decoded. A clip out of the middle equals the same place of the whole
    track to 1e-4 of its peak. A track shorter than one clip is padded with zeros at its end.
    Raises DecodeError with one of REASONS, and what `source` itself raises.
    """
    sample_rate, n_samples = audio.log_mel.sample_rate, audio.clip_samples
    with AudioReader(source, limits) as reader:
        duration_s = reader.duration_s()
        starts = [round(start_s * sample_rate) for start_s in plan_clips(duration_s, audio.n_clips, audio.clip_s)]
        if audio.n_clips == 0:
            track = read_stretch(reader, sample_rate)
            clips = [track[start : start + n_samples] for start in starts]
        else:
            clips = [read_stretch(reader, sample_rate, start, n_samples) for start in starts]
    return np.stack([_padded(clip, n_samples) for clip in clips]), duration_s


def decode_track(
    source: BinaryIO, audio: AudioConfig, limits: DecodeLimits, max_s: float | None = None
) -> tuple[Waveform, float]:
    """The first `max_s` seconds (None: all), (n_samples,) at `audio.log_mel.sample_rate`, and the track's seconds.

    At least one clip long, padded with zeros at its end. Raises what `decode_clips` raises.
    """
    sample_rate = audio.log_mel.sample_rate
    with AudioReader(source, limits) as reader:
        duration_s = reader.duration_s()
        n_samples = None if max_s is None else round(max_s * sample_rate)
        track = read_stretch(reader, sample_rate, n_samples=n_samples)
    return _padded(track, audio.clip_samples), duration_s


def _padded(waveform: Waveform, n_samples: int) -> Waveform:
    return np.pad(waveform, (0, max(0, n_samples - len(waveform))))
