import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.errors import ConflictError, CountsError, NotFoundError, StorageError, UsageError
from tagfleet.schemas import LINEAGE, PARTS, PREDICTIONS
from tagfleet.store import predictions as module
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions, id_checksum, write_part
from tagfleet.store.tables import Table
from tests.store.rows import NO_IDS, failed, table, tagged

HARD_IDS = ["007", "が", "か\u3099", "a'b", 'a"b', "a\\b", "%41#?&+ ", "🎹", "\u0001", "null", "a;--"]


def ids(*track_ids):
    return pa.array(track_ids, pa.string())


@pytest.fixture
def predictions(any_root):
    return Predictions(Storage(any_root))


@pytest.fixture
def local(tmp_path):
    return Predictions(Storage(str(tmp_path / "root")))


def prepare(predictions, rows, run_id, *, removed=(), n_catalog, base="latest"):
    made = [tagged(row) if isinstance(row, str) else row for row in rows]
    made = [row | {"run_id": run_id} for row in made]
    parts = [write_part(predictions.root, table(*made[i : i + 2]), run_id) for i in range(0, len(made), 2)]
    return predictions.prepare(
        parts,
        tagged_ids=ids(*(row["track_id"] for row in made)),
        removed_ids=ids(*removed),
        n_catalog=n_catalog,
        base_version=predictions.lineage()[0] if base == "latest" else base,
        run_id=run_id,
    )


def tag(predictions, rows, run_id, **counts):
    return predictions.commit(prepare(predictions, rows, run_id, **counts), run_id)


def who(predictions, version=None):
    rows = predictions.table.read(version, ["track_id", "run_id"]).to_pylist()
    assert len({row["track_id"] for row in rows}) == len(rows)
    return {row["track_id"]: row["run_id"] for row in rows}


def data_files(predictions):
    return {info.key for info in predictions.root.list("predictions") if info.key.endswith(".parquet")}


def test_nights_follow_each_other(predictions):
    """First all; then new tracks only; then one re-made, one gone: each file that holds no such row stays as it is."""
    assert predictions.lineage() == (None, None)
    assert tag(predictions, ["a", "b", failed("c")], "r1", n_catalog=3) == 1
    first = predictions.table.files(1)
    assert tag(predictions, ["d"], "r2", n_catalog=4) == 2
    assert set(first) < set(predictions.table.files(2))

    prepared = prepare(predictions, ["a"], "r3", removed=["d"], n_catalog=3)
    assert (prepared.n_tagged, prepared.n_failed, prepared.n_unchanged, prepared.n_removed) == (1, 0, 2, 1)
    assert predictions.commit(prepared, "r3") == 3
    assert who(predictions) == {"a": "r3", "b": "r1", "c": "r1"}
    assert [file for file in first if file in predictions.table.files(3)] == [f for f in first if f.n_rows == 1]
    assert who(predictions, 1) == {"a": "r1", "b": "r1", "c": "r1"}
    assert who(predictions, 2) == {"a": "r1", "b": "r1", "c": "r1", "d": "r2"}
    assert [version.run_id for version in predictions.table.history()] == ["r3", "r2", "r1", None]

    assert predictions.table.rollback(2) == 4
    assert who(predictions) == {"a": "r1", "b": "r1", "c": "r1", "d": "r2"}


def test_rows_come_back_as_they_were_made(predictions):
    rows = [tagged("a", tags=[], instruments=[]), failed("が"), tagged("c", genre="J-POP 'n' ロック")]
    tag(predictions, rows, "r1", n_catalog=3)
    back = predictions.table.read().sort_by("track_id")
    assert back.schema == PREDICTIONS
    assert back.equals(table(*rows).sort_by("track_id"))
    version, lineage = predictions.lineage()
    assert version == 1
    assert lineage.column_names == ["track_id", "uri", *LINEAGE]


def test_a_part_says_what_it_holds_and_fits_its_schema(local):
    part = write_part(local.root, table(tagged("a"), failed("b"), failed("c", error_stage="fetch")), "夜 run/1")
    assert (part.n_rows, part.failures) == (3, ["decode/no-audio", "fetch/no-audio"])
    assert part.path.isascii() and "/" not in part.path
    data = local.root.read(f"predictions/{part.path}")
    assert len(data) == part.size_bytes
    assert part.id_checksum == id_checksum(ids("c", "b", "a"))
    assert pa.Table.from_pylist([part.as_row()], schema=PARTS).to_pylist() == [part.as_row()]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=8), st.randoms())
def test_the_checksum_knows_which_ids_but_no_order(track_ids, random):
    shuffled = random.sample(track_ids, len(track_ids))
    assert id_checksum(ids(*track_ids)) == id_checksum(pa.chunked_array([ids(*shuffled)]))
    assert 0 <= id_checksum(ids(*track_ids)) < 2**64
    assert id_checksum(ids(*track_ids, "x")) != id_checksum(ids(*track_ids))
    assert id_checksum(ids(*track_ids, "x", "x")) != id_checksum(ids(*track_ids))


def test_the_same_run_twice_is_one_commit(predictions):
    prepared = prepare(predictions, ["a", "b"], "r1", n_catalog=2)
    assert predictions.commit(prepared, "r1") == 1
    assert predictions.commit(prepared, "r1") == 1
    tag(predictions, ["c"], "r2", n_catalog=3)
    assert predictions.commit(prepared, "r1") == 1
    assert who(predictions) == {"a": "r1", "b": "r1", "c": "r2"}
    assert predictions.table.committed("r1") and not predictions.table.committed("r3")


def test_of_two_runs_on_one_version_one_wins(predictions):
    tag(predictions, ["a", "b"], "r0", n_catalog=2)
    runs = {run: prepare(predictions, ["a", "b"], run, n_catalog=2) for run in ("r1", "r2", "r3")}

    def attempt(run):
        try:
            return predictions.commit(runs[run], run)
        except ConflictError:
            return None

    with ThreadPoolExecutor(3) as pool:
        versions = dict(zip(runs, pool.map(attempt, runs), strict=True))
    (winner,) = [run for run, version in versions.items() if version == 2]
    assert list(versions.values()).count(None) == 2
    assert who(predictions) == {"a": winner, "b": winner}
    assert predictions.table.version() == 2


def test_a_run_that_is_overtaken_at_the_last_moment_appends_nothing(predictions, monkeypatch):
    tag(predictions, ["a"], "r0", n_catalog=1)
    runs = {run: prepare(predictions, ["b"], run, n_catalog=2) for run in ("r1", "r2")}
    early = predictions.table._open()
    predictions.commit(runs["r1"], "r1")
    opened = iter([early])
    real = Table._open
    monkeypatch.setattr(Table, "_open", lambda self, version=None: next(opened, None) or real(self, version))
    with pytest.raises(ConflictError):
        predictions.commit(runs["r2"], "r2")
    assert who(predictions) == {"a": "r0", "b": "r1"}


def test_two_first_runs_are_a_conflict_too(predictions):
    runs = {run: prepare(predictions, ["a"], run, n_catalog=1, base=None) for run in ("r1", "r2")}
    assert predictions.commit(runs["r1"], "r1") == 1
    with pytest.raises(ConflictError, match="from version 0 to 1") as caught:
        predictions.commit(runs["r2"], "r2")
    assert "new run" in caught.value.hint
    assert who(predictions) == {"a": "r1"}


def test_a_lost_answer_to_the_commit_is_no_failure(predictions, monkeypatch):
    prepared = prepare(predictions, ["a"], "r1", n_catalog=1)
    commit = deltalake.DeltaTable.create_write_transaction

    def commits_and_loses_the_answer(self, *args, **kwargs):
        commit(self, *args, **kwargs)
        raise OSError("connection reset by peer")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", commits_and_loses_the_answer)
    assert predictions.commit(prepared, "r1") == 1
    assert who(predictions) == {"a": "r1"}


def test_a_commit_that_did_not_happen_is_a_failure(predictions, monkeypatch):
    prepared = prepare(predictions, ["a"], "r1", n_catalog=1)

    def fails(self, *args, **kwargs):
        raise OSError("connection reset by peer")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", fails)
    with pytest.raises(StorageError, match="connection reset"):
        predictions.commit(prepared, "r1")
    monkeypatch.undo()
    assert predictions.table.read().num_rows == 0
    assert predictions.commit(prepared, "r1") == 1


KILLED = """
import os, signal, sys
import deltalake
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.test_predictions import prepare

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

predictions = Predictions(Storage(sys.argv[1]))
deltalake.DeltaTable.create_write_transaction = die
predictions.commit(prepare(predictions, ["a", "new"], "r2", removed=["b"], n_catalog=2), "r2")
"""


def test_a_run_killed_between_its_parts_and_its_commit_changes_nothing(predictions):
    tag(predictions, ["a", "b"], "r1", n_catalog=2)
    before = data_files(predictions)
    killed = subprocess.run([sys.executable, "-c", KILLED, predictions.root.root], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert data_files(predictions) > before, "it was killed too early"
    assert who(predictions) == {"a": "r1", "b": "r1"}
    assert predictions.table.version() == 1
    assert tag(predictions, ["a", "new"], "r2", removed=["b"], n_catalog=2) == 2
    assert who(predictions) == {"a": "r2", "new": "r2"}


def wrong_parts(local, part, **changes):
    counts = {"tagged_ids": ids("a", "b"), "removed_ids": NO_IDS, "n_catalog": 2, "base_version": None}
    return local.prepare([part], run_id="r1", **counts | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"tagged_ids": ids("a")},
        {"tagged_ids": ids("a", "c")},
        {"tagged_ids": ids("a", "b", "c"), "n_catalog": 3},
        {"n_catalog": 3},
        {"n_catalog": 1},
    ],
)
def test_numbers_that_do_not_add_up_publish_nothing(local, changes):
    part = write_part(local.root, table(tagged("a"), tagged("b")), "r1")
    with pytest.raises(CountsError, match="nothing was published"):
        wrong_parts(local, part, **changes)
    with pytest.raises(CountsError):
        wrong_parts(local, replace(part, id_checksum=part.id_checksum + 1))
    assert not local.table.exists() or local.table.read().num_rows == 0
    assert local.commit(wrong_parts(local, part), "r1") == 1


def test_a_track_that_was_tagged_twice_is_not_two_rows(local):
    twice = [write_part(local.root, table(tagged("a")), "r1") for _ in range(2)]
    with pytest.raises(CountsError):
        local.prepare(twice, tagged_ids=ids("a"), removed_ids=NO_IDS, n_catalog=1, base_version=None, run_id="r1")


def test_a_catalogue_that_shrinks_to_nothing(local):
    tag(local, ["a", "b", "c"], "r1", n_catalog=3)
    tag(local, [], "r2", removed=["a", "b", "c"], n_catalog=0)
    assert local.table.read().equals(PREDICTIONS.empty_table())
    assert local.query("true", columns=["track_id"]).num_rows == 0
    tag(local, ["a"], "r3", n_catalog=1)
    assert who(local) == {"a": "r3"}


def test_show_finds_any_id_exactly(predictions):
    tag(predictions, HARD_IDS, "r1", n_catalog=len(HARD_IDS))
    for track_id in HARD_IDS:
        assert predictions.show(track_id)["track_id"] == track_id
    for track_id in ("7", "A'B", "", "nothing", "%"):
        assert predictions.show(track_id) is None


def test_show_can_look_back(local):
    tag(local, ["a"], "r1", n_catalog=1)
    tag(local, [tagged("a", genre="jazz")], "r2", n_catalog=1)
    assert local.show("a")["genre"] == "jazz"
    assert local.show("a", version=1)["genre"] == "rock"
    with pytest.raises(NotFoundError):
        local.show("a", version=9)


@pytest.fixture
def asked(local):
    rows = [
        failed("d"),
        tagged("c", tagged_at=datetime(2027, 1, 1, tzinfo=UTC), mood="dark", n_clips=7),
        tagged("b'が", genre="jazz", genre_probability=0.25, instruments=["drums"], duration_s=100.0),
        tagged("a"),
    ]
    tag(local, rows, "r1", n_catalog=4)
    return local


QUESTIONS = {
    "true": "a b'が c d",
    "genre = 'rock'": "a c",
    "genre = 'rock' AND genre_probability >= 0.75": "a c",
    "genre in ('jazz', 'pop') or mood = 'dark'": "b'が c",
    "list_contains(instruments, 'piano')": "a c",
    "'drums' = ANY(instruments)": "b'が",
    "tags[1].label = 'rock' and tags[1].probability > 0.5": "a b'が c",
    "len(probabilities) = 0": "a b'が c",
    "status = 'failed'": "d",
    "error_stage = 'decode' and error_reason = 'no-audio' and error_detail like '%壊%'": "d",
    "genre is null": "d",
    "tagged_at >= '2027-01-01'": "c",
    "tagged_at < TIMESTAMPTZ '2027-01-01 00:00:00+09:00'": "a b'が d",
    "n_clips > 3": "c",
    "duration_s between 99 and 101": "b'が",
    "track_id = 'b''が'": "b'が",
    "mood = 'calm' -- a remark": "a b'が",
    "run_id = 'r1' and model_id = 'model' and audio_digest = 'audio' and taxonomy_version = 'taxonomy'": "a b'が c d",
    "uri like '/music/%' and source_name = track_id and audio_fingerprint is not null": "a b'が c d",
    "calibration_digest = 'x' or backend <> 'torch' or mood_probability > 0.9": "",
}


@pytest.mark.parametrize(("where", "found"), QUESTIONS.items())
def test_conditions_over_every_column(asked, where, found):
    assert asked.query(where, columns=["track_id"])["track_id"].to_pylist() == found.split()


def test_questions_name_every_column():
    text = " ".join(QUESTIONS)
    assert [name for name in PREDICTIONS.names if name not in text] == []


def test_answers_are_sorted_limited_and_of_the_tables_types(asked):
    everything = asked.query("true", columns=PREDICTIONS.names)
    assert everything.schema == PREDICTIONS
    assert everything.equals(asked.table.read().sort_by("track_id"))
    answer = asked.query("true", columns=["genre", "track_id"], limit=2)
    assert answer.to_pylist() == [{"genre": "rock", "track_id": "a"}, {"genre": "jazz", "track_id": "b'が"}]
    assert asked.query("true", columns=["track_id"], version=0).num_rows == 0


IN_TOKYO = """
import sys
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions

found = Predictions(Storage(sys.argv[1])).query("tagged_at < '2027-01-01 05:00'", columns=["track_id"])
assert "c" in found["track_id"].to_pylist()
"""


def test_times_are_utc_wherever_the_machine_stands(asked):
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    asking = subprocess.run([sys.executable, "-c", IN_TOKYO, asked.root.root], env=environment, capture_output=True)
    assert asking.returncode == 0, asking.stderr.decode()


@pytest.mark.parametrize(
    "where",
    [
        "",
        "genre =",
        "nothing = 1",
        "genre",
        "1=1; DROP TABLE predictions",
        "true; select 1",
        "true) union select 1 --",
        "true limit 1",
        "true order by 1",
        "true from read_text('{file}')",
        "(select count(*) from read_csv('{file}')) > 0",
        "(select max(content) from read_text('{file}')) is not null",
        "exists (select * from '{file}')",
        "exists (select * from glob('/*'))",
        "exists (select * from rows)",
        "track_id in (select track_id from 's3://bucket/other.parquet')",
        "(select count(*) from read_parquet('http://127.0.0.1:9/x.parquet')) > 0",
        "COPY predictions TO '{file}'",
        "ATTACH '{file}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "getenv('HOME') is not null",
        "\udcff = 1",
    ],
)
def test_a_condition_reaches_nothing_but_the_table(asked, tmp_path, where):
    secret = tmp_path / "secret.csv"
    secret.write_text("track_id\na\n")
    with pytest.raises(UsageError, match="cannot answer") as caught:
        asked.query(where.replace("{file}", str(secret)), columns=["track_id"])
    assert "SQL condition over track_id, uri" in caught.value.hint
    assert secret.read_text() == "track_id\na\n"


def test_an_unknown_column_is_told_with_those_that_are(asked):
    with pytest.raises(UsageError, match="no column 'gnere'") as caught:
        asked.query("true", columns=["track_id", "gnere"])
    assert "genre" in caught.value.hint


def test_an_export_is_read_by_plain_parquet_readers(predictions, any_root):
    rows = [tagged("a"), failed("b"), tagged("が")]
    tag(predictions, rows, "r1", n_catalog=3)
    tag(predictions, ["d"], "r2", removed=["b"], n_catalog=3)
    out = Storage(f"{any_root}/出口 1")
    export = predictions.export_parquet(out.root, out.config)
    assert (export.version, export.n_rows) == (2, 3)
    assert json.loads(out.read("latest.json")) == vars(export)
    filesystem, base = out.arrow_filesystem()
    exported = pq.read_table(f"{base}/{export.path}", filesystem=filesystem)
    assert exported.schema == PREDICTIONS
    assert exported.sort_by("track_id").equals(predictions.table.read().sort_by("track_id"))

    first = {info.key: info.updated_at for info in out.list(export.path)}
    assert predictions.export_parquet(out.root, out.config) == export
    assert {info.key: info.updated_at for info in out.list(export.path)} == first

    tag(predictions, ["e"], "r3", n_catalog=4)
    newer = predictions.export_parquet(out.root, out.config)
    assert newer.version == 3 and newer.path != export.path
    assert json.loads(out.read("latest.json")) == vars(newer)
    assert {info.key: info.updated_at for info in out.list(export.path)} == first
    older = predictions.export_parquet(out.root, out.config, version=1)
    assert pq.read_table(f"{base}/{older.path}", filesystem=filesystem).num_rows == 3


def test_an_export_of_no_rows_is_an_empty_table(predictions, any_root):
    tag(predictions, [], "r1", n_catalog=0)
    out = Storage(f"{any_root}/out")
    export = predictions.export_parquet(out.root, out.config)
    filesystem, base = out.arrow_filesystem()
    assert pq.read_table(f"{base}/{export.path}", filesystem=filesystem).equals(PREDICTIONS.empty_table())


def test_an_export_that_broke_off_is_made_again(local, tmp_path, monkeypatch):
    tag(local, ["a", "b", "c"], "r1", n_catalog=3)
    out = Storage(str(tmp_path / "out"))
    write = Storage.write

    def dying(self, key, data):
        if key.endswith(".json"):
            raise KeyboardInterrupt
        write(self, key, data)

    monkeypatch.setattr(Storage, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        local.export_parquet(out.root, out.config)
    assert not out.exists("latest.json")
    monkeypatch.undo()
    out.write("snapshot-v000001/part-7.parquet", b"left over from a larger version")
    export = local.export_parquet(out.root, out.config)
    assert pq.read_table(tmp_path / "out" / export.path).num_rows == 3


def test_a_large_export_has_files_of_a_bounded_size(local, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_EXPORT_FILE", 2)
    tag(local, ["a", "b", "c", "d", "e"], "r1", n_catalog=5)
    export = local.export_parquet(str(tmp_path / "out"), local.root.config)
    files = sorted((tmp_path / "out" / export.path).iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [2, 2, 1]


def test_an_export_does_not_overwrite_that_of_another_table(local, tmp_path):
    other = Predictions(Storage(str(tmp_path / "other")))
    for one in (local, other):
        tag(one, ["a"], "r1", n_catalog=1)
    local.export_parquet(str(tmp_path / "out"), local.root.config)
    before = (tmp_path / "out" / "latest.json").read_bytes()
    with pytest.raises(StorageError, match="another predictions table"):
        other.export_parquet(str(tmp_path / "out"), local.root.config)
    assert (tmp_path / "out" / "latest.json").read_bytes() == before


def test_an_export_to_where_nothing_can_be_written_is_a_storage_error(local, tmp_path, monkeypatch):
    tag(local, ["a"], "r1", n_catalog=1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        local.export_parquet(str(tmp_path / "file" / "out"), local.root.config)


def test_a_part_that_is_gone_stops_the_next_run(local):
    tag(local, ["a", "b"], "r1", n_catalog=2)
    for key in data_files(local):
        local.root.delete(key)
    with pytest.raises(StorageError, match="part-r1"):
        prepare(local, ["a"], "r2", n_catalog=2)
    with pytest.raises(StorageError):
        local.export_parquet(f"{local.root.root}/out", local.root.config)


def test_a_reader_without_tagfleet_sees_the_same(local):
    tag(local, ["a", "b"], "r1", n_catalog=2)
    tag(local, ["a"], "r2", n_catalog=2)
    seen = deltalake.DeltaTable(local.root.uri("predictions")).to_pyarrow_table()
    assert seen.sort_by("track_id").equals(local.table.read().sort_by("track_id"))
