"""Parts say of themselves what they hold: that is all an interrupted run knows of what it has."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import CatalogError, StorageError
from tagfleet.schemas import PREDICTIONS
from tagfleet.store.objects import Storage
from tagfleet.store.parts import PartFile, Tally, find_parts, id_checksum, id_hashes, run_folder, write_part
from tests.store.rows import failed, ids, part_of, table, tagged

EVERYTHING = Tally(
    n_tagged=2,
    failures={"decode/corrupt": 1, "fetch/が": 2},
    n_new_failures=1,
    labels={"genre": {"rock": 2, "unknown": 1}, "mood": {}},
    flips={"genre": (3, 1)},
    audio_s=0.1 + 0.2,
    n_bytes=1 << 40,
    n_requests=3,
    n_retries=2,
    cpu_s={"listen": 1 / 3},
    began_at=1795700000.123456,
    wall_s=1e-9,
    peak_memory_mb=812.5,
    worker="machine/7",
)


@pytest.fixture
def root(any_root):
    return Storage(any_root)


@pytest.fixture
def local(tmp_path):
    return Storage(str(tmp_path / "root"))


def test_a_part_comes_back_as_it_was_told_and_no_reader_sees_it(root):
    known = PartFile(
        path="",
        run_id="夜 run 1",
        n_rows=0,
        id_checksum=0,
        rows=((0, 2), (7, 8)),
        replaces=("run-r0/a.parquet", "part-r.parquet"),
        n_stored=2,
        last=True,
        tally=EVERYTHING,
    )
    part = write_part(root, table(tagged("a"), failed("b"), failed("c", error_stage="fetch")), known)
    assert (part.n_rows, part.id_checksum) == (3, id_checksum(ids("c", "b", "a")))
    assert part.size_bytes == len(root.read(f"predictions/{part.path}"))
    assert part.n_failed == 3 and PartFile.model_validate_json(part.model_dump_json()) == part
    assert list(find_parts(root, "夜 run 1")) == [part]
    assert list(find_parts(root, "another")) == []
    assert not root.exists("predictions/_delta_log/00000000000000000000.json")


def test_a_part_is_plain_parquet_of_the_tables_schema(local):
    part = part_of(local, [tagged("a"), failed("b")], "r1")
    stored = pq.ParquetFile(local.uri(f"predictions/{part.path}"))
    assert stored.schema_arrow.equals(PREDICTIONS) and stored.read().equals(table(tagged("a"), failed("b")))


def test_rows_of_another_schema_are_no_part(local):
    part = PartFile(path="", run_id="r1", n_rows=0, id_checksum=0)
    with pytest.raises(CatalogError, match="column uri must not be empty"):
        write_part(local, table(tagged("a")).drop_columns(["uri"]), part)
    assert list(find_parts(local, "r1")) == []
    narrower = write_part(local, table(tagged("a")).drop_columns(["log_mels", "mood"]), part)
    assert pq.read_schema(local.uri(f"predictions/{narrower.path}")).equals(PREDICTIONS)


@pytest.mark.parametrize("run_id", ["r1", "夜", "a.b", "x" * 300, "..", "a/../b", "%41"])
def test_a_runs_folder_is_one_plain_name_in_the_tables(run_id):
    folder = run_folder(run_id)
    assert folder.isascii() and folder.startswith("run-") and not set(folder) & set("/%\\ ")
    assert len(folder) <= 104


def test_runs_whose_folder_has_the_same_name_do_not_find_each_others_parts(local):
    assert run_folder("夜") == run_folder("朝")
    night, morning = (part_of(local, [tagged(run_id)], run_id) for run_id in ("夜", "朝"))
    assert (list(find_parts(local, "夜")), list(find_parts(local, "朝"))) == ([night], [morning])


def test_of_all_that_lies_in_a_runs_folder_only_its_own_parts_are_found(root):
    """Found: parts of this run, whole, as this tagfleet writes them. The rest is passed over, whatever it is."""
    mine = [part_of(root, [tagged(name)], "r1", rows=((n, n + 1),)) for n, name in enumerate("abc")]
    data = root.read(f"predictions/{mine[0].path}")
    folder, plain = f"predictions/{run_folder('r1')}", pq.read_table(pa.BufferReader(data))
    footer = plain.schema.metadata
    theirs = {
        "no-footer": table(tagged("d")),
        "other-footer": plain.replace_schema_metadata({b"tagfleet.part": b'{"path": "x"}'}),
        "no-json": plain.replace_schema_metadata({b"tagfleet.part": b"\xff\x00{"}),
        "of-the-next-tagfleet": plain.append_column("tempo", pa.array([120.0])).replace_schema_metadata(footer),
        "of-the-last-tagfleet": plain.drop_columns(["log_mels"]).replace_schema_metadata(footer),
        "other-types": plain.set_column(
            plain.column_names.index("n_clips"), "n_clips", pa.array([3], pa.int64())
        ).replace_schema_metadata(footer),
    }
    for name, rows in theirs.items():
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        root.write(f"{folder}/{name}.parquet", sink.getvalue().to_pybytes())
    for name, text in {"empty": b"", "text": b"PAR1, says a text", "cut": data[: len(data) // 2]}.items():
        root.write(f"{folder}/{name}.parquet", text)
    root.write(f"{folder}/notes.txt", b"not Parquet")
    part_of(root, [tagged("d")], "r2")
    assert list(find_parts(root, "r1")) == sorted(mine, key=lambda part: part.path)


def test_a_part_lies_where_it_is_found(local):
    """A file that somebody copied says another path: what is committed must be the file that is there."""
    part = part_of(local, [tagged("a")], "r1")
    copied = f"{run_folder('r1')}/copied.parquet"
    local.write(f"predictions/{copied}", local.read(f"predictions/{part.path}"))
    local.delete(f"predictions/{part.path}")
    assert list(find_parts(local, "r1")) == [part.model_copy(update={"path": copied})]


def test_a_store_that_cannot_be_read_is_an_error_and_not_a_run_without_parts(local, monkeypatch):
    part = part_of(local, [tagged("a")], "r1")

    def fails(path, filesystem):
        raise OSError("connection reset by peer")

    monkeypatch.setattr(pq, "read_schema", fails)
    with pytest.raises(StorageError, match=part.path):
        list(find_parts(local, "r1"))


def test_no_part_is_half_written(local, monkeypatch):
    """A worker that dies while it writes leaves nothing that is found."""

    def dies(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        part_of(local, [tagged("a")], "r1")
    assert list(find_parts(local, "r1")) == []


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=8), st.randoms())
def test_the_checksum_knows_which_ids_but_no_order(track_ids, random):
    shuffled = random.sample(track_ids, len(track_ids))
    assert id_checksum(ids(*track_ids)) == id_checksum(pa.chunked_array([ids(*shuffled)]))
    assert 0 <= id_checksum(ids(*track_ids)) < 2**64
    assert id_checksum(ids(*track_ids, "x")) != id_checksum(ids(*track_ids))
    assert id_checksum(ids(*track_ids, "x", "x")) != id_checksum(ids(*track_ids))
    halves = (id_checksum(ids(*part)) for part in (track_ids[:3], track_ids[3:]))
    assert sum(halves) % 2**64 == id_checksum(ids(*track_ids))


def test_ids_hash_alike_on_every_machine_for_ever():
    """Plans that are stored, and buckets that several workers fill, are compared by these numbers."""
    assert id_hashes(ids("a", "が", "")).tolist() == [
        3405396810240292928,
        13918949993404360226,
        13020603013274838756,
    ]
