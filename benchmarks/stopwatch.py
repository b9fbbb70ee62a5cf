"""CPU seconds and memory of processes: user and system time, all below them included. Linux."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """Seconds of this process with all its threads, of its children that have ended, and of all that live below it."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(map(_clock_s, _family() - {os.getpid()}))
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def peak_mb() -> float:
    """The most memory that this process has held, in MB, and the most that each that lives below it has."""
    return sum(_name_and_peak(pid)[1] for pid in _family())


@dataclass(frozen=True)
class Seen:
    """One process as it was last seen. Ray's workers tell their task by their name."""

    name: str
    cpu_s: float
    peak_mb: float


class ProcessTree:
    """Watches this process and all below it, five times a second; a context manager.

    A Ray worker that ends leaves no CPU time to its parent, so each process is remembered as it was last seen: at most
    0.2 s of each one that ends is missing.
    """

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessTree:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def cpu_s(self) -> float:
        """Seconds of all processes since each began."""
        self._look()
        return sum(process.cpu_s for process in self.seen.values())

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self._look()

    def _look(self) -> None:
        stats = _stats()
        for pid in _family(stats) & stats.keys():
            last = self.seen.get(pid, Seen("", 0.0, 0.0))
            name, peak_mb = _name_and_peak(pid)
            busy = name and not name.startswith("ray::IDLE")
            self.seen[pid] = Seen(name if busy else last.name, stats[pid][1], peak_mb or last.peak_mb)


def _stats() -> dict[int, tuple[int, float]]:
    return dict(filter(None, map(_stat, Path("/proc").glob("[0-9]*"))))


def _family(stats: Mapping[int, tuple[int, float]] | None = None) -> set[int]:
    """This process and all below it."""
    stats = _stats() if stats is None else stats
    ours = {os.getpid()}
    while grown := {pid for pid, (parent, _) in stats.items() if parent in ours} - ours:
        ours |= grown
    return ours


def _clock_s(pid: int) -> float:
    """CPU seconds of a living process to the nanosecond, where /proc counts ticks: clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it has ended meanwhile
        return 0.0


def _stat(process: Path) -> tuple[int, tuple[int, float]] | None:
    """Pid, parent and CPU seconds (proc_pid_stat(5): fields 4, 14 and 15); None when it has ended meanwhile."""
    try:
        fields = (process / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return int(process.name), (int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


def _name_and_peak(pid: int) -> tuple[str, float]:
    """What it calls itself, and the most MB of memory it has held; "" and 0 when it has ended meanwhile."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return "", 0.0
    peaks = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
    return name, peaks[0] * 1.024 / 1000 if peaks else 0.0
