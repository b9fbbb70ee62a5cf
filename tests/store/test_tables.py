import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.errors import ConflictError, NotFoundError, StorageError
from tagfleet.schemas import LABELS, PREDICTIONS, TRACKS
from tagfleet.store.objects import Storage
from tagfleet.store.tables import NO_TABLE, DataFile, Table, Version
from tests.store.rows import failed, table, tagged

NOON = datetime(2026, 11, 23, 12, 0, 0, 987654, tzinfo=UTC)
EXTRA = pa.schema([*TRACKS, pa.field("曲 名,;{}()=", pa.string()), pa.field("bpm", pa.string())])
TRACKS_ROWS = pa.Table.from_pylist(
    [
        {"track_id": "007", "uri": "/m/a", "tags": ["暗い", "dark"], "duration_s": 0.1, "size_bytes": 2**40},
        {"track_id": "が", "uri": "/m/b", "tags": [], "updated_at": NOON, "曲 名,;{}()=": "x"},
        {"track_id": "か\u3099", "uri": "/m/c", "tags": None, "title": "", "bpm": "120"},
    ],
    schema=EXTRA,
)
LABEL_ROWS = pa.table(
    {
        "track_id": ["a"],
        "axis": ["genre"],
        "label": ["rock"],
        "rule": ["r"],
        "source": ["tag"],
        "evidence": ["ロック"],
        "position": pa.array([0], pa.int32()),
        "start": pa.array([0], pa.int32()),
        "end": pa.array([None], pa.int32()),
        "weight": pa.array([0.1], pa.float32()),
        "split": ["train"],
        "taxonomy_version": ["1"],
    },
    schema=LABELS,
)
CASES = {
    "tracks": TRACKS_ROWS,
    "labels": LABEL_ROWS,
    "predictions": table(tagged("a"), failed("b"), tagged("c", tags=[], instruments=[None])),
    "no rows": PREDICTIONS.empty_table(),
}


def numbers(*values):
    return pa.table({"track_id": [str(value) for value in values], "n": values})


@pytest.fixture
def catalog(any_root):
    return Table(Storage(any_root), "catalog")


@pytest.fixture
def local(tmp_path):
    return Table(Storage(str(tmp_path)), "catalog")


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
def test_rows_come_back_with_exactly_their_types(catalog, rows):
    assert catalog.replace(rows, note="") == 0
    back = catalog.read()
    assert back.schema == rows.schema
    assert back.equals(rows)


def test_versions_can_be_read_back_and_brought_back(catalog):
    assert not catalog.exists()
    catalog.replace(TRACKS_ROWS, note="scan of 棚")
    catalog.replace(numbers(1), note="second")
    assert catalog.exists() and catalog.version() == 1
    assert catalog.read().equals(numbers(1))
    assert catalog.read(0).equals(TRACKS_ROWS)
    assert catalog.rollback(0) == 2
    assert catalog.read().equals(TRACKS_ROWS)
    assert catalog.read(1).equals(numbers(1))
    history = catalog.history()
    assert [(v.version, v.operation, v.note) for v in history] == [
        (2, "restore", "back to 0"),
        (1, "write", "second"),
        (0, "write", "scan of 棚"),
    ]
    assert all(abs(datetime.now(UTC) - v.committed_at) < timedelta(minutes=1) for v in history)
    assert catalog.history(limit=2) == history[:2]
    assert catalog.history(limit=99) == history


def test_a_table_keeps_its_id_and_another_has_another(any_root):
    root = Storage(any_root)
    one, other = Table(root, "one"), Table(root, "other")
    one.replace(numbers(1), note="")
    other.replace(numbers(1), note="")
    before = one.id()
    one.replace(TRACKS_ROWS, note="")
    assert one.id() == before != other.id()


def test_what_is_not_there_is_told_with_what_makes_it(catalog):
    for call in (catalog.version, catalog.read, catalog.history, catalog.id, lambda: catalog.rollback(0)):
        with pytest.raises(NotFoundError, match="there are no catalog") as caught:
            call()
        assert "tagfleet catalog scan" in caught.value.hint
    catalog.replace(numbers(1), note="")
    for call in (lambda: catalog.read(1), lambda: catalog.rollback(0), lambda: catalog.rollback(-1)):
        with pytest.raises(NotFoundError, match="version") as caught:
            call()
        assert "history" in caught.value.hint


def test_of_writers_at_once_losers_know_and_nothing_is_mixed(catalog):
    def attempt(n):
        try:
            catalog.replace(numbers(n), note=str(n))
        except ConflictError:
            return None
        return n

    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            won = [n for n in pool.map(attempt, range(4)) if n is not None]
        assert won
        history = catalog.history()
        assert int(history[0].note) in won
        for version in history:
            assert catalog.read(version.version).equals(numbers(int(version.note)))


def test_making_a_table_twice_or_at_once_keeps_what_is_in_it(catalog):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: catalog.create(PREDICTIONS), range(4))) == [None] * 4
    assert catalog.version() == 0 and catalog.read().num_rows == 0
    catalog.replace(numbers(1), note="")
    catalog.create(PREDICTIONS)
    assert catalog.read().equals(numbers(1))


def test_rows_are_found_by_any_text(tmp_path_factory):
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=8, unique=True))
    def holds(ids):
        rows = pa.table({"track_id": ids, "n": range(len(ids))})
        found = Table(Storage(str(tmp_path_factory.mktemp("any"))), "catalog")
        found.replace(rows, note="")
        for n, track_id in enumerate(ids):
            assert found.read(where={"track_id": track_id}).to_pylist() == [{"track_id": track_id, "n": n}]

    holds()


def test_columns_and_conditions(catalog):
    catalog.replace(LABEL_ROWS, note="")
    assert catalog.read(columns=["label", "track_id"]).to_pylist() == [{"label": "rock", "track_id": "a"}]
    assert catalog.read(where={"axis": "genre", "label": "rock"}).num_rows == 1
    assert catalog.read(where={"axis": "genre", "label": "jazz"}).num_rows == 0


def test_the_log_survives_its_checkpoint(catalog):
    catalog.create(PREDICTIONS)
    catalog.swap([], [], schema=PREDICTIONS, base_version=0, run_id="r1")
    catalog._open().create_checkpoint()
    assert catalog.committed("r1") and not catalog.committed("r2")
    assert catalog.swap([], [], schema=PREDICTIONS, base_version=1, run_id="r2") == 2
    assert catalog.committed("r1") and catalog.committed("r2")
    assert [version.run_id for version in catalog.history()] == ["r2", "r1", None]


def test_history_goes_back_as_far_as_the_log(local):
    for n in range(3):
        local.replace(numbers(n), note=str(n))
    local._open().create_checkpoint()
    local.root.delete("catalog/_delta_log/00000000000000000000.json")
    assert [version.note for version in local.history()] == ["2", "1"]


def test_a_version_is_a_plain_value(local):
    local.replace(numbers(1), note="x")
    (version,) = local.history()
    assert version == Version(version=0, committed_at=version.committed_at, operation="write", run_id=None, note="x")


def test_files_are_those_of_their_version(catalog):
    catalog.replace(numbers(1, 2, 3), note="")
    catalog.replace(numbers(4), note="")
    (old,), (new,) = catalog.files(0), catalog.files(1)
    assert (old.n_rows, new.n_rows) == (3, 1) and old.path != new.path
    assert len(catalog.root.read(f"catalog/{new.path}")) == new.size_bytes


def test_a_data_file_that_is_gone_is_a_storage_error(catalog):
    catalog.replace(numbers(1), note="")
    (file,) = catalog.files(0)
    catalog.root.delete(f"catalog/{file.path}")
    with pytest.raises(StorageError):
        catalog.read()


@pytest.mark.parametrize("log", ["{", "[]", json.dumps({"add": {}})])
def test_a_broken_log_is_a_storage_error(local, log):
    local.replace(numbers(1), note="")
    local.root.write("catalog/_delta_log/00000000000000000001.json", log.encode())
    with pytest.raises(StorageError):
        local.read()


def test_swapping_on_an_older_version_is_a_conflict(local):
    local.replace(numbers(1), note="")
    local.replace(numbers(2), note="")
    with pytest.raises(ConflictError, match="from version 0 to 1"):
        local.swap([DataFile(path="x", size_bytes=1, n_rows=1)], [], schema=PREDICTIONS, base_version=0, run_id="r")
    assert local.read().equals(numbers(2))


def test_a_change_of_rows_that_are_no_longer_the_latest_is_a_conflict(catalog):
    with pytest.raises(ConflictError, match="went from version 3 to -1"):
        catalog.replace(numbers(1), note="", base_version=3)
    catalog.replace(numbers(1), note="", base_version=NO_TABLE)
    with pytest.raises(ConflictError, match="went from version -1 to 0"):
        catalog.replace(numbers(2), note="", base_version=NO_TABLE)
    catalog.replace(numbers(2), note="", base_version=0)
    with pytest.raises(ConflictError, match="went from version 0 to 1"):
        catalog.replace(numbers(3), note="", base_version=0)
    assert catalog.read().equals(numbers(2))


@pytest.mark.parametrize("happened", [False, True])
def test_a_commit_whose_answers_break_off_is_made_once(tmp_path, monkeypatch, happened):
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    write, tries = DeltaTable.create_write_transaction, []

    def breaks_off_once(table, *words, **named):
        tries.append(table)
        if happened or len(tries) > 1:
            write(table, *words, **named)
        if len(tries) == 1:  # as Ceph behind a proxy made it say
            raise DeltaError("Error getting list response body: HTTP error: request or response body error")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", breaks_off_once)
    made = Table(Storage(str(tmp_path / "root")), "predictions")
    made.create(PREDICTIONS)
    file = DataFile(path="r/a.parquet", size_bytes=1, n_rows=1)
    assert made.swap([file], [], schema=PREDICTIONS, base_version=0, run_id="r") == 1
    assert (made.version(), made.files(1), len(tries)) == (1, [file], 1 if happened else 2)
