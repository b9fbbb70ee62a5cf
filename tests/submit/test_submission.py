"""Faults that a healthy cluster does not have: the connection breaks, the cluster forgets, two submit at once."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tagfleet.errors import ClusterError, ConflictError, JobError, JobStopped, TimedOut
from tagfleet.settings import Settings
from tagfleet.submit import submission
from tagfleet.submit.checks import check_versions
from tagfleet.submit.cluster import Job
from tagfleet.submit.request import Request
from tagfleet.submit.submission import follow, raise_for_end, submit

REQUEST = Request(kind="retag", submission_id="s", run_id="s", words=("--only", "new"), settings=Settings())
JOB = Job(
    ray_id="s",
    submission_id="s",
    attempt=1,
    kind="retag",
    run_id="s",
    root="/r",
    status="RUNNING",
    message="",
    driver_exit_code=None,
    entrypoint=REQUEST.entrypoint,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    ended_at=None,
)


class Cluster:
    """Answers from lists: `tails` one after the other (an exception breaks the connection), then `states`."""

    address = "http://c"

    def __init__(self, *jobs, tails=(), states=(), log=""):
        self.kept = list(jobs)
        self.tails, self.states, self.log = list(tails), list(states), log
        self.sent = []

    def attempts(self, submission_id):
        if self.states:
            state = self.states.pop(0)
            if isinstance(state, Exception):
                raise state
            self.kept = [replace(job, status=state) for job in self.kept]
        return [job for job in self.kept if submission_id in (job.submission_id, job.ray_id)]

    def job(self, submission_id):
        return self.attempts(submission_id)[-1]

    def submit(self, *, ray_id, entrypoint, metadata, runtime_env):
        self.sent.append((ray_id, metadata["attempt"]))
        if any(job.ray_id == ray_id for job in self.kept):
            return False
        self.kept.append(replace(JOB, ray_id=ray_id, attempt=int(metadata["attempt"])))
        return True

    async def tail(self, ray_id):
        for part in self.tails.pop(0) if self.tails else []:
            if isinstance(part, Exception):
                raise part
            yield part

    def logs(self, ray_id):
        return self.log


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(submission, "RETRY_S", 0.01)
    monkeypatch.setattr(submission, "LOST_S", 0.2)


def test_a_broken_connection_is_made_again_and_nothing_is_written_twice():
    broken = ClusterError("no Ray cluster answers")
    tails = [["one\n", "two", broken], [broken], ["one\ntw", "o\nthree\n"]]
    cluster = Cluster(JOB, tails=tails, states=["SUCCEEDED"], log="one\ntwo\nthree\nfour\n")
    written, said = [], []
    job = follow(cluster, JOB, written.append, say=said.append)
    assert "".join(written) == "one\ntwo\nthree\nfour\n" and job.status == "SUCCEEDED"
    assert len(said) == 1 and "trying again" in said[0]


def test_a_cluster_that_stays_away_means_a_lost_job():
    away = ClusterError("no Ray cluster answers")
    with pytest.raises(JobError, match="job s is lost: no Ray cluster answers") as caught:
        follow(Cluster(JOB, tails=[[away]] * 100), JOB, print)
    assert "--submission-id s" in caught.value.hint


def test_a_cluster_that_was_started_anew_has_lost_the_job():
    with pytest.raises(JobError, match="started anew"):
        follow(Cluster(tails=[["one\n"]]), JOB, print)


def test_waiting_has_an_end():
    with pytest.raises(TimedOut, match="it runs on"):
        follow(Cluster(JOB), JOB, print, timeout_s=0.3)


def test_the_same_id_is_sent_once_and_after_a_failure_again():
    cluster = Cluster()
    assert submit(cluster, REQUEST, None).new
    assert not submit(cluster, REQUEST, None).new
    for state, sent in (("FAILED", ("s.2", "2")), ("STOPPED", ("s.3", "3"))):
        cluster.kept[-1] = replace(cluster.kept[-1], status=state)
        assert submit(cluster, REQUEST, None).job.ray_id == sent[0] and cluster.sent[-1] == sent
    cluster.kept[-1] = replace(cluster.kept[-1], status="SUCCEEDED")
    assert not submit(cluster, REQUEST, None).new and len(cluster.sent) == 3
    with pytest.raises(ConflictError, match="s is another command"):
        submit(cluster, replace(REQUEST, words=("--only", "all")), None)


def test_of_two_that_submit_at_once_both_get_the_one_job(monkeypatch):
    cluster = Cluster(JOB)
    monkeypatch.setattr(cluster, "attempts", lambda name, real=cluster.attempts: real(name) if cluster.sent else [])
    found = submit(cluster, REQUEST, None)
    assert (found.new, found.job.ray_id) == (False, "s")


@pytest.mark.parametrize(
    ("status", "code", "logs", "error", "exit_code", "told"),
    [
        ("FAILED", 3, "Error: refused\nHint: look\n", "GateRefused", 3, "refused"),
        ("FAILED", 4, "Error: bad\n", "TooManyFailures", 4, "bad"),
        ("FAILED", 1, "Error: first\nError: last\n", "TagfleetError", 1, "last"),
        ("FAILED", 70, "Traceback\n", "JobError", 70, "driver said"),
        ("FAILED", None, "", "JobError", 5, "driver said"),
        ("FAILED", -9, "", "JobError", 5, "driver said"),
        ("STOPPED", -15, "", "JobStopped", 6, "was stopped"),
    ],
)
def test_the_exit_code_and_the_words_are_the_jobs(status, code, logs, error, exit_code, told):
    job = replace(JOB, status=status, driver_exit_code=code, message="driver said\nmore")
    with pytest.raises(Exception, match=told) as caught:
        raise_for_end(job, logs)
    assert (type(caught.value).__name__, caught.value.exit_code, job.exit_code) == (error, exit_code, exit_code)
    assert JobError.exit_code == 5 and JobStopped.exit_code == 6


def test_a_job_that_succeeded_raises_nothing():
    raise_for_end(replace(JOB, status="SUCCEEDED"), "Error: of an earlier day\n")


def test_another_ray_or_python_is_refused_with_both_versions():
    import platform

    import ray

    check_versions({"ray": ray.__version__, "python": platform.python_version()})
    with pytest.raises(ClusterError, match=rf"the cluster runs Ray 2\.9\.0, here is Ray {ray.__version__}"):
        check_versions({"ray": "2.9.0", "python": platform.python_version()})
    with pytest.raises(ClusterError, match=r"the cluster runs Python 3\.9\.1"):
        check_versions({"ray": ray.__version__, "python": "3.9.1"})
