"""Machines and disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from tests.chaos.phases import READ, at, some_read
from tests.chaos.processes import command_line, having, kill
from tests.chaos.scene import Fault, Scene
from tests.e2e.raycluster import TwoNodes, two_nodes

_TMPFS = "size=256m"
_FULL_S = 20
_GIVE_UP_S = 180


def _on_two_nodes(scene: Scene) -> int:
    """The second of two machines loses its raylet, or all, and comes back."""
    folder = Path(scene.stack.enter_context(tempfile.TemporaryDirectory(prefix="n-", ignore_cleanup_errors=True)))
    cluster = scene.stack.enter_context(two_nodes(folder, scene.environ))
    scene.environment = cluster.environ
    scene.words += ["-s", f"ray.address=127.0.0.1:{cluster.gcs}"]
    whole = scene.random.random() < 0.5
    scene.notes.append(lambda: "all of it" if whole else "its raylet")
    lost = threading.Event()

    def strike() -> None:
        scene.struck(parts=1)
        threading.Thread(target=_lose, args=(cluster, whole, lost), daemon=True).start()

    scene.proxy.add(at(READ, some_read(scene), "before", strike))
    code = scene.start().wait()
    if code and lost.wait(60):
        cluster.start_worker()
    return code


def _lose(cluster: TwoNodes, whole: bool, lost: threading.Event) -> None:
    if not whole:
        for pid in having(cluster.mark_of("worker")):
            if "raylet/raylet" in command_line(pid):
                kill(pid)
    cluster.kill_worker()
    lost.set()


def _disk_full(scene: Scene) -> int:
    """Where Ray keeps its session, logs and what it spills, nothing can be written; for a while, or to the end.

    Ray starts its workers again and again then, for ever: the run ends itself (fleet/ray_health.py).
    """
    folder = scene.folder / "t"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", _TMPFS, "tmpfs", str(folder)], check=True)
    scene.stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)
    scene.environment["RAY_TMPDIR"] = str(folder)
    passes = scene.random.random() < 0.5
    scene.notes.append(lambda: f"for {_FULL_S} s" if passes else "to the end")
    full = folder / "full"
    over = threading.Timer(*(_FULL_S, full.unlink) if passes else (_GIVE_UP_S, scene.kill_driver))

    def strike() -> None:
        with suppress(OSError), full.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        scene.struck()
        over.start()

    scene.proxy.add(at(READ, some_read(scene), "before", strike))
    code = scene.start().wait()
    over.cancel()
    full.unlink(missing_ok=True)
    return code


def _cannot_mount() -> str:
    if os.geteuid() or not shutil.which("mount"):
        return "mounting a small file system takes root"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", _TMPFS, "tmpfs", folder], capture_output=True, text=True)
        if not done.returncode:
            subprocess.run(["umount", folder], check=True)
    return done.stderr.strip()


MACHINES = (
    Fault(name="second node lost", arm=lambda scene: None, first=_on_two_nodes),
    Fault(name="disk full", arm=lambda scene: None, first=_disk_full, missing=_cannot_mount),
)
