"""A real Ray cluster of two nodes on loopback, as separate processes, with token authentication."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BIN = Path(sys.executable).parent
START_S = 90


def free_ports(n: int) -> list[int]:
    """Ports that nobody has now, below those that Ray gives to its workers."""
    found: list[int] = []
    while len(found) < n:
        port = 6000 + secrets.randbelow(3900)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


class TwoNodes:
    """The head and one worker node, one CPU each: two training workers need both."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.token = folder / "token"
        self.token.write_text(secrets.token_urlsafe(32))
        self.token.chmod(0o600)
        self.folder = folder
        self.gcs, dashboard, *self._agents = free_ports(16)
        self.address = f"http://127.0.0.1:{dashboard}"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        path = f"{BIN}{os.pathsep}{environ.get('PATH', os.defpath)}"
        self.environ = {**environ, **auth, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
        self.environ.pop("RAY_ADDRESS", None)
        self._dashboard = dashboard
        self.metrics = [self._agents.pop(), self._agents.pop()]
        """Ports on which the head and the worker show their metrics."""
        self._mark = secrets.token_hex(8)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """The head, then the worker; returns when jobs are taken."""
        self._start(
            "head",
            "--head",
            f"--port={self.gcs}",
            f"--dashboard-port={self._dashboard}",
            f"--temp-dir={self.folder}",
            f"--ray-client-server-port={self._agents.pop()}",
        )
        self._until(self._answers, "the head answers")
        self.start_worker()

    def start_worker(self) -> None:
        """The second node."""
        self._start("worker", f"--address=127.0.0.1:{self.gcs}")
        self._until(lambda: self._n_nodes() == 2, "two nodes are alive")

    def kill_worker(self) -> None:
        """kill -9 of everything on the second node."""
        self._kill("worker")
        self._until(lambda: self._n_nodes() == 1, "the cluster has noticed")

    def stop(self) -> None:
        """Nothing is left of it."""
        for name in list(self._running):
            self._kill(name)

    def mark_of(self, name: str) -> str:
        """What stands in the environment of the processes of `head` or `worker`."""
        return f"NODE_OF_TEST={self._mark}-{name}"

    def _start(self, name: str, *words: str) -> None:
        command = [
            str(BIN / "ray"),
            "start",
            *words,
            "--block",
            "--num-cpus=1",
            "--object-store-memory=150000000",
            f"--dashboard-agent-listen-port={self._agents.pop()}",
            f"--metrics-export-port={self.metrics[name == 'worker']}",
        ]
        variable, _, value = self.mark_of(name).partition("=")
        environ = {**self.environ, variable: value}
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)

    def _kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()
        mark = f"{self.mark_of(name)}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(f"{self.address}{path}")
        request.add_header("Authorization", f"Bearer {self.token.read_text()}")
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bytes(answer.read())

    def _answers(self) -> bool:
        return b"ray_version" in self._get("/api/version") and self._n_nodes() == 1

    def _n_nodes(self) -> int:
        return self._get("/nodes?view=summary").count(b'"ALIVE"')

    def _until(self, happened, what: str) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + START_S
        while True:
            with suppress(OSError, urllib.error.URLError):
                if happened():
                    return
            assert time.monotonic() < deadline, f"not within {START_S} s: {what}"
            time.sleep(0.2)


@contextmanager
def two_nodes(folder: Path, environ: dict[str, str]) -> Iterator[TwoNodes]:
    """Started, and gone afterwards whatever happened."""
    cluster = TwoNodes(folder, environ)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
