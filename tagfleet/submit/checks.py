"""What is looked at before a job is sent: a small job asks the cluster from inside, which is where it must work."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import secrets
import shlex
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagfleet import __version__
from tagfleet.errors import ClusterError, TimedOut
from tagfleet.fleet.doctor import Inside
from tagfleet.submit.cluster import Cluster, Job
from tagfleet.submit.package import checkout, package

TIMEOUT_S = 180
POLL_S = 0.3

_ASK = """
import importlib.metadata, json, platform, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({"python": platform.python_version(), "ray": version("ray"), "tagfleet": version("tagfleet")}))
sys.stdout.flush()
if version("tagfleet") == sys.argv[1]:
    from jobs.doctor import main
    sys.exit(main(sys.argv[2:]))
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the cluster said of itself."""

    python: str
    ray: str
    tagfleet: str | None
    inside: Inside
    """Seen by its tagfleet, or by the code that was sent."""

    @property
    def same_tagfleet(self) -> bool:
        """Nothing need be sent."""
        return self.tagfleet == __version__


def ask(cluster: Cluster, settings: list[str], *, send: bool = False) -> Asked:
    """Ask from inside; where the cluster has another tagfleet, or with `send`, with the code of this checkout.

    settings: `-s` words that say how the root is reached. Raises ClusterError when Python or Ray are not ours, when
    the small job fails, or the root cannot be used there; UsageError when there is no checkout to send.
    """
    words = [__version__ if not send else "", *settings]
    told = _run(cluster, shlex.join(["python", "-c", _ASK, *words]), {})
    check_versions(told[0])
    if len(told) > 1:
        inside = Inside.model_validate(told[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            zipped = package(checkout()).write(Path(folder) / "tagfleet.zip")
            entrypoint = shlex.join(["python", "-m", "jobs.doctor", *settings])
            inside = Inside.model_validate(_run(cluster, entrypoint, {"working_dir": str(zipped)})[0])
    return Asked(inside=inside, **told[0])


def check_versions(there: dict[str, Any]) -> None:
    """Refuse a cluster whose Ray, or whose minor version of Python, is another one."""
    here = {"ray": importlib.metadata.version("ray"), "python": platform.python_version()}
    if there["ray"] != here["ray"]:
        raise ClusterError(
            f"the cluster runs Ray {there['ray']}, here is Ray {here['ray']}",
            hint=f"use the image of this version, or install ray=={there['ray']} here",
        )
    if there["python"].split(".")[:2] != here["python"].split(".")[:2]:
        raise ClusterError(
            f"the cluster runs Python {there['python']}, here is Python {here['python']}",
            hint="call tagfleet with the cluster's Python, or make the image with this one",
        )


def check_root(inside: Inside) -> None:
    """Refuse a root that the cluster cannot use."""
    for check in inside.checks:
        if check.name in ("storage root", "exclusive commits", "all machines") and not check.ok:
            raise ClusterError(f"seen from the cluster: {check.told}", hint=check.hint or "tagfleet doctor")


def _run(cluster: Cluster, entrypoint: str, runtime_env: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON lines of a small job that is forgotten afterwards."""
    ray_id = f"tagfleet-check-{secrets.token_hex(6)}"
    cluster.submit(ray_id=ray_id, entrypoint=entrypoint, metadata={}, runtime_env=runtime_env)
    try:
        job = _ended(cluster, ray_id)
        logs = cluster.logs(ray_id)
        if job.status != "SUCCEEDED":
            raise ClusterError(f"the cluster cannot run a small job: {_reason(logs, job)}", hint=_hint(logs))
    finally:
        with suppress(ClusterError):  # what stays is not listed as ours
            if cluster.stop(ray_id):
                _ended(cluster, ray_id)
            cluster.forget(ray_id)
    found = [json.loads(line) for line in logs.splitlines() if line.startswith("{") and line.rstrip().endswith("}")]
    if not found:
        raise ClusterError("a small job on the cluster said nothing", hint="look at the head's logs")
    return found


def _ended(cluster: Cluster, ray_id: str) -> Job:
    deadline = time.monotonic() + TIMEOUT_S
    while not (job := cluster.job(ray_id)).ended:
        if time.monotonic() > deadline:
            raise TimedOut(
                f"a small job did not end on the cluster within {TIMEOUT_S} s: it is {job.status}",
                hint="is its head healthy? tagfleet jobs list; ray status on the head",
            )
        time.sleep(POLL_S)
    return job


def _reason(logs: str, job: Job) -> str:
    lines = [line for line in logs.splitlines() if line.strip()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (errors or lines or [job.message])[-1][:500]


def _hint(logs: str) -> str:
    hints = [line.removeprefix("Hint: ") for line in logs.splitlines() if line.startswith("Hint: ")]
    if "python: not found" in logs or "python: command not found" in logs:
        return "the cluster's processes have no `python` on their PATH: start Ray from the activated environment"
    return hints[-1] if hints else "look at the head's logs"
