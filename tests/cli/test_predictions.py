"""`tagfleet predictions …` as typed: what moved, the feed, publishing what waits, exports, cleaning up."""

import json

import pytest

from tagfleet.cli.main import exit_code
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.rows import failed, prepare, tag, tagged


def of(track_id, genre):
    said = [{"axis": "genre", "label": genre, "probability": 0.75}]
    return tagged(track_id, genre=genre, tags=said, probabilities=said)


@pytest.fixture
def predictions(tmp_path):
    """Version 1: a and b rock, c failed; version 2: a jazz, b gone, d new; a run "held" that waits for a person."""
    predictions = Predictions(Storage(str(tmp_path / "root")))
    tag(predictions, [of("a", "rock"), of("b", "rock"), failed("c")], "r1", n_catalog=3)
    tag(predictions, [of("a", "jazz"), of("d", "rock")], "r2", removed=["b"], n_catalog=3)
    predictions.stage(prepare(predictions, [of("d", "folk")], "held", n_catalog=3))
    return predictions


@pytest.fixture
def call(predictions, capsys):
    def call(*words, code=0):
        capsys.readouterr()
        assert exit_code(["--root", predictions.root.root, "predictions", *words]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return call


def feed(text):
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(set(line) == {"track_id", "change", "before", "after"} for line in lines)
    return {line["track_id"]: line for line in lines}


def test_diff_says_what_moved_between_the_last_two_versions(call):
    found = json.loads(call("diff", "--json"))
    counts = {name: found["difference"][name] for name in ("n_added", "n_changed", "n_removed")}
    assert counts == {"n_added": 1, "n_changed": 1, "n_removed": 1}
    assert found["difference"]["flows"]["genre"] == [["rock", "jazz", 1]]
    text = call("diff", "1", "2")
    assert "rock -> jazz" in text


def test_diff_and_changes_know_a_snapshot_that_waits(call):
    assert json.loads(call("diff", "2", "held", "--json"))["difference"]["flows"]["genre"] == [["rock", "folk", 1]]
    assert feed(call("changes", "2", "held")) == feed(call("changes", "r2", "held"))
    assert feed(call("changes", "r1", "r2")) == feed(call("changes", "1", "2"))
    assert "no version 9" in call("diff", "9", code=1)
    assert "nobody" in call("changes", "1", "nobody", code=1)


def test_the_feed_has_each_track_that_differs_before_and_after(call):
    told = feed(call("changes"))
    assert {name: line["change"] for name, line in told.items()} == {"a": "changed", "b": "removed", "d": "added"}
    assert (told["a"]["before"]["genre"], told["a"]["after"]["genre"]) == ("rock", "jazz")
    assert told["b"]["after"] is told["d"]["before"] is None


def test_publishing_what_waited_is_one_more_version(call, predictions):
    assert json.loads(call("publish", "held", "--json")) == {"version": 3, "run_id": "held"}
    assert predictions.show("d")["genre"] == "folk"
    assert "r9" in call("publish", "r9", code=1)


@pytest.mark.parametrize("format_", ["parquet", "ndjson", "csv"])
def test_an_export_names_what_it_has_made(call, tmp_path, format_):
    made = json.loads(call("export", format_, str(tmp_path / "out"), "--json"))
    latest = json.loads((tmp_path / "out" / "latest.json").read_text(encoding="utf-8"))
    assert (made["version"], made["n_rows"], latest["version"]) == (2, 3, 2)
    assert (tmp_path / "out" / latest["path"]).exists()


def test_an_export_of_differences_is_for_ndjson_alone(call, tmp_path):
    made = json.loads(call("export", "ndjson", str(tmp_path / "out"), "--since", "1", "--index", "tracks", "--json"))
    assert (made["n_rows"], made["n_deleted"]) == (2, 1)
    assert "are for ndjson" in call("export", "csv", str(tmp_path / "other"), "--since", "1", code=2)


def test_cleaning_up_first_says_what_it_would_do(call, predictions):
    before = {info.key for info in predictions.root.list("predictions")}
    planned = json.loads(call("vacuum", "--older-than", "0", "-n", "--json"))
    assert {info.key for info in predictions.root.list("predictions")} == before
    assert planned["n_files"] and json.loads(call("vacuum", "--older-than", "0", "--json")) == planned
    left = {info.key for info in predictions.root.list("predictions") if info.key.endswith(".parquet")}
    assert left < before
    assert "no longer kept" in call("show", "a", "--version", "1", code=1)
    assert json.loads(call("show", "a", "--json"))["genre"] == "jazz"


def test_compacting_keeps_every_row(call, predictions):
    assert "held: what was made on version 2 could not be published" in call("compact", code=1)
    call("publish", "held")
    rows = predictions.table.read().sort_by("track_id")
    done = json.loads(call("compact", "--json"))
    assert done["n_after"] == 1 < done["n_before"]
    assert predictions.table.read().sort_by("track_id") == rows
