"""A decoder process, seen from its parent: started, watched, ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import tagfleet
from tagfleet.fleet.decoder_messages import Channel, Orders, Ready, plain

START_S = 120.0
"""Longest that a process may take until it is ready."""

_PACKAGE_ROOT = str(Path(tagfleet.__file__).resolve().parents[1])
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_KEPT_BYTES = 16 << 20
"""Memory that glibc keeps for the next track: to give it back and take it again costs 2 ms of CPU a track."""
_NOISE_BYTES = 1 << 20  # more than a pipe holds
_LAST_WORDS = 300
_OUT_OF_MEMORY = re.compile(r"^[\w.]*MemoryError|bad_alloc|memory allocation of \d+ bytes failed")
_REAPING_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a process ended."""

    how: str = "had not begun"
    """The signal or exit code, and its last line."""
    out_of_memory: bool = False
    cpu_s: float = 0.0
    """CPU time of all its life; 0 where the system does not tell."""


class DecoderProcess:
    """One child that runs `module`. It dies with this process, and is ended when this object is let go."""

    def __init__(self, orders: Orders, module: str) -> None:
        self.peak_mb = 0.0
        """Most resident memory that it had when `note_peak` looked, in MiB."""
        self._last_noise = b""
        self._n_oom_kills = _n_oom_kills()
        with ExitStack() as undone, ExitStack() as childs:
            mine, theirs = socket.socketpair()
            self._channel = Channel(undone.enter_context(mine))
            childs.enter_context(theirs)
            # Nothing is ever written into it. At its end the kernel kills the child, whatever the child is at. Linux'
            # own PR_SET_PDEATHSIG would do so already at the end of the thread that started it.
            lifeline, kept = _pipe(childs, undone)
            self._noise, noise = _pipe(undone, childs)
            os.set_blocking(self._noise, False)
            os.set_blocking(noise, False)  # a child that says much waits for nobody
            self._process = subprocess.Popen(
                # -P: else a file that happens to lie in the current folder could be taken for a library.
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(lifeline)],
                pass_fds=(theirs.fileno(), lifeline),
                stdin=subprocess.DEVNULL,
                stdout=noise,
                stderr=noise,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is not for it
            )
            undone.pop_all()
        handles = (kept, self._noise)
        self._let_go = weakref.finalize(self, _let_go, self._process, self._channel, handles, os.getpid())
        self._orders = orders

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def get_ready(self) -> tuple[Channel, float]:
        """The channel to the child that waits for tracks, and the CPU time that its start took.

        Raises Gone, TimeoutError or ValueError when it does not start.
        """
        deadline = time.monotonic() + START_S
        self._channel.send(self._orders.model_dump_json().encode(), deadline=deadline)
        ready = Ready.model_validate_json(self._channel.receive(deadline=deadline), strict=True)
        return self._channel, ready.cpu_s

    def note_peak(self) -> None:
        """Look at the child's memory, where the system shows it."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
            found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
            self.peak_mb = max(self.peak_mb, int(found[1]) / 1024 if found else 0.0)

    def drain(self) -> None:
        """Take what lies in the pipe of the child's stderr, so that its last words find room; one that goes on writing
        is not listened to for ever."""
        with contextlib.suppress(BlockingIOError):
            self._last_noise = (self._last_noise + os.read(self._noise, _NOISE_BYTES))[-_LAST_WORDS:]

    def end(self, *, has_died: bool = False) -> Death:
        """Kill the child, or wait for it where it `has_died`; the object is of no use afterwards."""
        self.note_peak()
        cpu_s = self._reap(_REAPING_S) if has_died else 0.0
        if killed := self._process.returncode is None:
            self._process.kill()
            cpu_s = self._reap(_REAPING_S)
        self.drain()
        self._let_go()
        code = self._process.returncode
        words = plain(self._last_noise.decode(errors="backslashreplace").rstrip().rpartition("\n")[2], _LAST_WORDS)
        by_kernel = not killed and code == -signal.SIGKILL and _n_oom_kills() > self._n_oom_kills
        return Death(
            how=f"{_how(code)}{by_kernel * ', as the machine was out of memory'}{words and f': {words}'}",
            out_of_memory=by_kernel or _OUT_OF_MEMORY.search(words) is not None,
            cpu_s=cpu_s,
        )

    def _reap(self, longest_s: float) -> float:
        """CPU seconds of the child, once it is gone; a process that the disk holds fast may stay."""
        deadline = time.monotonic() + longest_s
        pause_s = 0.0005
        while self._process.returncode is None and time.monotonic() < deadline:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else took its end
                self._process.returncode = 0
                break
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_utime + usage.ru_stime
            time.sleep(pause_s)
            pause_s = min(0.05, 2 * pause_s)
        return 0.0


def _let_go(process: subprocess.Popen[bytes], channel: Channel, handles: tuple[int, ...], owner: int) -> None:
    if os.getpid() != owner:  # a fork of it
        return
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAPING_S)
    channel.close()
    for handle in handles:
        os.close(handle)


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """Both ends, each to be closed by its owner."""
    ends = os.pipe()
    for owner, end in zip((reader, writer), ends, strict=True):
        owner.callback(os.close, end)
    return ends


def _environment() -> dict[str, str]:
    """This process's, with the same tagfleet; threads would only cost memory."""
    paths = [_PACKAGE_ROOT, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    return {
        **os.environ,
        **dict.fromkeys(_ONE_THREAD, "1"),
        "MALLOC_TOP_PAD_": str(_KEPT_BYTES),
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in paths),
    }


def _how(code: int | None) -> str:
    if code is None:
        return "cannot be ended"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"died of {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _n_oom_kills() -> int:
    """How many processes the kernel has killed for memory since the machine started; 0 where it does not tell."""
    with contextlib.suppress(OSError):
        found = re.search(r"^oom_kill (\d+)", Path("/proc/vmstat").read_text(encoding="utf-8"), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0
