"""The checker is told of each kind of damage, made by hand, and finds it."""

import io
import json
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.bucket import Bucket
from tests.chaos.check import check, heard_again, left_behind, orphans
from tests.chaos.reader import Reader
from tests.chaos.rules import Entry
from tests.chaos.table import open_snapshot, read_rows

ROOT = "根 #1?50%&a+b"
LINEAGE = {"model_id": "m2"}
IDS = ("a", "が", "c")


def parquet(rows):
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


def row(track_id, run_id="r1", model_id="m2", probability=0.25):
    known = {"track_id": track_id, "audio_fingerprint": f"e-{track_id}:7", "model_id": model_id}
    return {**known, "genre_probability": probability, "run_id": run_id}


EXPECTED = {track_id: row(track_id, run_id="reference") for track_id in IDS}


class Made:
    """A root whose tables are written by hand."""

    def __init__(self, bucket):
        self.bucket = bucket
        self.n_files = 0

    def commit(self, version, rows=(), removed=(), run_id=None, table="predictions"):
        path = f"run-1/{table} {self.n_files}.parquet"
        self.n_files += 1
        actions = [{"remove": {"path": quote(name), "dataChange": True}} for name in removed]
        if rows:
            self.bucket.put({f"{ROOT}/{table}/{path}": parquet(rows)})
            actions.append({"add": {"path": quote(path), "size": 1, "partitionValues": {}, "dataChange": True}})
        if run_id:
            actions.append({"txn": {"appId": run_id, "version": version}})
        log = "\n".join(map(json.dumps, [{"commitInfo": {}}, *actions])).encode()
        self.bucket.put({f"{ROOT}/{table}/_delta_log/{version:020d}.json": log})
        return path

    def findings(self):
        return check(self.bucket, ROOT, EXPECTED, LINEAGE)


@pytest.fixture
def made(s3, bucket):
    made = Made(Bucket(bucket, s3.endpoint_url))
    made.commit(0, [{"track_id": i, "etag": f"e-{i}", "size_bytes": 7} for i in IDS], table="catalog")
    return made


@pytest.fixture
def old(made):
    return made.commit(0, [row(i, run_id="r0", model_id="m1") for i in IDS], run_id="r0")


def test_nothing_is_found_where_nothing_is_wrong(made, old):
    made.commit(1, [row(i) for i in IDS], removed=[old], run_id="r1")
    assert made.findings().fine
    assert orphans(made.bucket, f"{ROOT}/predictions") == []


@pytest.mark.parametrize(
    ("rows", "lost", "doubled", "wrong"),
    [
        ([row("a"), row("c")], ("が",), (), ""),
        ([*map(row, IDS), row("a")], (), ("a",), ""),
        ([*map(row, IDS), row("stranger")], (), ("stranger",), ""),
        ([row("a"), row("が"), row("c", probability=0.25000003)], (), (), "c: genre_probability"),
        ([row("a"), row("が"), row("c", model_id="m1")], (), (), "c: model_id"),
        ([row("a"), row("が"), {**row("c"), "audio_fingerprint": "e-a:7"}], (), (), "c: audio_fingerprint"),
    ],
)
def test_each_damage_is_found(made, old, rows, lost, doubled, wrong):
    made.commit(1, rows, removed=[old], run_id="r1")
    found = made.findings()
    assert (found.lost, found.doubled) == (lost, doubled)
    assert any(problem.startswith(wrong) for problem in found.wrong) if wrong else not found.wrong
    assert not found.fine


def test_old_rows_that_stay_beside_new_ones_are_found(made, old):
    made.commit(1, [row(i) for i in IDS], run_id="r1")
    assert made.findings().doubled == tuple(sorted(IDS))


def test_a_run_that_committed_twice_is_found(made, old):
    first = made.commit(1, [row(i) for i in IDS], removed=[old], run_id="r1")
    made.commit(2, [row(i) for i in IDS], removed=[first], run_id="r1")
    assert made.findings().wrong == ("run r1 committed 2 times",)


def test_files_that_no_version_has_are_orphans(made, old):
    made.commit(1, [row(i) for i in IDS], removed=[old], run_id="r1")
    made.bucket.put({f"{ROOT}/predictions/run-1/left.parquet": b"1"})
    assert orphans(made.bucket, f"{ROOT}/predictions") == ["run-1/left.parquet"]


def test_what_a_vacuum_should_have_taken_is_found(made, old):
    new = made.commit(1, [row(i) for i in IDS], removed=[old], run_id="r1")
    made.bucket.put({f"{ROOT}/runs/r1/plan/0.parquet": b"1", f"{ROOT}/runs/r1/run.json": b"1"})
    assert left_behind(made.bucket, ROOT) == sorted([f"{ROOT}/runs/r1/plan/0.parquet", old])
    assert new not in left_behind(made.bucket, ROOT)


def test_a_log_is_read_from_its_checkpoint(made, old):
    new = made.commit(1, [row(i) for i in IDS], removed=[old], run_id="r1")
    kept = [{"add": {"path": quote(new)}, "txn": None}, {"add": None, "txn": {"appId": "r1", "version": 1}}]
    made.bucket.put({f"{ROOT}/predictions/_delta_log/{1:020d}.checkpoint.parquet": parquet(kept)})
    made.bucket.delete([f"{ROOT}/predictions/_delta_log/{0:020d}.json"])
    snapshot = open_snapshot(made.bucket, f"{ROOT}/predictions")
    assert (snapshot.version, snapshot.files, snapshot.runs) == (1, {new}, {"r1": 1})
    assert set(read_rows(made.bucket, f"{ROOT}/predictions")) == set(IDS)


def test_readers_know_half_a_snapshot(made, old):
    reader = Reader(made.bucket, ROOT, {frozenset(IDS)})
    reader.look()
    assert (reader.seen, reader.problems) == ([0], [])
    half = made.commit(1, [row("a")], removed=[old], run_id="r1")
    reader.look()
    assert reader.problems.pop() == "version 1 has 1 rows, which is no catalogue's"
    made.commit(2, [row("が", model_id="m1"), row("c")], run_id="r2")
    reader.look()
    assert reader.problems.pop() == "version 2 is of 2 models"
    made.bucket.delete([f"{ROOT}/predictions/{half}"])
    made.commit(3, run_id="r3")
    reader.look()
    assert "NoSuchKey" in reader.problems.pop()


def test_a_track_is_heard_again_when_it_is_read_from_its_beginning_again():
    def get(path, range_start=0, status=206, n_bytes=5, whole=True):
        facts = {"at": 0.0, "method": "GET", "query": "", "status": status, "n_bytes": n_bytes, "whole": whole}
        return Entry(path=path, range_start=range_start, **facts)

    once = [get("/b/audio/1"), get("/b/audio/1", range_start=5), get("/b/audio/2", status=503)]
    once += [get("/b/audio/2", n_bytes=0, whole=False), get("/b/audio/2", n_bytes=2, whole=False)]
    once += [get("/b/runs/1"), get("/b/runs/1")]
    assert heard_again(once, "/b/audio/") == 0
    assert heard_again([*once, get("/b/audio/1"), get("/b/audio/1")], "/b/audio/") == 2
