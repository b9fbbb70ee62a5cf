import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tagfleet.errors import ConflictError, RunAtWork
from tagfleet.fleet import lease as leases
from tagfleet.fleet.lease import last_lease, lease
from tagfleet.store.objects import Storage

HOLDER = """
import sys, time
from tagfleet.fleet.lease import lease
from tagfleet.store.objects import Storage
with lease(Storage(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def root(tmp_path):
    return Storage(str(tmp_path / "root"))


@pytest.fixture
def holder(root):
    """Another process that holds the lease for run r1."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, root.root, "r1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def written(root, **changes):
    """A lease as another machine left it."""
    said = {
        "run_id": "r1",
        "last_run": "r1",
        "owner": "x",
        "host": "elsewhere",
        "pid": 1,
        "began": "1",
        "taken_at": "2026",
    }
    said |= {"renewed_at": time.time()} | changes
    root.write("leases/retag/0000000007.json", json.dumps(said).encode())


@pytest.mark.parametrize("run_id", ["r1", "r2"])
def test_whoever_comes_second_is_told_who_is_at_work(root, holder, run_id):
    with pytest.raises(ConflictError, match=rf"run r1 is at work since .*process {holder.pid} on"), lease(root, run_id):
        pass
    assert last_lease(root)[1].pid == holder.pid


@pytest.mark.parametrize(("run_id", "error"), [("r1", RunAtWork), ("r2", ConflictError)])
def test_it_is_known_whether_the_same_run_is_at_work(root, holder, run_id, error):
    with pytest.raises(ConflictError) as caught, lease(root, run_id):
        pass
    assert type(caught.value) is error


def test_who_only_tidies_up_hands_on_whether_the_last_run_was_heard_to_end(root, holder):
    holder.kill()
    holder.wait()
    for _ in range(2):
        with lease(root, "vacuum", housekeeping=True) as held:
            assert (held.last_run, held.last_run_ended) == ("r1", False)
            with pytest.raises(ConflictError, match="predictions vacuum is at work"), lease(root, "r2"):
                pass
    with lease(root, "r2"):
        pass
    with lease(root, "vacuum", housekeeping=True) as held:
        assert (held.last_run, held.last_run_ended) == ("r2", True)


def test_a_lost_answer_to_the_taking_is_no_rival(bucket, monkeypatch):
    """As botocore sees it: the first try created the object, its answer is lost, the second is told that it exists."""
    import botocore.httpsession
    from botocore.exceptions import ConnectionClosedError

    send, lost = botocore.httpsession.URLLib3Session.send, []

    def loses_the_first(self, request):
        answer = send(self, request)
        if request.method == "PUT" and "leases" in request.url and not lost:
            lost.append(request.url)
            raise ConnectionClosedError(endpoint_url=request.url)
        return answer

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", loses_the_first)
    root = Storage(f"s3://{bucket}/root")
    with lease(root, "r1"):
        assert lost and last_lease(root)[0] == 1
    assert last_lease(root)[1].ended


def test_after_kill_9_the_next_takes_over_at_once(root, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    start = time.monotonic()
    with lease(root, "r1"):
        assert time.monotonic() - start < leases.TTL_S / 2
        number, held = last_lease(root)
        assert (number, held.pid, held.ended) == (2, os.getpid(), False)
    assert last_lease(root)[1].ended


def test_leases_of_the_past_are_cleared_but_for_the_last(root):
    for n in range(5):
        with lease(root, f"r{n}"):
            pass
    assert [info.key for info in root.list("leases/retag")] == [f"leases/retag/{n:010d}.json" for n in (4, 5)]


def test_an_error_ends_the_lease(root):
    with pytest.raises(ZeroDivisionError), lease(root, "r1"):
        raise ZeroDivisionError
    with lease(root, "r2"):
        pass


@pytest.mark.parametrize(("age_s", "alive"), [(0, True), (50, True), (70, False), (-50, True), (-3600, False)])
def test_another_machine_is_believed_for_a_minute_whatever_the_clock_says(root, age_s, alive):
    written(root, renewed_at=time.time() - age_s)
    if alive:
        with pytest.raises(ConflictError), lease(root, "r2"):
            pass
    else:
        with lease(root, "r2"):
            assert last_lease(root)[0] == 8


def test_a_start_of_the_same_run_waits_until_the_other_machine_is_dead(root, monkeypatch):
    monkeypatch.setattr(leases, "TTL_S", 0.4)
    monkeypatch.setattr(leases, "_POLL_S", 0.05)
    written(root, renewed_at=time.time())
    with lease(root, "r1"):
        assert last_lease(root)[1].pid == os.getpid()


def test_a_lease_is_renewed_while_it_is_held(root, monkeypatch):
    monkeypatch.setattr(leases, "TTL_S", 0.2)
    with lease(root, "r1"):
        first = last_lease(root)[1].renewed_at
        deadline = time.monotonic() + 10
        while last_lease(root)[1].renewed_at == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{}", b'{"run_id": 1}'])
def test_a_lease_that_cannot_be_read_holds_nobody_up(root, garbage):
    root.write("leases/retag/0000000007.json", garbage)
    with lease(root, "r2"):
        assert last_lease(root)[0] == 8


def test_of_many_at_once_one_gets_it(root):
    command = [sys.executable, "-c", HOLDER, root.root]
    started = [
        subprocess.Popen([*command, f"r{n}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for n in range(4)
    ]
    try:
        deadline = time.monotonic() + 60
        while sum(process.poll() is not None for process in started) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        for process in started:
            process.kill()
    assert [process.communicate()[0] for process in started].count(b"held\n") == 1
