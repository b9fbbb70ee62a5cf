"""The process that touches hostile bytes: `python -m tagfleet.fleet.decoder_child`, started by `fleet/decoder.py`.

Requests come on stdin, one JSON document a line: first the settings, then {"uri": …} per track. Answers go to what was
stdout: a 4-byte little-endian length, a JSON document, and behind a track's last document its samples as float32.
Imports neither torch nor ray.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.errors import FetchError, TrackError
from tagfleet.store.config import StorageConfig
from tagfleet.store.sources import open_uri

GRACE = 0.95
"""Share of the time of a track after which reading gives up by itself, before the parent kills."""
MEMORY_EXIT = 17
"""Exit code of a decoder that ran out of memory where it could not answer."""


def main() -> int:
    """Answer until the parent closes stdin."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    settings = json.loads(sys.stdin.buffer.readline())
    audio = AudioConfig.model_validate(settings["audio"])
    limits = DecodeLimits.model_validate(settings["limits"])
    storage = StorageConfig.model_validate(settings["storage"])
    _confine(limits)
    _answer(answers, {"ready": True})
    for line in sys.stdin.buffer:
        # Should the parent be gone and the decoder hang: the kernel ends it.
        signal.setitimer(signal.ITIMER_REAL, limits.max_track_s + 10)
        try:
            _listen(json.loads(line)["uri"], answers, audio, limits, storage)
        except MemoryError:
            os._exit(MEMORY_EXIT)  # nothing that needs memory can be trusted here
        except BrokenPipeError:
            return 0
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _listen(uri: str, answers: BinaryIO, audio: AudioConfig, limits: DecodeLimits, storage: StorageConfig) -> None:
    start = time.process_time()
    told: dict[str, Any] = {}
    samples: NDArray[np.float32] | None = None
    deadline = time.monotonic() + GRACE * limits.max_track_s
    counts = None
    try:
        with open_uri(uri, storage, max_bytes=limits.max_size_bytes, deadline=deadline) as source:
            counts = source.counts
            _answer(answers, {"opened": source.fingerprint})
            samples, duration_s = decode_clips(source.file, audio, limits)
        told = {"n_clips": len(samples), "duration_s": duration_s}
    except TrackError as error:
        stage = "fetch" if isinstance(error, FetchError) else "decode"
        told = {"stage": stage, "reason": error.reason, "message": error.message[:2000]}
    if counts is not None:
        told |= {"n_bytes": counts.n_bytes, "n_requests": counts.n_requests, "n_retries": counts.n_retries}
    _answer(answers, told | {"cpu_s": time.process_time() - start}, samples)


def _answer(answers: BinaryIO, told: dict[str, Any], samples: NDArray[np.float32] | None = None) -> None:
    text = json.dumps(told).encode()
    _write(answers, len(text).to_bytes(4, "little") + text)
    if samples is not None:
        _write(answers, np.ascontiguousarray(samples, "<f4").tobytes())


def _write(answers: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[answers.write(view) :]


def _confine(limits: DecodeLimits) -> None:
    """What this process may take; it starts no program, and leaves no memory image with somebody's music."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # Linux: elsewhere only the deadline holds it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (limits.max_memory_mb << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with suppress(OSError, AttributeError):
        import ctypes

        no_new_privileges = 38
        ctypes.CDLL(None).prctl(no_new_privileges, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
