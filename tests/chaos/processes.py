"""Starts of `tagfleet retag` as processes, and what belongs to them: found by a mark in the environment."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "CHAOS_START"
WAIT_S = 420


class Start:
    """One start of a command, with all processes that come of it."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.mark = secrets.token_hex(8)
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tagfleet", *words],
                env={**environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=out,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """kill -9 of the driver alone."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code; one that does not end is killed, and -9 like one that was."""
        try:
            return self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            with self.log.open("a") as log:
                log.write(f"did not end within {WAIT_S} s\n")
            self.kill()
            return self._process.wait()

    def others(self, *titles: str) -> list[int]:
        """Processes of its Ray whose command line has one of `titles`; without titles, all."""
        found = [pid for pid in family(self.mark) if pid != self._process.pid]
        return [pid for pid in found if not titles or any(title in command_line(pid) for title in titles)]

    def clean(self) -> None:
        """Nothing is left of it."""
        self.kill()
        self._process.wait()
        for _ in range(50):
            pids = self.others()
            if not pids:
                return
            for pid in pids:
                kill(pid)
            time.sleep(0.05)


def family(mark: str) -> list[int]:
    """Processes that have it in their environment, and what they started: titles may be written over it."""
    marked, parents = _scan(f"{MARK}={mark}")
    found = set(marked)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return sorted(found)


def having(text: str) -> list[int]:
    """Processes with NAME=VALUE in their environment."""
    return _scan(text)[0]


def command_line(pid: int) -> str:
    """Empty when it is gone, or a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def kill(pid: int) -> None:
    """kill -9."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _scan(setting: str) -> tuple[list[int], dict[int, int]]:
    """Processes with that NAME=VALUE, and the parent of each process there is."""
    text, found, parents = f"{setting}\0".encode(), [], {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if text in (folder / "environ").read_bytes():
                found.append(pid)
    return found, parents
