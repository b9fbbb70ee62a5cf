"""A real S3 server on loopback for the tests, with authentication where the server has it.

Ceph's gateway (a monitor, an OSD that keeps everything in memory, radosgw) where Debian's packages ceph-mon, ceph-osd,
ceph-common and radosgw are installed; moto's server elsewhere. S3_FOR_TESTS=ceph|moto chooses.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY = "AKTEST"
SECRET_KEY = "SKTESTSKTEST"
START_S = 90
_CEPH = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
# Killed tests must not leave servers: the kernel ends them with their parent.
_TIED = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server; region us-east-1, path-style addresses."""

    kind: str
    endpoint_url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    @property
    def environment(self) -> dict[str, str]:
        """What AWS clients in this process and in its children must find, and nothing of the developer's own."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def kind() -> str:
    """Which server `running` starts: ceph or moto."""
    forced = os.environ.get("S3_FOR_TESTS")
    if forced not in (None, "ceph", "moto"):
        raise ValueError(f"S3_FOR_TESTS is {forced!r}; it may be ceph or moto")
    return forced or ("ceph" if all(map(shutil.which, _CEPH)) else "moto")


@contextmanager
def running() -> Iterator[S3Server]:
    """A server of `kind()`; its processes and its folder are gone afterwards, also when it fails to start."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True)))
        try:
            server = _ceph(folder, stack) if kind() == "ceph" else _moto(folder, stack)
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            logs = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in folder.glob("*.log"))
            raise RuntimeError(f"{kind()} did not start (S3_FOR_TESTS chooses another): {error}\n{logs}") from error
        yield server


def _ceph(folder: Path, stack: ExitStack) -> S3Server:
    port, monitor_port, cluster = _free_port(), _free_port(), str(uuid.uuid4())
    environment = os.environ | {"CEPH_CONF": str(folder / "ceph.conf")}
    (folder / "mon").mkdir()
    (folder / "osd").mkdir()
    (folder / "ceph.conf").write_text(
        _CEPH_CONF.format(folder=folder, port=port, monitor_port=monitor_port, cluster=cluster)
    )

    def call(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=START_S)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def start(*command: str) -> subprocess.Popen[bytes]:
        return _start([*command, "-f"], folder, stack, environment)

    monitor_map = str(folder / "monmap")
    call("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v1:127.0.0.1:{monitor_port}]", monitor_map)
    call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitor_map, "--keyring", os.devnull)
    start("ceph-mon", "-i", "a")
    osd_uuid = str(uuid.uuid4())
    osd = call("ceph", "osd", "new", osd_uuid)
    call("ceph-osd", "-i", osd, "--mkfs", "--osd-uuid", osd_uuid)
    call("ceph", "osd", "crush", "add", osd, "1.0", "root=default", "host=h")
    start("ceph-osd", "-i", osd)
    gateway = start("radosgw", "-n", "client.rgw")
    user = ("--uid=tests", "--display-name=tests", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
    call("radosgw-admin", "user", "create", *user)
    return _answering(S3Server(kind="ceph", endpoint_url=f"http://127.0.0.1:{port}"), gateway)


def _moto(folder: Path, stack: ExitStack) -> S3Server:
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = _start(command, folder, stack, os.environ | {"MOTO_PORT": str(port)})
    return _answering(S3Server(kind="moto", endpoint_url=f"http://127.0.0.1:{port}"), process)


def _start(
    command: Sequence[str], folder: Path, stack: ExitStack, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
    process = subprocess.Popen(
        [*_TIED, *command], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    # Nothing in a test server is worth an orderly end.
    stack.callback(_ended, process)
    return process


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _answering(server: S3Server, process: subprocess.Popen[bytes]) -> S3Server:
    _wait(lambda: process.poll() is not None or _answers(server.endpoint_url))
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with {process.returncode}")
    return server


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answer within {START_S} s")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_CEPH_CONF = """\
[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{monitor_port}
mon initial members = a
mon data = {folder}/mon
mon data avail crit = 0
mon allow pool size one = true
mon max pg per osd = 1000
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}
admin socket =
pid file =
log file =
log to stderr = true
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 32
keyring = /dev/null
"""
