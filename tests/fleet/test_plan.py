import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import ConflictError, CountsError
from tagfleet.fleet.plan import (
    SNAPSHOT_COLUMNS,
    Plan,
    Touched,
    counts_of,
    create_plan,
    make_work,
    snapshot_rows,
    stored_plan,
)
from tagfleet.schemas import LINEAGE, PLAN, PREDICTIONS, TRACKS, conform
from tagfleet.store.objects import Storage

NOW = {name: name[0] for name in LINEAGE if name != "audio_fingerprint"}
TAGS = [
    {"axis": "genre", "label": "rock", "probability": 0.9},
    {"axis": "instrument", "label": "piano", "probability": 0.6},
]


def tracks(*rows):
    names = ("track_id", "uri", "etag", "size_bytes")
    values = [dict(zip(names, row, strict=True)) for row in rows]
    return conform(pa.Table.from_pylist(values, schema=pa.schema([TRACKS.field(n) for n in names])), TRACKS)


def committed(track_id, uri=None, fingerprint="e:1", **changes):
    """What planning reads of one committed row."""
    row = {"track_id": track_id, "uri": uri or f"/{track_id}", "status": "tagged", "tags": TAGS, "file": "f1.parquet"}
    row |= {**NOW, "audio_fingerprint": fingerprint, **changes}
    return {name: row.get(name) for name in (*SNAPSHOT_COLUMNS, "file")}


def failed(track_id, reason, fingerprint="e:1", uri=None, **changes):
    return committed(track_id, uri, fingerprint, status="failed", error_reason=reason, tags=None, **changes)


def snapshot(*rows, lineage=NOW):
    fields = [PREDICTIONS.field(name) for name in SNAPSHOT_COLUMNS]
    table = pa.Table.from_pylist(list(rows), schema=pa.schema([*fields, pa.field("file", pa.string())]))
    return snapshot_rows(table, lineage)


def told(work):
    rows = zip(*(work[name].to_pylist() for name in ("track_id", "reason", "work")), strict=True)
    return {track_id: f"{reason}/{kind}" for track_id, reason, kind in rows}


def catalogue_of(*ids):
    return tracks(*((i, f"/{i}", "e", 1) for i in ids))


def test_without_a_snapshot_everything_is_new():
    work = make_work(tracks(("b", "/b", "e", 1), ("a", "/a", None, None)), snapshot(), only="stale")
    assert work.schema == PLAN
    assert told(work) == {"a": "new/decode", "b": "new/decode"}
    assert work["track_id"].to_pylist() == ["a", "b"]
    assert counts_of(work["reason"]) == {"new": 2}


def test_each_row_gets_the_cheapest_work_that_is_enough():
    catalog = tracks(
        ("same", "/same", "e", 1),
        ("touched", "/touched", "e2", 1),
        ("moved", "/new", "e", 1),
        ("no-etag", "/no-etag", None, None),
        ("lost", "/lost", "e", 1),
        ("slow", "/slow", "e", 1),
        ("broken", "/broken", "e", 1),
        ("mended", "/mended", "e2", 1),
        ("fresh", "/fresh", "e", 1),
    )
    last = snapshot(
        committed("same"),
        committed("touched"),
        committed("moved", "/old"),
        committed("no-etag"),
        failed("lost", "not-found", None),
        failed("slow", "timeout"),
        failed("broken", "corrupt"),
        failed("mended", "corrupt"),
        committed("gone"),
    )
    expected = {
        "touched": "audio/decode",
        "moved": "moved/stored",
        "no-etag": "audio/decode",
        "lost": "retry/decode",
        "slow": "retry/decode",
        "mended": "audio/decode",
        "fresh": "new/decode",
        "gone": "removed/remove",
    }
    assert told(make_work(catalog, last, only="stale")) == expected
    assert told(make_work(catalog, last, only="changed")) == expected
    assert told(make_work(catalog, last, only="new")) == {"fresh": "new/decode", "gone": "removed/remove"}
    assert told(make_work(catalog, last, only="stale", retry_failed=True)) == expected | {"broken": "retry/decode"}
    every = told(make_work(catalog, last, only="all"))
    assert every == expected | {"moved": "moved/decode", "same": "asked/decode", "broken": "asked/decode"}


@pytest.mark.parametrize(
    ("changed", "tagged", "kept", "broken"),
    [
        ("audio_digest", "audio-path/decode", "audio-path/decode", "audio-path/decode"),
        ("model_id", "model/decode", "model/network", "model/stored"),
        ("backend", "model/decode", "model/network", "model/stored"),
        ("calibration_digest", "thresholds/stored", "thresholds/stored", "thresholds/stored"),
        ("taxonomy_version", "names/stored", "names/stored", "names/stored"),
    ],
)
def test_a_change_of_the_tagger_costs_what_it_must_and_no_more(changed, tagged, kept, broken):
    older = {changed: "older"}
    last = snapshot(
        committed("tagged", **older),
        committed("kept", log_mels="kept/r/1.arrow", **older),
        failed("broken", "corrupt", **older),
    )
    work = make_work(catalogue_of("tagged", "kept", "broken"), last, only="stale")
    assert told(work) == {"tagged": tagged, "kept": kept, "broken": broken}
    assert make_work(catalogue_of("tagged", "kept", "broken"), last, only="changed").num_rows == 0


@pytest.mark.parametrize("changed", sorted(NOW))
def test_all_means_from_the_audio_on_whatever_else_would_be_enough(changed):
    last = snapshot(committed("a", log_mels="kept/r/1.arrow", **{changed: "older"}), failed("b", "corrupt"))
    work = told(make_work(catalogue_of("a", "b"), last, only="all"))
    assert {text.partition("/")[2] for text in work.values()} == {"decode"} and len(work) == 2


@pytest.mark.parametrize(
    ("changed", "tagged", "kept", "broken"),
    [
        ("audio_digest", "decode", "decode", "decode"),
        ("model_id", "decode", "network", "stored"),
        ("taxonomy_version", "stored", "stored", "stored"),
    ],
)
def test_what_moved_is_changed_though_another_tagger_made_it_too(changed, tagged, kept, broken):
    """Its row becomes one of the tagger in use: for that, what is stored must be enough."""
    older = {changed: "older"}
    last = snapshot(
        committed("tagged", "/old", **older),
        committed("kept", "/old", log_mels="kept/r/1.arrow", **older),
        failed("broken", "corrupt", uri="/old", **older),
        committed("stays", **older),
    )
    work = told(make_work(catalogue_of("tagged", "kept", "broken", "stays"), last, only="changed"))
    assert work == {"tagged": f"moved/{tagged}", "kept": f"moved/{kept}", "broken": f"moved/{broken}"}


@given(st.sets(st.sampled_from(sorted(NOW)), min_size=1))
def test_of_several_changes_the_deepest_decides(changed):
    last = snapshot(committed("a", "/elsewhere", **dict.fromkeys(changed, "older")))
    reason = told(make_work(catalogue_of("a"), last, only="stale"))["a"]
    order = ("audio_digest", "model_id", "backend", "calibration_digest", "taxonomy_version")
    deepest = min(changed, key=order.index)
    names = {"audio_digest": "audio-path", "calibration_digest": "thresholds", "taxonomy_version": "names"}
    assert reason.split("/")[0] == names.get(deepest, "model")


def test_a_row_carries_what_it_was_where_it_lies_and_who_said_so():
    last = snapshot(
        committed("a", model_id="older"), committed("b", calibration_digest="older"), failed("c", "timeout")
    )
    rows = {row["track_id"]: row for row in make_work(catalogue_of("a", "b", "c", "d"), last, only="stale").to_pylist()}
    assert [rows[i]["was"] for i in "abcd"] == ["genre:rock instrument:piano"] * 2 + [None, None]
    assert [rows[i]["same_model"] for i in "abcd"] == [False, True, True, False]
    assert [rows[i]["file"] for i in "abcd"] == ["f1.parquet"] * 3 + [None]


ids = st.sets(st.text(min_size=1, max_size=3), max_size=12)


@given(ids, ids)
def test_every_id_of_either_side_is_accounted_for_once(now, before):
    work = make_work(catalogue_of(*sorted(now)), snapshot(*map(committed, sorted(before))), only="stale")
    reasons = dict(zip(work["track_id"].to_pylist(), work["reason"].to_pylist(), strict=True))
    assert reasons == dict.fromkeys(now - before, "new") | dict.fromkeys(before - now, "removed")
    assert work.num_rows == len(reasons)


def test_an_id_that_stands_twice_is_refused():
    with pytest.raises(CountsError, match="'a' stands twice in the catalogue"):
        make_work(catalogue_of("a", "b", "a"), snapshot(), only="stale")
    with pytest.raises(CountsError, match="'a' stands twice in the predictions"):
        make_work(catalogue_of("a"), snapshot(committed("a"), committed("a")), only="stale")


def plan_of(run_id="r1", **changes):
    facts = {
        "run_id": run_id,
        "model": "m:1",
        "model_id": "m",
        "lineage": NOW,
        "backend": "torch",
        "only": "stale",
        "catalog_version": 0,
        "base_version": None,
        "n_catalog": 1,
        "n_base": 0,
        "planned_at": "2026-11-23T18:00:00+00:00",
        "reasons": {"new": 1},
        "work": {"decode": 1},
        "n_waiting": 0,
        "n_left": 0,
        "id_checksum": 2**64 - 1,
        "before": {},
        "n_before": 0,
        "leaving": {},
        "n_leaving": 0,
        "touched": {"f.parquet": Touched(n_gone=1, n_stored=2)},
    }
    return Plan(**facts | changes)


def test_of_two_starts_of_one_run_both_get_the_first_plan(tmp_path):
    root = Storage(str(tmp_path))
    first, second = plan_of(), plan_of(model="m:2")
    assert stored_plan(root, "r1") is None
    assert create_plan(root, first) == first
    assert create_plan(root, second) == first == stored_plan(root, "r1")


def test_a_plan_of_another_tagfleet_is_refused(tmp_path):
    root = Storage(str(tmp_path))
    root.write("runs/r1/plan.json", json.dumps({"run_id": "r1", "model": "m:1"}).encode())
    with pytest.raises(ConflictError, match="planned by another tagfleet"):
        stored_plan(root, "r1")
