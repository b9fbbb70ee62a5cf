"""One submission: sent once whatever happens on the way, followed to its end, its exit code the job's."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tagfleet.errors import (
    ClusterError,
    ConflictError,
    GateRefused,
    JobError,
    JobStopped,
    TagfleetError,
    TimedOut,
    TooManyFailures,
    UsageError,
)
from tagfleet.submit.cluster import Cluster, Job
from tagfleet.submit.package import Package
from tagfleet.submit.request import Request

LOST_S = 120
"""So long a cluster may be silent before a job counts as lost."""
RETRY_S = 2.0
_ERRORS: tuple[type[TagfleetError], ...] = (UsageError, GateRefused, TooManyFailures, JobError, JobStopped, TimedOut)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The job that stands for a request."""

    job: Job
    new: bool
    """False: it was there already, and nothing was sent."""


def there_already(cluster: Cluster, request: Request) -> Job | None:
    """The job of this request that runs or has succeeded.

    Raises ConflictError when the id was given to another command.
    """
    before = cluster.attempts(request.submission_id)
    if before and before[-1].entrypoint != request.entrypoint:
        raise ConflictError(
            f"{request.submission_id} is another command: {before[-1].entrypoint}",
            hint="take another --submission-id, or give the same options",
        )
    return before[-1] if before and (not before[-1].ended or before[-1].status == "SUCCEEDED") else None


def submit(cluster: Cluster, request: Request, package: Package | None) -> Submitted:
    """Send a request unless its id runs or has succeeded; one that failed or was stopped is sent again.

    The same id is the same run: the second attempt goes on where the first ended. Ray forbids to reuse an id, so
    attempts carry their number. Raises what `there_already` raises.
    """
    if job := there_already(cluster, request):
        return Submitted(job=job, new=False)
    before = cluster.attempts(request.submission_id)
    attempt = before[-1].attempt + 1 if before else 1
    ray_id = request.submission_id if attempt == 1 else f"{request.submission_id}.{attempt}"
    with tempfile.TemporaryDirectory() as folder:
        zipped = package.write(Path(folder) / "tagfleet.zip") if package else None
        new = cluster.submit(
            ray_id=ray_id,
            entrypoint=request.entrypoint,
            metadata=request.metadata(attempt),
            runtime_env=request.runtime_env(zipped),
        )
    return Submitted(job=cluster.job(ray_id), new=new)


def follow(
    cluster: Cluster,
    job: Job,
    write: Callable[[str], None],
    *,
    say: Callable[[str], None] = lambda line: None,
    timeout_s: float | None = None,
    skip: int = 0,
) -> Job:
    """Write what a job says until it ends; a connection that breaks is made again, and nothing is written twice.

    skip: characters of the log that are left out. Raises TimedOut, JobError when the job is lost: the cluster has
    been silent for two minutes, or has forgotten it.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    written, silent_since = skip, None

    async def tail() -> None:
        nonlocal written, silent_since
        passed = 0
        async for text in cluster.tail(job.ray_id):
            silent_since = None
            new = text[max(0, written - passed) :]
            passed += len(text)
            if new:
                write(new)
                written += len(new)

    while True:
        try:
            asyncio.run(asyncio.wait_for(tail(), None if deadline is None else deadline - time.monotonic()))
            now = _latest(cluster, job)
            silent_since = None
            if now.ended:
                if rest := cluster.logs(job.ray_id)[written:]:
                    write(rest)
                return now
        except TimeoutError as error:
            raise TimedOut(
                f"job {job.submission_id} has not ended within {timeout_s:g} s; it runs on",
                hint=f"tagfleet jobs logs {job.submission_id} -f, or tagfleet jobs stop {job.submission_id}",
            ) from error
        except ClusterError as error:
            if silent_since is None:
                silent_since = time.monotonic()
                say(f"{error.message}; trying again for {LOST_S} s …")
            if time.monotonic() - silent_since > LOST_S:
                raise JobError(
                    f"job {job.submission_id} is lost: {error.message}",
                    hint=f"when it is there again, submit with --submission-id {job.submission_id}: the run goes on",
                ) from error
        time.sleep(RETRY_S if silent_since else 0.2)


def _latest(cluster: Cluster, job: Job) -> Job:
    for found in cluster.attempts(job.submission_id):
        if found.ray_id == job.ray_id:
            return found
    raise JobError(
        f"job {job.submission_id} is lost: the cluster at {cluster.address} was started anew and knows it no more",
        hint=f"submit with --submission-id {job.submission_id} again: the run goes on where it was",
    )


def raise_for_end(job: Job, logs: str) -> None:
    """Raise what the job ended with, as the job itself told it, with its own exit code; nothing when it succeeded."""
    code = job.exit_code
    if not code:
        return
    if job.status == "STOPPED":
        raise JobStopped(
            f"job {job.submission_id} was stopped",
            hint=f"it goes on where it was: submit with --submission-id {job.submission_id}",
        )
    told = [line for line in logs.splitlines() if line.startswith(("Error: ", "Hint: "))]
    errors = [line.removeprefix("Error: ") for line in told if line.startswith("Error: ")]
    hints = [line.removeprefix("Hint: ") for line in told if line.startswith("Hint: ")]
    message = errors[-1] if errors else _last_word(job)
    kind = next((kind for kind in _ERRORS if kind.exit_code == code), JobError if code > 1 else TagfleetError)
    error = kind(
        f"job {job.submission_id} failed: {message}",
        hint=hints[-1] if errors and hints else f"tagfleet jobs logs {job.submission_id}",
    )
    error.exit_code = code
    raise error


def _last_word(job: Job) -> str:
    lines = [line.strip() for line in job.message.splitlines() if line.strip()]
    return lines[0][:300] if lines else "without a word"
