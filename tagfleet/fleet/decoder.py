"""STAND-IN."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tagfleet.audio.decode import decode_clips
from tagfleet.errors import TrackError
from tagfleet.store.sources import open_uri


@dataclass(frozen=True, kw_only=True)
class Heard:
    fingerprint: str | None
    waveforms: Any
    duration_s: float | None
    error: TrackError | None
    n_bytes: int = 0
    n_requests: int = 0
    n_retries: int = 0
    cpu_s: float = 0.0


class Decoder:
    peak_memory_mb = 0.0

    def __init__(self, audio, limits, storage):
        self.a = (audio, limits, storage)

    def listen(self, uri):
        audio, limits, storage = self.a
        t = time.process_time()
        fp = None
        try:
            with open_uri(uri, storage, max_bytes=limits.max_size_bytes) as source:
                fp = source.fingerprint
                w, d = decode_clips(source.file, audio, limits)
        except TrackError as error:
            return Heard(fingerprint=fp, waveforms=None, duration_s=None, error=error, cpu_s=time.process_time() - t)
        return Heard(fingerprint=fp, waveforms=w, duration_s=d, error=None, cpu_s=time.process_time() - t)
