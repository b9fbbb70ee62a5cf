"""Decoding in a process of its own: what hostile audio breaks, hangs or bloats is that process, and costs one track.

The child is trusted with nothing: what it says is checked as anything from outside, and is never unpickled.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import tagfleet
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import DecodeError, FetchError, JobError, TrackError
from tagfleet.store.config import StorageConfig

CHILD = "tagfleet.fleet.decoder_child"
START_S = 120.0
"""Longest that a child may take to start."""
_MOST_JSON = 64 << 10
_MOST_SAID = 1 << 20
_MEMORY_EXIT = 17
_F_SETPIPE_SZ = 1031
_REASON = re.compile(r"[a-z][a-z-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What became of one track."""

    fingerprint: str | None = None
    """Of its bytes; known once the file was open, also when the decoder then died of it."""
    waveforms: NDArray[np.float32] | None = None
    """(n_clips, clip_samples); None when it failed."""
    duration_s: float | None = None
    error: TrackError | None = None
    n_bytes: int = 0
    """Fetched, in so many requests."""
    n_requests: int = 0
    n_retries: int = 0
    cpu_s: float = 0.0
    """Of the child."""


class Decoder:
    """Holds the child process, starts another when it has died; a context manager. One track at a time.

    A track that kills its decoder is tried once more, in a fresh one: another process, or the system short of memory,
    may have done it.
    """

    def __init__(self, audio: AudioConfig, limits: DecodeLimits, storage: StorageConfig, *, child: str = CHILD) -> None:
        self.audio, self.limits, self.storage = audio, limits, storage
        self.n_restarts = 0
        self._child_module = child
        self._child: _Child | None = None
        self._peak_mb = 0.0

    def listen(self, uri: str) -> Heard:
        """Fetch and decode one track; never raises for what the track is.

        Raises JobError when no decoder can be started at all.
        """
        heard = self._listen_once(uri)
        if isinstance(heard, _Died) and heard.by_itself:
            heard = self._listen_once(uri)
        return heard.as_heard() if isinstance(heard, _Died) else heard

    def _listen_once(self, uri: str) -> Heard | _Died:
        child = self._child = self._child or self._start()
        fingerprint: str | None = None
        deadline = time.monotonic() + self.limits.max_track_s
        try:
            child.ask({"uri": uri})
            told = child.told(deadline)
            if "opened" in told:
                fingerprint = _text(told["opened"], 300)
                told = child.told(deadline)
            return self._heard(told, fingerprint, child, deadline)
        except _TimedOut:
            self.close()
            return _Died(fingerprint=fingerprint, reason="timeout", detail=f"not within {self.limits.max_track_s:g} s")
        except (_Ended, OSError, ValueError, TypeError, KeyError) as error:
            self.n_restarts += 1
            return self._died(child, fingerprint, error)

    def _heard(self, told: dict[str, Any], fingerprint: str | None, child: _Child, deadline: float) -> Heard:
        costs: dict[str, Any] = {name: _count(told.get(name, 0)) for name in ("n_bytes", "n_requests", "n_retries")}
        cpu_s = _seconds(told["cpu_s"])
        if "n_clips" not in told:
            make = {"fetch": FetchError, "decode": DecodeError}[told["stage"]]
            error = make(_reason(told["reason"]), _text(told["message"], 2000))
            return Heard(fingerprint=fingerprint, error=error, cpu_s=cpu_s, **costs)
        n_clips, duration_s = _count(told["n_clips"]), _seconds(told["duration_s"])
        most = self.audio.n_clips or math.ceil(self.limits.max_duration_s / self.audio.clip_s) + 1
        if not 1 <= n_clips <= most:
            raise ValueError(f"{n_clips} clips")
        samples = child.samples(n_clips * self.audio.clip_samples, deadline)
        waveforms = samples.reshape(n_clips, self.audio.clip_samples)
        return Heard(fingerprint=fingerprint, waveforms=waveforms, duration_s=duration_s, cpu_s=cpu_s, **costs)

    def _died(self, child: _Child, fingerprint: str | None, error: Exception) -> _Died:
        code = child.end()
        self._forget()
        if code in (_MEMORY_EXIT, -signal.SIGKILL):
            # Nobody but the system, short of memory, kills a decoder; by the child's own limit it ends by itself.
            what = f"more than {self.limits.max_memory_mb} MiB" if code == _MEMORY_EXIT else "killed by the system"
            return _Died(fingerprint=fingerprint, reason="memory", detail=what, by_itself=code != _MEMORY_EXIT)
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if not isinstance(error, _Ended):
            how = f"it answered nonsense: {type(error).__name__}"
        how += child.last_words
        return _Died(fingerprint=fingerprint, reason="decoder-crash", detail=how, by_itself=True)

    def _start(self) -> _Child:
        child = _Child(self._child_module)
        settings = {
            "audio": self.audio.model_dump(mode="json"),
            "limits": self.limits.model_dump(mode="json"),
            "storage": self.storage.model_dump(mode="json"),
        }
        try:
            child.ask(settings)
            child.told(time.monotonic() + START_S)
        except (_Ended, _TimedOut, OSError, ValueError) as error:
            child.end()
            raise JobError(
                f"no decoder could be started on this machine: {type(error).__name__}{child.last_words}",
                hint=f"try it by hand: {sys.executable} -m {self._child_module}",
            ) from error
        return child

    @property
    def peak_memory_mb(self) -> float:
        """Highest resident memory of any child so far, in MiB."""
        if self._child is not None:
            self._peak_mb = max(self._peak_mb, self._child.peak_memory_mb())
        return self._peak_mb

    def close(self) -> None:
        """End the child; the next `listen` starts another."""
        if self._child is not None:
            _ = self.peak_memory_mb
            self._child.end()
            self._forget()

    def _forget(self) -> None:
        self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class _Died:
    """A decoder that did not live to answer."""

    fingerprint: str | None
    reason: str
    detail: str
    by_itself: bool = False
    """Whether another try may do better."""

    def as_heard(self) -> Heard:
        if self.reason == "timeout" and self.fingerprint is None:
            return Heard(error=FetchError("timeout", f"its bytes came {self.detail}"))
        messages = {
            "timeout": f"decoding took too long: {self.detail}",
            "memory": f"decoding took too much memory: {self.detail}",
            "decoder-crash": f"the decoder died: {self.detail}",
        }
        return Heard(fingerprint=self.fingerprint, error=DecodeError(self.reason, messages[self.reason]))


class _TimedOut(Exception):
    """The child said nothing in time."""


class _Ended(Exception):
    """The child is gone."""


class _Child:
    """One process and the pipes to it."""

    def __init__(self, module: str) -> None:
        # Code that a submission brought lies where this process found it, not where Python would look.
        here = str(Path(tagfleet.__file__).parents[1])
        paths = [here, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        assert self._process.stdin and self._process.stdout, "both are pipes"
        self._asks, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError, ImportError):
            import fcntl

            fcntl.fcntl(self._answers.fileno(), _F_SETPIPE_SZ, 1 << 20)  # fewer turns between the two processes
        os.set_blocking(self._answers.fileno(), False)
        self.last_words = ""
        """What it printed last, once it has ended."""
        self._poll = select.poll()
        self._poll.register(self._answers.fileno(), select.POLLIN | select.POLLHUP)

    def ask(self, what: dict[str, Any]) -> None:
        """Send one line."""
        if os.fstat(self._said.fileno()).st_size > _MOST_SAID:
            self._said.seek(0)  # the child writes by the same position
            self._said.truncate()
        self._asks.write(json.dumps(what).encode() + b"\n")
        self._asks.flush()

    def told(self, deadline: float) -> dict[str, Any]:
        """The next document."""
        length = int.from_bytes(self._read(4, deadline), "little")
        if length > _MOST_JSON:
            raise ValueError("too long")
        told = json.loads(bytes(self._read(length, deadline)))
        if not isinstance(told, dict):
            raise ValueError("no object")
        return told

    def samples(self, n: int, deadline: float) -> NDArray[np.float32]:
        """The next `n` samples."""
        return np.frombuffer(self._read(4 * n, deadline), "<f4")

    def _read(self, n: int, deadline: float) -> bytearray:
        data = bytearray(n)
        view = memoryview(data)
        handle = self._answers.fileno()
        while view:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._poll.poll(1000 * left_s):
                raise _TimedOut
            try:
                n_read = os.readv(handle, [view])
            except BlockingIOError:
                continue
            if n_read == 0:
                raise _Ended
            view = view[n_read:]
        return data

    def end(self) -> int | None:
        """The exit code, after it was killed if it still ran; negative: the signal."""
        with suppress(OSError):
            self._asks.close()  # an idle one ends by that
        try:
            self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        with self._said:
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 2000))
            lines = self._said.read().decode(errors="replace").strip().splitlines()
        self.last_words = f" ({_text(lines[-1], 200)})" if lines else ""
        return self._process.returncode

    def peak_memory_mb(self) -> float:
        """Highest resident memory so far; 0 where the system does not say."""
        with suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) / 1024
        return 0.0


def _text(value: object, most: int) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return "".join(c if c.isprintable() else "\ufffd" for c in value[:most])


def _reason(value: object) -> str:
    text = _text(value, 40)
    if not _REASON.fullmatch(text):
        raise ValueError("no reason")
    return text


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**60:
        raise ValueError("no count")
    return value


def _seconds(value: object) -> float:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    if not 0 <= number < math.inf:
        raise ValueError("no number of seconds")
    return number
