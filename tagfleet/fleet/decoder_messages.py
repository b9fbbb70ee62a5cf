"""What a decoder process and its parent say to each other: frames of stated length over a socket.

parent -> child    Orders, once; then per track its uri
child -> parent    Ready, once; then per track Opened if it could be, Outcome, and the waveforms as raw float32

The child runs native code on hostile bytes, so that what comes from it may be anything: nothing is unpickled, and every
frame is bounded and checked before it is believed.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.reasons import REASONS
from tagfleet.config import Section
from tagfleet.errors import DecodeError, FetchError, TrackError
from tagfleet.store.config import StorageConfig

MAX_FRAME_BYTES = 1 << 16
MAX_AMPLITUDE = 1e6
"""What `tagfleet.audio.stretch` lets through, without its imports."""

_MAX_DETAIL = 1000
_LENGTH = struct.Struct("!I")

URI_ERRORS = "surrogatepass"
"""A uri may hold bytes of a file name that are no Unicode."""


class Orders(Section):
    """What a decoder needs to know of all tracks."""

    audio: AudioConfig
    limits: DecodeLimits
    storage: StorageConfig

    @property
    def most_clips(self) -> int:
        """More than any track gives."""
        return self.audio.n_clips or 1 + int(self.limits.max_duration_s / self.audio.clip_s)


class Ready(Section):
    """The child has its orders, and has confined itself."""

    cpu_s: float = Field(ge=0, allow_inf_nan=False)
    """CPU time of the child so far."""


class Opened(Section):
    """The bytes of a track are there, and are of this version."""

    fingerprint: str = Field(max_length=500)


class Outcome(Section):
    """How one track ended: `stage` None with waveforms behind it, or with a reason."""

    stage: Literal["fetch", "decode"] | None = None
    reason: str = Field(default="", max_length=50)
    detail: str = Field(default="", max_length=_MAX_DETAIL)
    n_clips: int = Field(default=0, ge=0)
    duration_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    n_bytes: int = Field(default=0, ge=0, lt=1 << 60)
    n_requests: int = Field(default=0, ge=0, lt=1 << 30)
    n_retries: int = Field(default=0, ge=0, lt=1 << 30)
    cpu_s: float = Field(ge=0, allow_inf_nan=False)
    """CPU time of the child so far."""


class Gone(Exception):
    """The other process has ended, or was never there."""


class Channel:
    """One end of the socket. Methods raise Gone where the other has ended."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, frame: bytes, body: memoryview | None = None, *, deadline: float = math.inf) -> None:
        """`frame` with its length before it, and `body` as it is. TimeoutError at `deadline`, of `time.monotonic`."""
        try:
            self._end.settimeout(_left_s(deadline))
            self._end.sendall(_LENGTH.pack(len(frame)) + frame)
            if body is not None:
                self._end.sendall(body)
        except ConnectionError as error:
            raise Gone from error

    def receive(self, *, deadline: float = math.inf) -> bytes:
        """The next frame. ValueError when it is longer than any; TimeoutError at `deadline`."""
        length = bytearray(_LENGTH.size)
        self.receive_into(memoryview(length), deadline=deadline)
        (n_bytes,) = _LENGTH.unpack(length)
        if n_bytes > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {n_bytes} bytes")
        frame = bytearray(n_bytes)
        self.receive_into(memoryview(frame), deadline=deadline)
        return bytes(frame)

    def receive_into(self, buffer: memoryview, *, deadline: float = math.inf) -> None:
        """Fill `buffer`; TimeoutError at `deadline`."""
        place = 0
        while place < len(buffer):
            self._end.settimeout(_left_s(deadline))
            try:
                n_bytes = self._end.recv_into(buffer[place:])
            except ConnectionError as error:
                raise Gone from error
            if n_bytes == 0:
                raise Gone
            place += n_bytes

    def close(self) -> None:
        """The other end sees it."""
        self._end.close()


Answer = Opened | Outcome
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


def receive_answer(channel: Channel, deadline: float) -> Answer:
    """The next frame from a child that has a track. ValueError for what is none of the two."""
    return _ANSWER.validate_json(channel.receive(deadline=deadline), strict=True)


def receive_waveforms(channel: Channel, outcome: Outcome, orders: Orders, deadline: float) -> NDArray[np.float32]:
    """(n_clips, clip_samples) of a track that was decoded. ValueError for what no decoder of ours gives."""
    if not 1 <= outcome.n_clips <= orders.most_clips or outcome.duration_s is None or outcome.reason:
        raise ValueError(f"an outcome of {outcome.n_clips} clips, {outcome.duration_s} s and {outcome.reason!r}")
    waveforms = np.empty((outcome.n_clips, orders.audio.clip_samples), np.float32)
    channel.receive_into(waveforms.data.cast("B"), deadline=deadline)
    peak = max(float(waveforms.max()), -float(waveforms.min()))
    if not peak <= MAX_AMPLITUDE:  # true for NaN
        raise ValueError(f"waveforms of {peak}")
    return waveforms


def error_of(outcome: Outcome) -> TrackError | None:
    """What became of the track, if not waveforms. ValueError for a reason that is none of ours."""
    if outcome.stage is None:
        return None
    kind, reasons = (FetchError, FetchError.reasons) if outcome.stage == "fetch" else (DecodeError, REASONS)
    if outcome.reason not in reasons:
        raise ValueError(f"an unknown reason {plain(outcome.reason, 50)!r}")
    return kind(outcome.reason, plain(outcome.detail, _MAX_DETAIL))


def failure(error: TrackError) -> dict[str, str]:
    """`error` as the fields of an Outcome."""
    return {"stage": error.stage, "reason": error.reason, "detail": plain(error.message, _MAX_DETAIL)}


def plain(text: str, n_most: int) -> str:
    """At most so many characters, on one line; what does not print is escaped: text of hostile files reaches tables.

    >>> plain("tab\\t 夜 \\udcff\\x1b[2J", 100)
    'tab\\\\t 夜 \\\\udcff\\\\x1b[2J'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:n_most])
    return shown[:n_most]


def _left_s(deadline: float) -> float | None:
    if deadline == math.inf:
        return None
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
