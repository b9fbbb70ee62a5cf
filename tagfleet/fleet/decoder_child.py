"""The program of a decoder process: fetches and decodes what its parent names, confined as far as the system can.

python -m tagfleet.fleet.decoder_child CHANNEL LIFELINE    file descriptors; see `tagfleet.fleet.decoder_process`
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.errors import DecodeError, TrackError
from tagfleet.fleet.decoder_messages import URI_ERRORS, Channel, Gone, Opened, Orders, Outcome, Ready, failure
from tagfleet.store.sources import ReadCounts, open_uri

MAX_OPEN_FILES = 64
GRACE = 0.95
"""Share of the time of a track after which reading gives up by itself, before the parent kills."""

_PR_SET_NO_NEW_PRIVS = 38


def main(channel_fd: int, lifeline_fd: int) -> None:
    """Answer until the parent has gone."""
    if sys.platform == "linux":
        die_with_parent(lifeline_fd)
    channel = Channel(socket.socket(fileno=channel_fd))
    with contextlib.suppress(Gone):
        orders = Orders.model_validate_json(channel.receive(), strict=True)
        confine(orders.limits)
        channel.send(Ready(cpu_s=time.process_time()).model_dump_json().encode())
        while True:
            answer(channel.receive().decode(errors=URI_ERRORS), orders, channel)


def answer(uri: str, orders: Orders, channel: Channel) -> None:
    """Fetch and decode one track and tell of it. Any error but TrackError and MemoryError ends this process."""
    limits = orders.limits
    began, cpu_began = time.monotonic(), time.process_time()
    deadline = began + GRACE * limits.max_track_s
    counts, waveforms = ReadCounts(), None
    ending: dict[str, Any]
    try:
        with open_uri(uri, orders.storage, max_bytes=limits.max_size_bytes, deadline=deadline) as source:
            counts = source.counts
            channel.send(Opened(fingerprint=source.fingerprint).model_dump_json().encode())
            waveforms, duration_s = decode_clips(source.file, orders.audio, limits)
        ending = {"n_clips": len(waveforms), "duration_s": duration_s}
    except MemoryError:
        ending = failure(DecodeError("memory", f"more than {limits.max_memory_mb} MiB (limits.max_memory_mb)"))
    except TrackError as error:
        worked_s, waited_s = time.process_time() - cpu_began, time.monotonic() - began
        if error.reason == "timeout" and worked_s > waited_s / 2:  # nobody else was slow
            error = DecodeError("timeout", f"not decoded in {waited_s:.0f} s (limits.max_track_s)")
        ending = failure(error)
    outcome = Outcome(
        **ending,
        n_bytes=counts.n_bytes,
        n_requests=counts.n_requests,
        n_retries=counts.n_retries,
        cpu_s=time.process_time(),
    )
    channel.send(outcome.model_dump_json().encode(), None if waveforms is None else waveforms.data.cast("B"))


def die_with_parent(lifeline_fd: int) -> None:
    """Have the kernel end this process, also amid native code, when the other end of the pipe is closed.

    SIGIO does it, on Linux; elsewhere the process ends when it next waits for a track.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline_fd], [], [], 0)[0]:  # closed before it was watched
        sys.exit(0)


def confine(limits: DecodeLimits) -> None:
    """Take from this process what it does not need. What a system other than Linux cannot do is left out."""
    with contextlib.nullcontext() if sys.platform == "linux" else contextlib.suppress(OSError, ValueError):
        # Not 0: where the kernel hands a core dump to a program it does not heed 0, but 1.
        _limit(resource.RLIMIT_CORE, 1)
        _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
        # A large object from a server without ranges is kept on disk.
        _limit(resource.RLIMIT_FSIZE, limits.max_size_bytes)
    if sys.platform == "linux":
        _limit_memory(limits.max_memory_mb << 20)
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
        with contextlib.suppress(OSError):  # some containers do not allow it
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # first to go where memory ends


def _limit_memory(n_bytes: int) -> None:
    """Private memory that may be allocated from now on; the address space would count what libraries only map."""
    data = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    _limit(resource.RLIMIT_DATA, data * resource.getpagesize() + n_bytes)


def _limit(which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (value, value))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
