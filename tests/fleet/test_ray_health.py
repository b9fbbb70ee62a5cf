"""Ray's head gone, its disk full: the driver's wait ends with a word, and soon."""

import signal
import socket
import threading
import time
from collections import namedtuple

import pytest

from tagfleet.errors import JobError
from tagfleet.fleet import ray_health
from tagfleet.fleet.ray_health import Look, has_room, head_answers, watched


def waits(looks, patience_s=0.2):
    with watched(looks, patience_s=patience_s, pause_s=0.02):
        threading.Event().wait(20)
    return "nothing happened"


def test_what_is_unwell_for_long_ends_the_wait():
    start, before = time.monotonic(), set(threading.enumerate())
    with pytest.raises(JobError, match="the tide is out") as caught:
        waits([Look(lambda: True, "well", ""), Look(lambda: False, "the tide is out", "wait for the moon")])
    assert caught.value.hint == "wait for the moon" and time.monotonic() - start < 15
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "ray-health"]


def test_what_is_well_again_in_time_ends_nothing():
    answers = iter([False, False, True] * 100)
    with watched([Look(lambda: next(answers), "", "")], patience_s=60, pause_s=0.001):
        time.sleep(0.2)


def test_an_interruption_by_somebody_else_stays_one():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        threading.Timer(0.2, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            waits([Look(lambda: True, "", "")])
    finally:
        signal.signal(signal.SIGINT, handler)


def test_the_signal_is_given_back():
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(JobError):
        waits([Look(lambda: False, "", "")], patience_s=0)
    assert signal.getsignal(signal.SIGUSR1) is before


def test_another_thread_than_the_main_one_is_not_interrupted():
    errors = []

    def body():
        try:
            with watched([Look(lambda: False, "", "")], patience_s=0, pause_s=0.01):
                time.sleep(0.2)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert not errors


def test_the_head_is_where_connections_are_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        look = head_answers(f"127.0.0.1:{server.getsockname()[1]}")
        assert look.well()
    assert not look.well()


def test_a_full_disk_is_seen_and_a_lost_folder_is_not_one(tmp_path, monkeypatch):
    look = has_room(tmp_path)
    assert look.well() and has_room(tmp_path / "none").well()
    monkeypatch.setattr(ray_health.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    assert not look.well() and str(tmp_path) in look.message


def test_rays_own_waits_end_too(ray_local):
    import ray

    @ray.remote
    def slow():
        time.sleep(60)

    with pytest.raises(JobError, match="full"), watched([Look(lambda: False, "full", "")], patience_s=0, pause_s=0.5):
        ray.get(slow.remote())
