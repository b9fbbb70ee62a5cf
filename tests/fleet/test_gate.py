import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.fleet.gate import gate_values, stability_index
from tagfleet.fleet.resources import GateConfig

counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1000), min_size=1)


@given(counts, counts)
def test_the_index_is_a_symmetric_distance(before, after):
    index = stability_index(before, after)
    assert index >= 0
    assert index == pytest.approx(stability_index(after, before), abs=1e-12)
    assert stability_index(before, before) == 0


def test_the_index_of_a_worked_example():
    # p = (0.5, 0.5), q = (0.6, 0.4): 0.1 ln 1.2 - 0.1 ln 0.8 = 0.04055
    assert stability_index({"a": 50_000, "b": 50_000}, {"a": 60_000, "b": 40_000}) == pytest.approx(0.04055, abs=1e-4)


def values(before, after, flips=None, **config):
    n = [sum(labels["genre"].values()) for labels in (before, after)]
    config = GateConfig(**{"min_tracks": 100} | config)
    return {value.what: value for value in gate_values(before, after, *n, flips or {}, config)}


def refused(*given, **config):
    return {what for what, value in values(*given, **config).items() if value.refused}


def test_each_value_is_held_to_its_own_bound():
    even = {"genre": {"rock": 500, "jazz": 500}}
    assert refused(even, {"genre": {"rock": 520, "jazz": 480}}, {"genre": (1000, 20)}) == set()
    assert refused(even, {"genre": {"rock": 900, "jazz": 100}}) == {"stability-index"}
    vaguer = {"genre": {"rock": 440, "jazz": 440, "unknown": 120}}
    assert refused(even, vaguer, max_stability_index=9) == {"unknown-rise"}
    assert refused(even, even, {"genre": (1000, 101)}) == {"flips"}
    assert refused(even, even, {"genre": (1000, 100)}) == set()


def test_little_data_and_nothing_to_compare_with_refuse_nothing():
    few, other = {"genre": {"rock": 50, "jazz": 49}}, {"genre": {"rock": 1, "jazz": 998}}
    assert values(few, other, {"genre": (99, 99)})["stability-index"].value is None
    assert refused(few, other, {"genre": (99, 99)}) == set()
    assert {v.value for v in gate_values({}, other, 0, 999, {}, GateConfig())} == {None}


def test_an_axis_that_is_new_is_compared_with_nothing():
    """The rows of before have no label on it: all of them look unknown."""
    before, after = {"genre": {"unknown": 1000}}, {"genre": {"rock": 1000}}
    assert refused(before, after) == set()
    assert values(before, after)["stability-index"].value is None
    assert refused({"genre": {"unknown": 999, "rock": 1}}, after) == {"stability-index"}


def test_a_snapshot_of_far_fewer_tracks_is_refused_however_few_are_left():
    before = {"genre": {"rock": 1000}}
    for n, expected in ((1000, set()), (800, set()), (799, {"tagged-fall"}), (1, {"tagged-fall"})):
        assert refused(before, {"genre": {"rock": n}}) == expected
    assert refused(before, {"genre": {}}) == {"tagged-fall"}
    assert refused({"genre": {"rock": 99}}, {"genre": {}}) == set()
    assert refused(before, {"genre": {"rock": 100}}, max_tagged_fall=0.9) == set()


def test_a_refused_value_says_what_was_found_and_allowed():
    even = {"genre": {"rock": 500, "jazz": 500}}
    told = str(values(even, {"genre": {"rock": 900, "jazz": 100}})["stability-index"])
    assert told == "genre stability-index 0.876 > 0.25 (1000 tracks)"
