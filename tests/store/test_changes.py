import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagfleet.errors import NotFoundError
from tagfleet.store.changes import DOCUMENT, change_lines, difference, flipped_tracks
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.rows import failed, prepare, tag, tagged


@pytest.fixture
def local(tmp_path):
    return Predictions(Storage(str(tmp_path / "root")))


def with_genre(track_id, genre, **changes):
    tags = [{"axis": "genre", "label": genre, "probability": 0.75}] if genre else []
    return tagged(track_id, genre=genre, tags=tags, **changes)


def feed(predictions, old, new):
    lines = [json.loads(line) for line in change_lines(predictions, old, new)]
    assert len({line["track_id"] for line in lines}) == len(lines)
    return {line["track_id"]: line for line in lines}


def test_each_kind_of_change_carries_its_rows(local):
    tag(local, ["same", "changed", "gone", failed("mended"), "broken"], "r1", n_catalog=5)
    rows = [with_genre("changed", "jazz"), "mended", failed("broken"), "new"]
    tag(local, rows, "r2", removed=["gone"], n_catalog=5)
    told = feed(local, 1, 2)
    assert {i: line["change"] for i, line in told.items()} == {
        "changed": "changed", "mended": "changed", "broken": "changed", "gone": "removed", "new": "added"
    }  # fmt: skip
    assert (told["changed"]["before"]["genre"], told["changed"]["after"]["genre"]) == ("rock", "jazz")
    assert (told["gone"]["after"], told["new"]["before"]) == (None, None)
    assert list(told["new"]["after"]) == DOCUMENT.names
    assert feed(local, 2, 2) == {}
    back = feed(local, 2, 1)
    assert {i: line["after"] for i, line in back.items()} == {i: line["before"] for i, line in told.items()}


def test_made_again_alike_is_no_change_and_a_probability_is(local):
    tag(local, ["a", "b"], "r1", n_catalog=2)
    tag(local, ["a", tagged("b", genre_probability=0.75 + 2**-20)], "r2", n_catalog=2)
    assert set(feed(local, 1, 2)) == {"b"}


def test_a_staged_snapshot_can_be_looked_at(local):
    tag(local, ["a"], "r1", n_catalog=1)
    local.stage(prepare(local, [with_genre("a", "jazz"), "b"], "night", n_catalog=2))
    assert {i: line["change"] for i, line in feed(local, 1, "night").items()} == {"a": "changed", "b": "added"}
    with pytest.raises(NotFoundError, match="has no snapshot"):
        feed(local, 1, "nobody")


def test_the_first_snapshot_is_all_new(local):
    tag(local, ["a", "b"], "r1", n_catalog=2)
    assert difference(local, 0, 1, ("genre",)).n_added == 2


def test_flows_say_what_became_what(local):
    before = [with_genre(f"{n}", "rock") for n in range(5)] + [with_genre("5", None), failed("6")]
    tag(local, before, "r1", n_catalog=7)
    after = [with_genre("0", "jazz"), with_genre("1", "jazz"), with_genre("2", None), with_genre("5", "rock")]
    tag(local, [*after, failed("3"), with_genre("6", "rock")], "r2", n_catalog=7)
    found = difference(local, 1, 2, ("genre", "mood"))
    assert found.flows == {"genre": [("rock", "jazz", 2), ("rock", "unknown", 1), ("unknown", "rock", 1)], "mood": []}
    assert (found.n_changed, found.n_failed_now, found.n_recovered, found.n_compared) == (6, 1, 1, 4)
    examples = flipped_tracks(local, 1, 2, "genre", 2)
    assert [(t["track_id"], t["before"], t["after"]) for t in examples] == [(i, "rock", "jazz") for i in "01"]


states = st.dictionaries(st.sampled_from(["a", "b", "が", "x'y", 'q"']), st.sampled_from(["rock", "jazz", None]))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states, states)
def test_the_feed_is_the_difference_of_the_two_tables(tmp_path_factory, first, second):
    local = Predictions(Storage(str(tmp_path_factory.mktemp("x"))))
    old = tag(local, [with_genre(i, g) for i, g in first.items()], "r1", n_catalog=len(first))
    made = [with_genre(i, g) for i, g in second.items()]
    new = tag(local, made, "r2", removed=sorted(first.keys() - second.keys()), n_catalog=len(second))
    told = {i: line["change"] for i, line in feed(local, old, new).items()}
    expected = dict.fromkeys(second.keys() - first.keys(), "added")
    expected |= dict.fromkeys(first.keys() - second.keys(), "removed")
    expected |= {i: "changed" for i in first.keys() & second.keys() if first[i] != second[i]}
    assert told == expected
