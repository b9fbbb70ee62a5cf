"""The plan is the same however the tables are cut: in this process, and bucket by bucket."""

import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.fleet.plan import SNAPSHOT_COLUMNS
from tagfleet.fleet.plan_run import Counting, in_files
from tagfleet.fleet.planning import Comparing, Group, Joining, Splitting, plan_work, priority, split_rows
from tagfleet.fleet.resources import RayConfig
from tagfleet.schemas import PREDICTIONS, TRACKS
from tagfleet.store.objects import Storage
from tagfleet.store.tables import DataFile
from tests.fleet.test_plan import NOW, catalogue_of, committed, failed, make_work, snapshot, tracks

GA = [unicodedata.normalize(form, "が") for form in ("NFC", "NFD")]
"""Two ids."""
AXES = ("genre", "instrument")
KNOWN = [PREDICTIONS.field(name) for name in SNAPSHOT_COLUMNS]


def files_of(root, side, tables):
    found = []
    for n, rows in enumerate(tables):
        path = root.uri(f"{side}/{n}.parquet")
        root.write(f"{side}/{n}.parquet", b"")
        pq.write_table(rows, path)
        found.append(DataFile(path=f"{n}.parquet", size_bytes=1, n_rows=rows.num_rows))
    return found


def library(root):
    """A catalogue and a snapshot in some files each, with every kind of difference."""
    catalog = [catalogue_of(*(f"t{n}" for n in range(a, a + 40))) for a in (0, 40, 80)]
    catalog.append(tracks((GA[0], "/ga", "e2", 1), (GA[1], "/ga", "e", 1)))
    rows = [committed(f"t{n}") if n % 7 else failed(f"t{n}", "timeout") for n in range(30, 150)]
    rows += [committed(GA[0], "/ga"), committed(GA[1], "/elsewhere")]
    known = [pa.Table.from_pylist(rows[a::3], schema=pa.schema(KNOWN)) for a in range(3)]
    return files_of(root, "catalog", catalog), files_of(root, "predictions", known)


def comparing(root, only="stale"):
    return Comparing(root=root, lineage=NOW, axes=AXES, only=only, retry_failed=False)


def by_buckets(root, catalog, known, n_buckets):
    """What Ray's tasks do, one after the other."""
    compare = comparing(root)
    split = Splitting(comparing=compare, n_buckets=n_buckets, folder="runs/x/exchange")
    join = Joining(comparing=compare, folder="runs/x/exchange")
    groups = [
        Group(side=side, files=(file,))
        for side, files in (("catalog", catalog), ("predictions", known))
        for file in files
    ]
    pieces = {}
    for group in groups:
        for bucket, key in split(group)["pieces"].items():
            pieces.setdefault(bucket, []).append(key)
    tables = [pq.read_table(pa.BufferReader(root.read(join(gathered)))) for gathered in sorted(pieces.items())]
    return pa.concat_tables(tables).sort_by("track_id"), len(pieces)


def test_bucket_by_bucket_gives_the_same_plan(tmp_path):
    root = Storage(str(tmp_path))
    catalog, known = library(root)
    (whole, before), *rest = plan_work(comparing(root), catalog, known, "r", RayConfig())
    assert not rest and whole.num_rows > 60
    assert before.n_tagged == sum(n % 7 > 0 for n in range(30, 150)) + 2
    assert before.labels["genre"] == {"rock": before.n_tagged}
    for n_buckets in (1, 5, 64):
        cut, n_used = by_buckets(root, catalog, known, n_buckets)
        assert cut.equals(whole)
        assert n_used > 1 or n_buckets == 1


def test_on_ray_too_and_nothing_is_left_behind(tmp_path, ray_local, monkeypatch):
    root = Storage(str(tmp_path))
    catalog, known = library(root)
    [(whole, before)] = plan_work(comparing(root), catalog, known, "r", RayConfig())
    monkeypatch.setattr("tagfleet.fleet.planning.ROWS_IN_PROCESS", 0)
    monkeypatch.setattr("tagfleet.fleet.planning.ROWS_PER_BUCKET", 50)
    monkeypatch.setattr("tagfleet.fleet.planning.ROWS_PER_GROUP", 50)
    cut = list(plan_work(comparing(root), catalog, known, "r", RayConfig()))
    assert len(cut) > 3
    assert pa.concat_tables([rows for rows, _ in cut]).sort_by("track_id").equals(whole)
    assert sum(part.n_tagged for _, part in cut) == before.n_tagged
    assert list(root.list("runs")) == []


@given(st.sets(st.text(max_size=4), max_size=30), st.integers(1, 9))
def test_every_row_is_in_exactly_one_bucket_and_always_the_same(ids, n_buckets):
    rows = pa.table({"track_id": pa.array(sorted(ids), pa.string())})
    cut = dict(split_rows(rows, n_buckets))
    assert sorted(i for part in cut.values() for i in part["track_id"].to_pylist()) == sorted(ids)
    again = dict(split_rows(rows.sort_by([("track_id", "descending")]), n_buckets))
    assert {n: set(part["track_id"].to_pylist()) for n, part in cut.items()} == {
        n: set(part["track_id"].to_pylist()) for n, part in again.items()
    }


def test_the_bucket_of_an_id_never_changes():
    buckets = {
        part["track_id"][0].as_py(): n for n, part in split_rows(pa.table({"track_id": ["001", "7", "が"]}), 1000)
    }
    assert buckets == {"001": 230, "7": 255, "が": 226}


def counted(limit, *buckets):
    counting = Counting(axes=AXES, limit=limit)
    nothing = comparing(Storage("/nowhere")).known(snapshot())
    rows = pa.concat_tables(counting.counted(iter([(bucket, nothing) for bucket in buckets])))
    return counting, rows


def work_of(new=(), retried=(), moved=(), gone=()):
    last = snapshot(
        *(failed(i, "timeout") for i in retried), *(committed(i, "/old") for i in moved), *(committed(i) for i in gone)
    )
    return make_work(catalogue_of(*new, *retried, *moved), last, only="stale")


def test_a_limit_takes_new_tracks_first_and_touches_only_what_is_heard():
    work = work_of(new=["n1", "n2"], retried=["a1", "a2"], moved=["m"], gone=["g"])
    counting, rows = counted(3, work)
    assert set(rows["track_id"].to_pylist()) == {"n1", "n2", "a1", "m", "g"}
    assert (counting.n_left, counting.n_waiting) == (1, 0)
    counting, rows = counted(1, work)
    assert set(rows["track_id"].to_pylist()) == {"n1", "m", "g"}
    assert (counting.n_left, counting.n_waiting, counting.reasons["new"]) == (3, 1, 1)
    assert counting.touched == {"f1.parquet": [1, 1]}
    counting, rows = counted(0, work)
    assert rows["track_id"].to_pylist() == ["g", "m"]


@settings(max_examples=30)
@given(st.integers(0, 12), st.lists(st.sampled_from("nra"), max_size=10))
def test_a_limit_over_buckets_leaves_exactly_the_rest(limit, kinds):
    half = len(kinds) // 2
    buckets = [
        work_of(
            new=[f"{b}{i}" for i, k in enumerate(part) if k == "n"],
            retried=[f"{b}{i}" for i, k in enumerate(part) if k != "n"],
        )
        for b, part in (("x", kinds[:half]), ("y", kinds[half:]))
    ]
    counting, rows = counted(limit, *buckets)
    assert rows.num_rows == min(limit, len(kinds))
    assert counting.n_left == len(kinds) - rows.num_rows
    assert counting.n_waiting == kinds.count("n") - (counting.reasons["new"])


def test_small_buckets_share_a_file_and_large_ones_are_cut(monkeypatch):
    monkeypatch.setattr("tagfleet.fleet.plan_run.ROWS_PER_FILE", 10)
    rows = work_of(new=[f"{n:02d}" for n in range(25)])
    sizes = [part.num_rows for part in in_files(iter([rows.slice(0, 3), rows.slice(3, 4), rows.slice(7)]))]
    assert sizes == [10, 10, 5]
    assert list(in_files(iter([]))) == []


def test_the_order_of_a_limit_is_new_first_then_by_id():
    work = work_of(new=["c", "b"], retried=["a"])
    assert work.take(priority(work))["track_id"].to_pylist() == ["b", "c", "a"]


def test_the_columns_that_are_read_are_there():
    assert set(SNAPSHOT_COLUMNS) <= set(PREDICTIONS.names)
    assert {"track_id", "uri", "etag", "size_bytes"} <= set(TRACKS.names)
