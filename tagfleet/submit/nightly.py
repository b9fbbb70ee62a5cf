"""One night on Kubernetes: a RayJob made from a suspended one, watched to its end. Runs in the nightly's own pod.

The template is a RayJob of the namespace that never starts (`spec.suspend`), so that overlays and schemas see it as
they see everything. Not a RayCronJob: that is alpha, has no concurrency policy, and fires all missed runs at once.
"""

from __future__ import annotations

import copy
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, cast
from zoneinfo import ZoneInfo

from tagfleet.errors import ClusterError, ConflictError, JobError, JobStopped, NotFoundError, TimedOut

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
MAX_NAME = 47
"""KubeRay derives longer names from it, which must fit into labels."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
POLL_S = 10.0
KEPT_DAYS = 14
"""So long one can look at a night with kubectl; its run folder stays."""
ENDED = ("Complete", "Failed", "ValidationFailed")
"""Of `status.jobDeploymentStatus`."""


class RayJobs(Protocol):
    """What the night needs of the API server: get, create and delete RayJobs, and nothing else."""

    def get(self, name: str) -> dict[str, Any]:
        """The object; NotFoundError without one."""

    def create(self, body: dict[str, Any]) -> None:
        """ConflictError when there is one of that name."""

    def delete(self, name: str) -> None:
        """Gone at once or soon, or gone already."""


class ApiServer:
    """The RayJobs of a namespace, through the pod's service account or, outside, the user's kubeconfig."""

    def __init__(self, namespace: str | None = None) -> None:
        from kubernetes import client, config

        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]  # the package gives few types
        except config.ConfigException:
            try:
                config.load_kube_config()  # type: ignore[no-untyped-call]
            except config.ConfigException as error:
                raise ClusterError(
                    f"there is no Kubernetes to talk to: {error}", hint="run in a pod, or with KUBECONFIG set"
                ) from error
        inside = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.is_file() else "tagfleet"
        self.namespace = namespace or inside
        self._api = client.CustomObjectsApi()

    def get(self, name: str) -> dict[str, Any]:
        """See `RayJobs`."""
        with self._told(name):
            found = self._api.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        return cast(dict[str, Any], found)

    def create(self, body: dict[str, Any]) -> None:
        """See `RayJobs`."""
        with self._told(body["metadata"]["name"]):
            self._api.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body)

    def delete(self, name: str) -> None:
        """See `RayJobs`."""
        with self._told(name):
            self._api.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            what = f"RayJob {name} in namespace {self.namespace}"
            if error.status == 404:
                raise NotFoundError(f"there is no {what}", hint="kubectl apply -k k8s/overlays/…") from error
            if error.status == 409:
                raise ConflictError(f"there is a {what} already") from error
            raise ClusterError(
                f"{what}: the API server answers {error.status} {error.reason}",
                hint="may the service account tagfleet-nightly get, create and delete rayjobs?",
            ) from error
        except HTTPError as error:
            raise ClusterError(f"the API server does not answer: {error}", hint="trying again is safe") from error


def tonight(now: datetime, zone: str) -> str:
    """The name of the night's run: a retry is the same run.

    >>> from datetime import UTC
    >>> tonight(datetime(2026, 11, 25, 18, 0, tzinfo=UTC), "Asia/Tokyo")
    'nightly-20261126'
    """
    return f"nightly-{now.astimezone(ZoneInfo(zone)):%Y%m%d}"


def forget_old(jobs: RayJobs, now: datetime, zone: str) -> None:
    """Remove the RayJobs of the second and third week before: KubeRay removes their clusters, and them never."""
    for days in range(KEPT_DAYS, 2 * KEPT_DAYS):
        name = f"tagfleet-{tonight(now - timedelta(days=days), zone)}"
        with suppress(NotFoundError):
            jobs.delete(name)


def job_of(template: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The RayJob of a run: the template's spec, un-suspended, its command with the run id.

    Raises ClusterError when the template is not suspended: it would run by itself.
    """
    spec = copy.deepcopy(dict(template["spec"]))
    named = template["metadata"]["name"]
    if not spec.pop("suspend", False):
        raise ClusterError(f"RayJob {named} is not suspended: it is no template", hint="spec.suspend: true")
    name = f"tagfleet-{run_id}"[:MAX_NAME]
    spec["entrypoint"] = f"{spec['entrypoint']} --run-id {shlex.quote(run_id)}"
    labels = {**template["metadata"].get("labels", {}), "tagfleet.io/template": named, "tagfleet.io/run": run_id}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def run_night(
    jobs: RayJobs,
    template: str,
    run_id: str,
    *,
    say: Callable[[str], None],
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Make the RayJob of `run_id`, or find it, and wait for its end; one that failed before is made again.

    Raises JobError when it failed, JobStopped when somebody removed or suspended it, TimedOut after `timeout_s`.
    """
    job = job_of(jobs.get(template), run_id)
    name = job["metadata"]["name"]
    _begin(jobs, job, say, sleep)
    deadline = time.monotonic() + timeout_s
    before = ""
    silent = 0
    while time.monotonic() < deadline:
        try:
            status = jobs.get(name).get("status") or {}
            silent = 0
        except NotFoundError as error:
            raise JobStopped(f"RayJob {name} was removed", hint="the next night does its work") from error
        except ClusterError as error:  # an API server that restarts must not cost a night
            silent += 1
            if silent > 30:
                raise
            say(error.message)
            status = {}
        now = _shown(status)
        if now and now != before:
            say(f"RayJob {name}: {now}")
            before = now
        if status.get("jobDeploymentStatus") in ENDED:
            return _result(name, status)
        if status.get("jobDeploymentStatus") == "Suspended":
            raise JobStopped(f"RayJob {name} was suspended", hint="delete it, and start the night again")
        sleep(POLL_S)
    raise TimedOut(f"RayJob {name} has not ended within {timeout_s:g} s", hint=f"kubectl describe rayjob {name}")


def _begin(jobs: RayJobs, job: dict[str, Any], say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    name = job["metadata"]["name"]
    for _ in range(60):
        try:
            jobs.create(job)
        except ConflictError:
            try:
                status = jobs.get(name).get("status") or {}
            except NotFoundError:
                continue
            if status.get("jobDeploymentStatus") not in ("Failed", "ValidationFailed"):
                say(f"RayJob {name} is there already: {_shown(status) or 'new'}")
                return
            say(f"RayJob {name} had failed; it is made again and goes on where it was")
            jobs.delete(name)
            sleep(POLL_S)
        else:
            say(f"RayJob {name} made")
            return
    raise TimedOut(f"a failed RayJob {name} is not removed", hint=f"kubectl describe rayjob {name}: finalizers?")


def _shown(status: Mapping[str, Any]) -> str:
    parts = (status.get("jobDeploymentStatus"), status.get("jobStatus"), status.get("rayClusterName"))
    return ", ".join(part for part in parts if part)


def _result(name: str, status: Mapping[str, Any]) -> None:
    if status.get("jobDeploymentStatus") == "Complete" and status.get("jobStatus") == "SUCCEEDED":
        return
    if status.get("jobStatus") == "STOPPED":
        raise JobStopped(f"the job of RayJob {name} was stopped", hint="the next night does its work")
    reason, message = status.get("reason") or status.get("jobStatus") or "Failed", status.get("message") or ""
    last = message.strip().splitlines()[-1:] or [""]
    raise JobError(
        f"RayJob {name} failed: {reason} {last[0][:300]}".rstrip(),
        hint="docs/operations.md, A failed night: what it means and what to do",
    )
