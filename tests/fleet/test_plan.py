import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.fleet.plan import REMOVED, RETRY, Plan, count_reasons, make_work, store_plan, stored_plan
from tagfleet.schemas import LINEAGE, PLAN, TRACKS, conform
from tagfleet.store.objects import Storage

NOW = {"audio_digest": "a", "model_id": "m", "calibration_digest": "c", "taxonomy_version": "t"}


def tracks(*rows):
    return conform(
        pa.Table.from_pylist(
            [dict(zip(("track_id", "uri", "etag", "size_bytes"), row, strict=True)) for row in rows],
            schema=pa.schema([TRACKS.field(n) for n in ("track_id", "uri", "etag", "size_bytes")]),
        ),
        TRACKS,
    )


def snapshot(*rows, **lineage):
    names = ("track_id", "uri", "audio_fingerprint")
    values = [{**NOW, **lineage, **dict(zip(names, row, strict=True))} for row in rows]
    return pa.Table.from_pylist(
        values, schema=pa.schema([pa.field(n, pa.string()) for n in ("track_id", "uri", *LINEAGE)])
    )


def reasons(work):
    return dict(zip(work["track_id"].to_pylist(), work["reason"].to_pylist(), strict=True))


def test_without_a_snapshot_everything_is_new():
    work = make_work(tracks(("b", "/b", "e", 1), ("a", "/a", None, None)), None, NOW, "stale")
    assert work.schema == PLAN
    assert work["track_id"].to_pylist() == ["a", "b"]
    assert count_reasons(work) == {"new": 2}


def test_each_row_is_made_again_for_its_own_reason():
    catalog = tracks(
        ("same", "/same", "e", 1),
        ("touched", "/touched", "e2", 1),
        ("moved", "/new", "e", 1),
        ("no-etag", "/x", None, None),
        ("lost", "/lost", "e", 1),
        ("fresh", "/f", "e", 1),
    )
    last = snapshot(
        ("same", "/same", "e:1"),
        ("touched", "/touched", "e:1"),
        ("moved", "/old", "e:1"),
        ("no-etag", "/x", "e:1"),
        ("lost", "/lost", None),
        ("gone", "/gone", "e:1"),
    )
    assert reasons(make_work(catalog, last, NOW, "stale")) == {
        "touched": "audio",
        "moved": "audio",
        "no-etag": "audio",
        "lost": RETRY,
        "fresh": "new",
        "gone": REMOVED,
    }
    assert reasons(make_work(catalog, last, NOW, "new")) == {"fresh": "new", "gone": REMOVED}
    assert reasons(make_work(catalog, last, NOW, "all"))["same"] == "asked"


@pytest.mark.parametrize("name", list(NOW))
def test_another_tagger_makes_every_row_stale(name):
    catalog = tracks(("same", "/same", "e", 1))
    last = snapshot(("same", "/same", "e:1"), **{name: "older"})
    assert reasons(make_work(catalog, last, NOW, "stale")) == {"same": "tagger"}
    assert reasons(make_work(catalog, last, NOW, "changed")) == {}


ids = st.sets(st.text(min_size=1, max_size=3), max_size=12)


@given(ids, ids)
def test_every_id_of_either_side_is_accounted_for_once(now, before):
    catalog = tracks(*((i, f"/{i}", "e", 1) for i in sorted(now)))
    last = snapshot(*((i, f"/{i}", "e:1") for i in sorted(before)))
    work = reasons(make_work(catalog, last, NOW, "stale"))
    assert work == dict.fromkeys(now - before, "new") | dict.fromkeys(before - now, REMOVED)


def plan_of(work, run_id="r1", model="m:1"):
    return Plan(
        run_id=run_id,
        model=model,
        model_id="m",
        catalog_version=0,
        base_version=None,
        n_catalog=work.num_rows,
        planned_at="2026-11-23T18:00:00+00:00",
        reasons=count_reasons(work),
        work=work,
    )


def test_of_two_starts_of_one_run_both_get_the_first_plan(tmp_path):
    root = Storage(str(tmp_path))
    first = plan_of(make_work(tracks(("a", "/a", "e", 1)), None, NOW, "stale"))
    second = plan_of(make_work(tracks(("b", "/b", "e", 1)), None, NOW, "stale"), model="m:2")
    assert stored_plan(root, "r1") is None
    assert store_plan(root, first) == first
    assert store_plan(root, second) == first == stored_plan(root, "r1")
