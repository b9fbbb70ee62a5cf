import io
from unittest import mock

import hypothesis.strategies as st
from hypothesis import given

from tagfleet.store import ranged
from tagfleet.store.ranged import CACHE_BYTES, GET_BYTES, HEAD_BYTES, PAGE_BYTES, RangedFile

SMALL = {"PAGE_BYTES": 16, "GET_BYTES": 64, "CACHE_BYTES": 96, "_MIN_AHEAD_BYTES": 32, "_MAX_AHEAD_BYTES": 48}
PLACES = st.integers(0, 700)
ACTIONS = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 200) | st.just(-1)),
    st.tuples(st.just("seek"), PLACES),
    st.tuples(st.just("seek"), PLACES.map(lambda n: -n), st.just(io.SEEK_END)),
    st.tuples(st.just("seek"), st.integers(0, 40), st.just(io.SEEK_CUR)),
    st.tuples(st.just("tell")),
    st.tuples(st.just("readinto"), st.integers(0, 100)),
)


class Source:
    """Gives ranges, and keeps what was asked for."""

    def __init__(self, data):
        self.data, self.gets = data, []

    def get(self, begin, end):
        assert 0 <= begin < end <= len(self.data)
        self.gets.append((begin, end))
        return self.data[begin:end]

    def open(self, n_head=HEAD_BYTES):
        return RangedFile(self.get, len(self.data), self.data[:n_head])


def did(file, action, *words):
    if action == "readinto":
        buffer = bytearray(words[0])
        return file.readinto(buffer), bytes(buffer)
    return getattr(file, action)(*words)


@given(st.binary(min_size=1, max_size=600), st.integers(0, 80), st.lists(ACTIONS, max_size=30), st.booleans())
def test_it_is_the_file_whatever_is_done_and_holds_no_more_than_it_may(data, n_head, actions, buffered):
    with mock.patch.multiple(ranged, **SMALL):
        source = Source(data)
        file = raw = source.open(n_head)
        if buffered:
            file = io.BufferedReader(raw, 16)
        twin = io.BytesIO(data)
        for action in actions:
            assert did(file, *action) == did(twin, *action), action
            assert sum(map(len, raw._pages.values())) <= 96
        assert all(end - begin <= 64 for begin, end in source.gets)


def test_a_read_costs_one_request_and_fetches_ahead():
    source = Source(bytes(64 << 20))
    file = source.open()
    file.read(1000)
    assert source.gets == []
    file.seek(20 << 20)
    for _ in range(16):
        file.read(PAGE_BYTES)
    assert source.gets == [(20 << 20, 21 << 20)]


def test_reading_in_sequence_fetches_twice_as_much_each_time_and_a_seek_begins_anew():
    source = Source(bytes(64 << 20))
    file = source.open()
    for _ in range(400):
        file.read(PAGE_BYTES)
    sizes = [(end - begin) >> 20 for begin, end in source.gets]
    assert sizes[:5] == [1, 1, 2, 4, 8] and max(sizes) == GET_BYTES >> 20
    file.seek(50 << 20)
    file.read(PAGE_BYTES)
    assert source.gets[-1] == (50 << 20, 51 << 20)


def test_what_is_there_is_not_fetched_again_and_neighbours_come_together():
    source = Source(bytes(64 << 20))
    file = source.open()
    file.seek(10 << 20)
    file.read(1)
    file.seek((10 << 20) - 3 * PAGE_BYTES)
    file.read(10 * PAGE_BYTES)
    assert source.gets == [(10 << 20, 11 << 20), ((10 << 20) - 3 * PAGE_BYTES, 10 << 20)]
    file.seek((12 << 20) + 5)
    file.read(3 << 20)
    assert source.gets[2:] == [(12 << 20, 15 << 20 | PAGE_BYTES)]


def test_of_a_large_file_no_more_is_kept_than_allowed():
    source = Source(bytes(CACHE_BYTES + (20 << 20)))
    file = source.open()
    while file.read(1 << 20):
        assert len(file._pages) * PAGE_BYTES <= CACHE_BYTES
    assert sum(end - begin for begin, end in source.gets) == len(source.data) - HEAD_BYTES
    file.close()
    assert not file._pages


def test_what_is_used_again_and_again_is_kept_longest():
    source = Source(bytes(100 << 20))
    file = source.open()
    for place in range(0, 100 << 20, 1 << 20):
        file.seek(place)
        file.read(1 << 20)
        file.seek(0)
        file.read(HEAD_BYTES)
    assert min(begin for begin, _ in source.gets[1:]) > HEAD_BYTES
