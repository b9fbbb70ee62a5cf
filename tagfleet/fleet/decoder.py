"""Decoding in a process of its own: a track that crashes, hangs or fills the memory costs that track, and no other."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import DecodeError, FetchError, JobError, TrackError
from tagfleet.fleet.decoder_messages import (
    MAX_FRAME_BYTES,
    URI_ERRORS,
    Answer,
    Channel,
    Gone,
    Opened,
    Orders,
    error_of,
    plain,
    receive_answer,
    receive_waveforms,
)
from tagfleet.fleet.decoder_process import Death, DecoderProcess
from tagfleet.store.config import StorageConfig

CHILD = "tagfleet.fleet.decoder_child"

_TRIED_TWICE = frozenset(("decoder-crash", "memory"))
_COSTS = ("n_bytes", "n_requests", "n_retries", "cpu_s")
_N_STARTS = 2


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What became of one track: waveforms, or an error with stage and reason."""

    fingerprint: str | None = None
    """Of its bytes; None where they could not be opened. Known also where the decoder died of them."""
    waveforms: NDArray[np.float32] | None = None
    """(n_clips, clip_samples), exactly what `decode_clips` gives; None with an error."""
    duration_s: float | None = None
    error: TrackError | None = None
    n_bytes: int = 0
    """Read, or fetched from a server, as `ReadCounts` counts; 0 where the decoder died or nothing could be opened."""
    n_requests: int = 0
    n_retries: int = 0
    cpu_s: float = 0.0
    """Of the child, for this track."""


class Decoder:
    """Holds the child that fetches and decodes; a context manager. One track at a time.

    The first `listen` starts the child. It is replaced when it has died or had to be killed, and ends with this object
    or with this process at the latest.
    """

    def __init__(self, audio: AudioConfig, limits: DecodeLimits, storage: StorageConfig, *, child: str = CHILD) -> None:
        self._orders = Orders(audio=audio, limits=limits, storage=storage)
        self._module = child
        self._process: DecoderProcess | None = None
        self._channel: Channel | None = None
        self._child_cpu_s = 0.0
        self._n_started = 0
        self._peak_mb = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next `listen` starts another."""
        self._end()

    @property
    def n_restarts(self) -> int:
        """Children after the first one."""
        return max(0, self._n_started - 1)

    @property
    def pid(self) -> int | None:
        """Of the child, where there is one."""
        return self._process.pid if self._process else None

    @property
    def peak_memory_mb(self) -> float:
        """Most resident memory of any child, as seen after tracks and before kills, in MiB; 0 without /proc."""
        return max(self._peak_mb, self._process.peak_mb if self._process else 0.0)

    def listen(self, uri: str) -> Heard:
        """Fetch and decode one track; never raises for what the track is.

        A track that kills its decoder is tried once more, in a fresh one: somebody's kill, or what a track before left
        in memory, may have done it, and `decoder-crash` and `memory` are remembered. Raises JobError when no decoder
        can be started at all.
        """
        frame = uri.encode(errors=URI_ERRORS)
        if len(frame) > MAX_FRAME_BYTES:
            return Heard(error=FetchError("unsupported-uri", f"a uri of {len(frame)} bytes"))
        first = self._listen(frame)
        if first.error is None or first.error.reason not in _TRIED_TWICE:
            return first
        again = self._listen(frame)
        costs = {name: getattr(first, name) + getattr(again, name) for name in _COSTS}
        return replace(again, fingerprint=again.fingerprint or first.fingerprint, **costs)

    def _listen(self, frame: bytes) -> Heard:
        channel = self._ready()
        limit_s = self._orders.limits.max_track_s
        deadline = time.monotonic() + limit_s
        fingerprint = None
        try:
            channel.send(frame, deadline=deadline)
            answer = receive_answer(channel, deadline)
            if isinstance(answer, Opened):
                fingerprint = answer.fingerprint
                answer = receive_answer(channel, deadline)
            heard = self._heard(answer, fingerprint, channel, deadline)
        except TimeoutError:
            why = f"not within {limit_s:g} s (limits.max_track_s)"
            late = DecodeError("timeout", f"decoded {why}") if fingerprint else FetchError("timeout", f"opened {why}")
            return self._lost(fingerprint, late)
        except Gone:
            return self._lost(fingerprint, None)
        except ValueError as error:
            nonsense = f"the decoder's answer cannot be: {plain(str(error), 200)}"
            return self._lost(fingerprint, DecodeError("decoder-crash", nonsense))
        except BaseException:  # interrupted: what comes next through the channel is this track's
            self._end()
            raise
        if heard.error is not None and heard.error.reason == "memory":
            self._end()  # its memory may be what this track, or one before, left of it
        elif self._process:
            self._process.note_peak()
            self._process.drain()
        return heard

    def _heard(self, answer: Answer, fingerprint: str | None, channel: Channel, deadline: float) -> Heard:
        """What a living child says of a track. ValueError where no decoder says so."""
        if isinstance(answer, Opened) or answer.cpu_s < self._child_cpu_s:
            raise ValueError("no outcome")
        error = error_of(answer)
        waveforms = None if error else receive_waveforms(channel, answer, self._orders, deadline)
        cpu_s, self._child_cpu_s = answer.cpu_s - self._child_cpu_s, answer.cpu_s
        return Heard(
            fingerprint=fingerprint,
            waveforms=waveforms,
            duration_s=None if error else answer.duration_s,
            error=error,
            n_bytes=answer.n_bytes,
            n_requests=answer.n_requests,
            n_retries=answer.n_retries,
            cpu_s=cpu_s,
        )

    def _lost(self, fingerprint: str | None, error: TrackError | None) -> Heard:
        """A track with which the child was lost; without `error` the child died by itself."""
        before_s = self._child_cpu_s
        death = self._end(has_died=error is None)
        if error is None:
            error = DecodeError("memory" if death.out_of_memory else "decoder-crash", f"the decoder {death.how}")
        return Heard(fingerprint=fingerprint, error=error, cpu_s=max(0.0, death.cpu_s - before_s))

    def _ready(self) -> Channel:
        """The channel to a child that waits for a track."""
        for _ in range(_N_STARTS):
            if self._channel is not None:
                return self._channel
            try:
                self._process = DecoderProcess(self._orders, self._module)
                self._n_started += 1
                self._channel, self._child_cpu_s = self._process.get_ready()
            except (Gone, TimeoutError, ValueError):
                how = f"it {self._end(has_died=True).how}"
            except OSError as error:
                how = str(error)
        raise JobError(
            f"no decoder could be started on this machine: {how}", hint=f"try {sys.executable} -m {self._module}"
        )

    def _end(self, *, has_died: bool = False) -> Death:
        process, self._process, self._channel = self._process, None, None
        if process is None:
            return Death()
        death = process.end(has_died=has_died)
        self._peak_mb = max(self._peak_mb, process.peak_mb)
        return death
