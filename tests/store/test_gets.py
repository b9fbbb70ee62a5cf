"""What becomes of a read when the server misbehaves; by a server that does so as it is told."""

import io
import random
import time
from collections import deque
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from botocore.response import StreamingBody
from hypothesis import HealthCheck, given, settings

from tagfleet.errors import FetchError
from tagfleet.store import gets
from tagfleet.store.ranged import CACHE_BYTES, HEAD_BYTES, PAGE_BYTES
from tagfleet.store.sources import open_uri
from tests.s3server import SECRET_KEY
from tests.store.faulty import URI

DATA = b"RIFF" + random.Random(0).randbytes(700_000)
BUSY = (500, 503, 429, "reset", 0.0, 0.3, 0.99)
"""What may be better next time."""


@pytest.fixture
def server(faulty_server, monkeypatch):
    """It has DATA; our retries do not wait long."""
    monkeypatch.setattr(gets, "_PAUSE_S", 0.001)
    faulty_server.data = DATA
    return faulty_server


def opened(server, deadline=None, max_bytes=1 << 30, **config):
    return open_uri(URI, server.config(**{"whole_bytes": 0} | config), max_bytes=max_bytes, deadline=deadline)


def failing(server, **words):
    """The error of reading all."""
    with pytest.raises(FetchError) as caught, opened(server, **words) as source:
        source.file.read()
    assert SECRET_KEY not in str(caught.value) and URI in caught.value.message
    return caught.value


@given(
    st.lists(st.sampled_from(BUSY), max_size=4),
    st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 200_000)), min_size=1, max_size=5),
    st.booleans(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_bytes_are_right_whatever_breaks_on_the_way(server, faults, reads, has_ranges):
    server.has_ranges, server.faults = has_ranges, deque(faults)
    server.ranges.clear()
    twin = io.BytesIO(DATA)
    with opened(server) as source:
        for place, n_bytes in reads:
            assert source.file.seek(place) == twin.seek(place)
            assert source.file.read(n_bytes) == twin.read(n_bytes)
    used = len(faults) - len(server.faults)
    # Without ranges more is under way than is wanted: what breaks off behind it is not missed.
    assert source.counts.n_retries == used or (not has_ranges and source.counts.n_retries < used)
    assert source.counts.n_requests == len(server.ranges)
    assert source.counts.size_bytes == len(DATA)


@pytest.mark.parametrize("fault", BUSY)
def test_a_fault_is_tried_again_so_many_times_and_no_more(server, fault):
    server.faults = deque([fault] * 3)
    with opened(server, max_retries=3) as source:
        assert source.counts.n_retries == 3
        assert source.file.read(4) == b"RIFF"
    server.faults = deque([fault] * 100)
    server.ranges.clear()
    error = failing(server, max_retries=3)
    assert error.reason == "unreachable" and "after 3 retries" in error.message
    assert len(server.ranges) == 4


@pytest.mark.parametrize("status, reason", [(403, "forbidden"), (404, "not-found"), (400, "unreachable")])
@pytest.mark.parametrize("n_before", [0, 1])
def test_what_the_server_refuses_is_not_asked_again(server, status, reason, n_before):
    server.faults = deque([1.0] * n_before + [status])
    assert failing(server).reason == reason
    assert len(server.ranges) == n_before + 1


def test_a_body_that_breaks_off_is_continued(server):
    server.faults = deque([1.0, 0.5])
    with opened(server) as source:
        assert source.file.read() == DATA
    counts = source.counts
    assert (counts.n_requests, counts.n_retries, counts.n_bytes) == (3, 1, len(DATA))
    half = (HEAD_BYTES + len(DATA)) // 2
    assert server.ranges[2] == f"bytes={half}-{len(DATA) - 1}"


def test_a_connection_is_used_again(server):
    before = server.n_connections
    with opened(server) as source:
        for place in (600_000, 300_000, 0):
            source.file.seek(place)
            source.file.read(1000)
    assert source.counts.n_requests == 3
    assert server.n_connections <= before + 1


@pytest.mark.parametrize("has_conditions", [True, False])
@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("etag, data", [('"2"', bytes(len(DATA))), (None, bytes(len(DATA))), ('"1"', DATA + b"x")])
def test_another_version_is_an_error(server, etag, data, has_ranges, has_conditions):
    with opened(server) as source:
        server.etag, server.data = etag, data
        server.has_ranges, server.has_conditions = has_ranges, has_conditions
        source.file.seek(400_000)
        with pytest.raises(FetchError, match="was replaced") as caught:
            source.file.read(1)
    assert caught.value.reason == "changed"
    assert source.counts.n_retries == 0
    assert server.conditions == [None, '"1"']


def test_a_version_that_is_shorter_is_another(server):
    server.etag = None
    with opened(server) as source:
        server.data = DATA[:HEAD_BYTES]
        with pytest.raises(FetchError, match="was replaced") as caught:
            source.file.read()
    assert caught.value.reason == "changed"


def test_less_than_was_asked_for_is_no_end(server):
    server.faults = deque([1.0, "short", "short"])
    # So near to its end that the socket's timeout is set for each part.
    with opened(server, read_timeout_s=10_000, deadline=time.monotonic() + 1000) as source:
        assert source.file.read() == DATA
    assert source.counts.n_retries == 2


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_an_etag_that_proves_nothing_is_not_demanded(server, etag):
    server.etag = etag
    with opened(server) as source:
        assert source.file.read() == DATA
    assert source.fingerprint == f"{(etag or '').strip(chr(34))}:{len(DATA)}"


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1])
def test_sizes_about_the_first_request(server, size, has_ranges):
    server.data, server.has_ranges = DATA[:size], has_ranges
    with opened(server) as source:
        assert source.file.read() == DATA[:size]
        assert source.file.seek(-1, io.SEEK_END) == max(0, size - 1)
        assert source.file.read() == DATA[max(0, size - 1) : size]
    assert source.counts.size_bytes == size
    assert source.counts.n_requests <= 2


def test_too_large_is_seen_before_a_body_is_read(server):
    server.has_ranges = False
    with pytest.raises(FetchError, match="700004 bytes, 700003 are allowed") as caught:
        opened(server, max_bytes=len(DATA) - 1).__enter__()
    assert caught.value.reason == "too-large" and len(server.ranges) == 1


def test_a_large_object_without_ranges_is_not_kept_in_memory(server, monkeypatch):
    server.data, server.has_ranges = bytes(CACHE_BYTES + 1), False
    with opened(server) as source:
        assert source.file.raw._inner._rolled
        assert source.file.seek(0, io.SEEK_END) == CACHE_BYTES + 1
    assert source.counts.n_requests == 2 and source.file.closed


def clocked(patch, monotonic, sleep=time.sleep):
    patch.setattr(gets, "time", SimpleNamespace(monotonic=monotonic, sleep=sleep))


@pytest.fixture
def waits(monkeypatch):
    """The timeouts that sockets had."""
    found = []
    client = gets.single_try_client

    def spied(config, timeout_s):
        found.append(timeout_s)
        return client(config, timeout_s)

    monkeypatch.setattr(gets, "single_try_client", spied)
    return found


def test_a_server_that_says_nothing_costs_the_time_of_a_read_and_no_more(server, waits):
    server.faults = deque(["stall"] * 100)
    error = failing(server, read_timeout_s=0.5)
    assert error.reason == "timeout" and "no success within 0.5 s" in error.message
    assert len(server.ranges) < 10
    assert max(waits) == 0.125


def test_a_server_that_drips_is_given_up(server, monkeypatch):
    with opened(server, read_timeout_s=60) as source:
        server.faults = deque(["drip"] * 100)
        began = time.monotonic()
        clocked(monkeypatch, lambda: began + 100 * (time.monotonic() - began))
        with pytest.raises(FetchError, match="no success within 60 s") as caught:
            source.file.read()
    assert caught.value.reason == "timeout"
    assert source.counts.n_bytes < HEAD_BYTES + 10_000


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_the_time_of_a_track_ends_its_reads(server, fault, monkeypatch, waits):
    with opened(server, deadline=time.monotonic() + 1000) as source:
        server.faults = deque([fault] * 100)
        waits.clear()
        shift = 1000 - 0.4  # whatever passed since then makes it less
        clocked(monkeypatch, lambda: time.monotonic() + shift)
        with pytest.raises(FetchError, match="in the time that a track has") as caught:
            source.file.read()
    assert caught.value.reason == "timeout"
    assert max(waits, default=0) <= 0.2


def test_a_body_that_hangs_is_waited_for_as_long_as_there_is_time(server, monkeypatch):
    waits, shift, deadline = [], [], time.monotonic() + 1000

    def set_timeout(body, timeout_s, real=StreamingBody.set_socket_timeout):
        waits.append(timeout_s)
        real(body, timeout_s)

    def clock():
        now = time.monotonic()
        if len(server.ranges) == 2 and not shift:  # the answer is there: it is late now
            shift.append(deadline - 0.3 - now)
        return now + sum(shift)

    monkeypatch.setattr(StreamingBody, "set_socket_timeout", set_timeout)
    with opened(server, deadline=deadline, read_timeout_s=2000) as source:
        server.faults = deque(["hang"] * 100)
        clocked(monkeypatch, clock)
        with pytest.raises(FetchError, match="in the time that a track has"):
            source.file.read()
    assert 0 < min(waits) <= max(waits) <= 0.3 + 1e-6


@pytest.mark.parametrize("deadline, time_s", [(None, 60), (30, 30), (90, 60)])
def test_the_pauses_end_with_the_time_that_there_is(server, deadline, time_s, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gets, "_PAUSE_S", 5.0)
    clocked(monkeypatch, lambda: now[0], lambda pause_s: now.append(now.pop() + pause_s))
    monkeypatch.setattr(gets._RANDOM, "uniform", lambda low, high: 0.9 * high)
    server.faults = deque([503] * 100)
    with pytest.raises(FetchError) as caught:
        opened(server, deadline=deadline, max_retries=50, read_timeout_s=60).__enter__()
    assert caught.value.reason == "timeout"
    assert now == [time_s]


def test_nothing_is_asked_of_the_server_when_the_time_is_over(server):
    assert failing(server, deadline=time.monotonic()).reason == "timeout"
    assert server.ranges == []


def test_what_is_already_there_is_not_read_after_the_time_either(server, tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(DATA)
    for uri in (URI, f"{tmp_path}/a.wav"):
        with (
            open_uri(uri, server.config(), max_bytes=1 << 30, deadline=time.monotonic() + 60) as source,
            monkeypatch.context() as patch,
        ):
            assert source.file.read(1000) == DATA[:1000]
            clocked(patch, lambda: time.monotonic() + 61)
            source.file.seek(PAGE_BYTES)
            with pytest.raises(FetchError) as caught:
                source.file.read(1000)
            assert caught.value.reason == "timeout"


def test_pauses_double_and_are_drawn_from_all_that_is_below(server, monkeypatch):
    tops, pauses = [], []
    monkeypatch.setattr(gets, "_PAUSE_S", 0.2)
    clocked(monkeypatch, time.monotonic, pauses.append)

    def uniform(low, high):
        assert low == 0
        tops.append(high)
        return high

    monkeypatch.setattr(gets._RANDOM, "uniform", uniform)
    server.faults = deque([503] * 100)
    failing(server, max_retries=8, read_timeout_s=60)
    assert tops == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8, 8])
    assert pauses == tops
