"""A Ray cluster as its Jobs API shows it; everything that can go wrong on the way is one line with a hint."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tagfleet.errors import ClusterError, JobError, JobStopped

CONNECT_S = 10
AGENT_S = 30
"""A head that has just been started takes jobs some seconds after it answers."""
NO_AGENT = "No available agent"
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
SUBMISSION, ATTEMPT, KIND, RUN_ID, ROOT = "submission", "attempt", "kind", "run_id", "root"
"""Keys of a job's metadata."""
TOKEN_HINT = (
    "RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN; see"
    " docs/operations.md"
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of the cluster, as far as Ray knows."""

    ray_id: str
    """Its submission id in Ray: ours, and from the second attempt on with its number behind."""
    submission_id: str
    attempt: int
    kind: str
    run_id: str
    root: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    driver_exit_code: int | None
    entrypoint: str
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        """Nothing more happens to it."""
        return self.status in ENDED

    @property
    def exit_code(self) -> int | None:
        """The job's own; where it has none, that of how it ended; None while it has not."""
        if not self.ended:
            return None
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return JobStopped.exit_code
        code = self.driver_exit_code
        return code if code is not None and code > 0 else JobError.exit_code


class Cluster:
    """The Jobs API at an address. Raises ClusterError when nobody answers, or answers that we may not."""

    def __init__(self, address: str) -> None:
        self.address = address
        _reach(address)
        with self._talk():
            from ray.job_submission import JobSubmissionClient

            for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
                logging.getLogger(name).setLevel(logging.ERROR)
            self._client = JobSubmissionClient(address)
            self._client.list_jobs()  # its constructor asks for the version only, which needs no token

    @contextmanager
    def _talk(self) -> Iterator[None]:
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            refused = "the token is not the cluster's" if "failed" in str(error).split(":")[0] else "it wants a token"
            raise ClusterError(f"the Ray cluster at {self.address} refuses: {refused}", hint=TOKEN_HINT) from error
        except (ConnectionError, requests.RequestException, aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(self.address, error) from error
        except RuntimeError as error:
            if "authentication" in str(error).lower() or "token" in str(error).lower():
                raise ClusterError(f"the Ray cluster at {self.address} refuses", hint=TOKEN_HINT) from error
            told = str(error).strip().splitlines()[-1][:500]
            raise ClusterError(f"the Ray cluster at {self.address} answers: {told}", hint=_hint(told)) from error

    def submit(self, *, ray_id: str, entrypoint: str, metadata: dict[str, str], runtime_env: dict[str, Any]) -> bool:
        """Start a job; False when there is one of this id already."""
        deadline = time.monotonic() + AGENT_S
        while True:
            with self._talk():
                try:
                    self._client.submit_job(
                        entrypoint=entrypoint, submission_id=ray_id, metadata=metadata, runtime_env=runtime_env
                    )
                    return True
                except RuntimeError as error:
                    if "already exists" in str(error):
                        return False
                    if NO_AGENT not in str(error) or time.monotonic() > deadline:
                        raise
            time.sleep(1)

    def jobs(self) -> list[Job]:
        """All jobs that were submitted and that the cluster remembers, oldest first."""
        with self._talk():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started_at or datetime.max.replace(tzinfo=UTC), job.attempt))

    def attempts(self, submission_id: str) -> list[Job]:
        """The jobs of one submission, the last attempt last."""
        found = [job for job in self.jobs() if submission_id in (job.submission_id, job.ray_id)]
        return sorted(found, key=lambda job: job.attempt)

    def job(self, submission_id: str) -> Job:
        """The last attempt of a submission; ClusterError when the cluster knows of none."""
        if found := self.attempts(submission_id):
            return found[-1]
        raise ClusterError(
            f"the Ray cluster at {self.address} knows no job {submission_id}",
            hint="tagfleet jobs list; a cluster that was started anew has forgotten its jobs: submit with the same id",
        )

    def logs(self, ray_id: str) -> str:
        """All that a job has said so far."""
        with self._talk():
            text: str = self._client.get_job_logs(ray_id)
        return text

    async def tail(self, ray_id: str) -> AsyncIterator[str]:
        """What a job has said and says, from its start, until it ends."""
        with self._talk():
            async for text in self._client.tail_job_logs(ray_id):
                yield text

    def stop(self, ray_id: str) -> bool:
        """Ask a job to end; False when it has ended already."""
        with self._talk():
            return bool(self._client.stop_job(ray_id))

    def forget(self, ray_id: str) -> None:
        """Take an ended job out of the list."""
        with self._talk():
            self._client.delete_job(ray_id)


def own(jobs: Sequence[Job]) -> list[Job]:
    """Those that tagfleet submitted, only the last attempt of each."""
    return list({job.submission_id: job for job in jobs if job.kind}.values())


def _hint(told: str) -> str:
    if NO_AGENT in told:
        return (
            "the head's agent is not up: another Ray of that machine may have its port; ray start"
            " --dashboard-agent-listen-port=…"
        )
    if "404" in told:
        return "something else answers there: the Jobs API is on the dashboard's port, usually 8265"
    return "tagfleet doctor"


def _reach(address: str) -> None:
    """Ray's client waits for ever where nobody refuses."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ClusterError:
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "strerror", None) is None:
        cause = cause.__cause__ or cause.__context__
    told = getattr(cause, "strerror", None) or str(error).strip() or type(error).__name__
    port = urlsplit(address).port or 8265
    return ClusterError(
        f"no Ray cluster answers at {address} ({told[:200].lower()})",
        hint=f"kubectl -n tagfleet port-forward svc/tagfleet-head-svc {port}:8265; or ray start --head on this machine",
    )


def _job(details: Any) -> Job:
    known = details.metadata or {}
    ray_id = details.submission_id
    attempt = known.get(ATTEMPT, "1")
    return Job(
        ray_id=ray_id,
        submission_id=known.get(SUBMISSION, ray_id),
        attempt=int(attempt) if attempt.isdigit() else 1,
        kind=known.get(KIND, ""),
        run_id=known.get(RUN_ID, ""),
        root=known.get(ROOT, ""),
        status=str(getattr(details.status, "value", details.status)),
        message=details.message or "",
        driver_exit_code=details.driver_exit_code,
        entrypoint=details.entrypoint,
        started_at=_moment(details.start_time),
        ended_at=_moment(details.end_time),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
