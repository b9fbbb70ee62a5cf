import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagfleet.errors import NotFoundError, StorageError, UsageError
from tagfleet.schemas import PREDICTIONS
from tagfleet.store import exports
from tagfleet.store.changes import DOCUMENT
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.rows import failed, tag, tagged


@pytest.fixture
def predictions(any_root):
    return Predictions(Storage(any_root))


@pytest.fixture
def local(tmp_path):
    return Predictions(Storage(str(tmp_path / "root")))


def test_an_export_is_read_by_plain_parquet_readers(predictions, any_root):
    rows = [tagged("a"), failed("b"), tagged("が")]
    tag(predictions, rows, "r1", n_catalog=3)
    tag(predictions, ["d"], "r2", removed=["b"], n_catalog=3)
    out = Storage(f"{any_root}/出口 1")
    export = exports.export_parquet(predictions, out.root, out.config)
    assert (export.version, export.n_rows) == (2, 3)
    assert json.loads(out.read("latest.json")) == vars(export)
    filesystem, base = out.arrow_filesystem()
    exported = pq.read_table(f"{base}/{export.path}", filesystem=filesystem)
    assert exported.schema == PREDICTIONS
    assert exported.sort_by("track_id").equals(predictions.table.read().sort_by("track_id"))

    first = {info.key: info.updated_at for info in out.list(export.path)}
    assert exports.export_parquet(predictions, out.root, out.config) == export
    assert {info.key: info.updated_at for info in out.list(export.path)} == first

    tag(predictions, ["e"], "r3", n_catalog=4)
    newer = exports.export_parquet(predictions, out.root, out.config)
    assert newer.version == 3 and newer.path != export.path
    assert json.loads(out.read("latest.json")) == vars(newer)
    assert {info.key: info.updated_at for info in out.list(export.path)} == first
    older = exports.export_parquet(predictions, out.root, out.config, version=1)
    assert pq.read_table(f"{base}/{older.path}", filesystem=filesystem).num_rows == 3


def test_an_export_of_no_rows_is_an_empty_table(predictions, any_root):
    tag(predictions, [], "r1", n_catalog=0)
    out = Storage(f"{any_root}/out")
    export = exports.export_parquet(predictions, out.root, out.config)
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
        exports.export_parquet(local, out.root, out.config)
    assert not out.exists("latest.json")
    monkeypatch.undo()
    out.write("snapshot-v000001/part-7.parquet", b"left over from a larger version")
    export = exports.export_parquet(local, out.root, out.config)
    assert pq.read_table(tmp_path / "out" / export.path).num_rows == 3


def test_a_large_export_has_files_of_a_bounded_size(local, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "ROWS_PER_EXPORT_FILE", 2)
    tag(local, ["a", "b", "c", "d", "e"], "r1", n_catalog=5)
    export = exports.export_parquet(local, str(tmp_path / "out"), local.root.config)
    files = sorted((tmp_path / "out" / export.path).iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [2, 2, 1]


def test_an_export_does_not_overwrite_that_of_another_table(local, tmp_path):
    other = Predictions(Storage(str(tmp_path / "other")))
    for one in (local, other):
        tag(one, ["a"], "r1", n_catalog=1)
    exports.export_parquet(local, str(tmp_path / "out"), local.root.config)
    before = (tmp_path / "out" / "latest.json").read_bytes()
    with pytest.raises(StorageError, match="another predictions table"):
        exports.export_parquet(other, str(tmp_path / "out"), local.root.config)
    assert (tmp_path / "out" / "latest.json").read_bytes() == before


def test_an_export_to_where_nothing_can_be_written_is_a_storage_error(local, tmp_path, monkeypatch):
    tag(local, ["a"], "r1", n_catalog=1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        exports.export_parquet(local, str(tmp_path / "file" / "out"), local.root.config)


def applied(out, export, index=None):
    """What a search engine holds after it was sent the files of an export."""
    index = dict(index or {})
    for info in out.list(export.path):
        data = out.read(info.key)
        assert data.endswith(b"\n")
        lines = iter(data[:-1].decode().split("\n"))
        for line in lines:
            [(action, about)] = json.loads(line).items()
            if action == "index":
                document = next(lines)
                assert "NaN" not in document
                index[about["_id"]] = json.loads(document)
            else:
                assert action == "delete"
                del index[about["_id"]]
    return index


def of_search(index):
    return {i: {name: v for name, v in row.items() if name not in ("run_id", "tagged_at")} for i, row in index.items()}


def test_bulk_files_are_what_a_search_engine_takes(predictions, any_root):
    hard = ["a", "が", 'q"uote', "line\nbreak", "\u2028"]
    tag(predictions, [*hard, failed("broken"), tagged("nan", duration_s=float("nan"))], "r1", n_catalog=7)
    out = Storage(f"{any_root}/検索")
    export = exports.export_bulk(predictions, out.root, out.config, index="tracks")
    assert (export.n_rows, export.n_deleted, export.since) == (7, 0, None)
    index = applied(out, export)
    assert set(index) == {*hard, "broken", "nan"}
    assert list(index["a"]) == DOCUMENT.names
    assert index["a"]["instruments"] == ["piano", "guitar"]
    assert index["a"]["tags"] == [{"axis": "genre", "label": "rock", "probability": 0.75}]
    assert index["a"]["tagged_at"] == "2026-11-23T03:00:00.123456Z"
    assert (index["broken"]["status"], index["broken"]["genre"], index["nan"]["duration_s"]) == ("failed", None, None)
    first = out.read(next(out.list(export.path)).key).splitlines()[0]
    assert json.loads(first)["index"]["_index"] == "tracks"
    assert json.loads(out.read("latest.json"))["path"] == export.path


kinds = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["rock", "jazz", "failed"]))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(kinds, min_size=2, max_size=4))
def test_what_changed_since_brings_an_index_to_where_the_whole_export_is(tmp_path_factory, nights):
    folder = tmp_path_factory.mktemp("x")
    predictions, out = Predictions(Storage(str(folder / "root"))), Storage(str(folder / "out"))
    before, versions = {}, []
    for n, now in enumerate(nights):
        made = {i: g for i, g in now.items() if before.get(i) != g}
        rows = [failed(i) if g == "failed" else tagged(i, genre=g) for i, g in made.items()]
        versions.append(tag(predictions, rows, f"r{n}", removed=sorted(before.keys() - now.keys()), n_catalog=len(now)))
        before = now
    for since in versions:
        old = applied(out, exports.export_bulk(predictions, out.root, out.config, version=since))
        change = exports.export_bulk(predictions, out.root, out.config, since=since)
        whole = exports.export_bulk(predictions, out.root, out.config)
        assert of_search(applied(out, change, old)) == of_search(applied(out, whole))
        assert change.n_rows + change.n_deleted <= len(old.keys() | before.keys())


def test_bulk_files_have_a_bounded_size(local, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "BULK_BYTES", 2_000)
    tag(local, [f"{n:02d}" for n in range(20)], "r1", n_catalog=20)
    out = Storage(str(tmp_path / "out"))
    export = exports.export_bulk(local, out.root, out.config)
    sizes = [info.size_bytes for info in out.list(export.path)]
    assert len(sizes) > 4 and max(sizes) <= 2_000
    assert len(applied(out, export)) == 20


def test_versions_that_are_not_there_are_told(local, tmp_path):
    tag(local, ["a"], "r1", n_catalog=1)
    with pytest.raises(NotFoundError, match="no version 7"):
        exports.export_bulk(local, str(tmp_path / "out"), local.root.config, version=7)
    with pytest.raises(UsageError, match="--since 2 is later"):
        exports.export_bulk(local, str(tmp_path / "out"), local.root.config, since=2)
    assert not (tmp_path / "out" / "latest.json").exists()


def test_a_target_has_one_format(local, tmp_path):
    tag(local, ["a"], "r1", n_catalog=1)
    exports.export_bulk(local, str(tmp_path), local.root.config)
    with pytest.raises(StorageError, match="another format"):
        exports.export_csv(local, str(tmp_path), local.root.config)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp932"])
def test_a_csv_opens_in_a_spreadsheet_and_says_what_it_could_not_hold(local, tmp_path, encoding):
    names = {"a": "夜曲～①髙.mp3", "b": "🎸ギター.wav", "c": "=HYPERLINK(1)", "d": '"q",\r\nline', "e": "@x"}
    tag(local, [tagged(i, source_name=name) for i, name in names.items()], "r1", n_catalog=5)
    export, report = exports.export_csv(local, str(tmp_path), local.root.config, encoding=encoding)
    data = (tmp_path / export.path).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") == (encoding == "utf-8-sig")
    rows = {row["track_id"]: row for row in csv.DictReader(io.StringIO(data.decode(encoding), newline=""))}
    lossy = encoding == "cp932"
    assert rows["a"]["source_name"] == names["a"]
    assert rows["b"]["source_name"] == ("?ギター.wav" if lossy else names["b"])
    assert (rows["c"]["source_name"], rows["e"]["source_name"]) == ("'=HYPERLINK(1)", "'@x")
    assert rows["d"]["source_name"] == names["d"]
    assert (rows["a"]["instruments"], rows["a"]["tags"]) == ("piano;guitar", "genre:rock")
    assert report.replaced == ({"🎸": 1} if lossy else {})
    assert report.n_formulas == 2
    told = {(cell["track_id"], cell["column"]) for cell in report.cells}
    assert told == {("c", "source_name"), ("e", "source_name"), *([("b", "source_name")] if lossy else [])}
    assert json.loads((tmp_path / "predictions-v000001.report.json").read_text())["n_rows"] == 5
