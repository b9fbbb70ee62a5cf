"""What Ray does not tell its driver: that its head is gone, or its disk full.

A driver whose head is gone is ended by Ray after a minute, without a word; one whose workers find no room for their
logs starts them again and again, for ever. Here a thread looks from time to time, and ends the wait.
"""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tagfleet.errors import JobError

PATIENCE_S = 45.0
"""Shorter than Ray's own, which is a minute."""
_PAUSE_S = 5.0
_FULL_BYTES = 16 << 20


@dataclass(frozen=True)
class Look:
    """Something that must be well; what is said and advised when it is not."""

    well: Callable[[], bool]
    message: str
    hint: str


@contextmanager
def watched(looks: Sequence[Look], *, patience_s: float = PATIENCE_S, pause_s: float = _PAUSE_S) -> Iterator[None]:
    """Raise JobError out of the body when one of `looks` is not well for `patience_s`.

    The body is interrupted by a signal, SIGUSR1: that wakes a thread that waits. Signals reach the main thread; in
    another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(looks, patience_s, pause_s)
    thread = threading.Thread(target=watch.run, name="ray-health", daemon=True)
    before = signal.signal(signal.SIGUSR1, _interrupt)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.found is None:
            raise
        raise JobError(watch.found.message, hint=watch.found.hint) from None
    finally:
        watch.over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def _interrupt(number: int, frame: object) -> None:
    # Ray's native waits end for this exception only.
    raise KeyboardInterrupt


@dataclass
class _Watch:
    looks: Sequence[Look]
    patience_s: float
    pause_s: float
    over: threading.Event = field(default_factory=threading.Event)
    found: Look | None = None

    def run(self) -> None:
        last_well = [time.monotonic()] * len(self.looks)
        while not self.over.wait(self.pause_s):
            for n, look in enumerate(self.looks):
                if look.well():
                    last_well[n] = time.monotonic()
                elif time.monotonic() - last_well[n] >= self.patience_s and not self.over.is_set():
                    self.found = look
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                    return


def head_answers(address: str) -> Look:
    """Ray's head (its GCS) takes connections at `address`, host:port."""
    return Look(
        partial(_takes_connections, address),
        f"Ray's head at {address} has not answered for {PATIENCE_S:g} s",
        "start again when it is back: what is finished is kept",
    )


def has_room(folder: Path) -> Look:
    """Ray's own folder is on a disk that is not full."""
    return Look(
        partial(_has_room, folder),
        f"the disk of {folder} has been full for {PATIENCE_S:g} s, and Ray cannot work without it",
        "make room, or name another folder with RAY_TMPDIR; what is finished is kept",
    )


def _takes_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False


def _has_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free >= _FULL_BYTES
    except OSError:
        return True  # another matter than a full disk
