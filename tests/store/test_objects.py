import os
import pickle
import stat
import tempfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tagfleet.errors import NotFoundError, StorageError
from tagfleet.store import objects
from tagfleet.store.objects import Storage, ensure_exclusive_create

NFC = unicodedata.normalize("NFC", "曲/が ガ.mp3")
NFD = unicodedata.normalize("NFD", NFC)
HARD_KEYS = [NFC, NFD, "a b/#1?.json", "100%25/%41", "a+b&c=d;e@f!.x", "-/~", "絵文字/🎹", "x" * 200, "a'b\"c\\d"]


def test_bytes_come_back_under_exactly_their_key(any_root):
    root = Storage(any_root)
    for number, key in enumerate(HARD_KEYS):
        root.write(f"folder/{key}", b"%d" % number)
    assert [root.read(f"folder/{key}") for key in HARD_KEYS] == [b"%d" % n for n in range(len(HARD_KEYS))]
    assert [info.key for info in root.list("folder")] == sorted(f"folder/{key}" for key in HARD_KEYS)


def test_a_listing_says_what_there_is(any_root):
    root = Storage(any_root)
    root.write("a/b/c", b"12345")
    root.write("ab/x", b"")
    (info,) = root.list("a")
    assert (info.key, info.size_bytes, info.uri) == ("a/b/c", 5, root.uri("a/b/c"))
    assert abs(datetime.now(UTC) - info.updated_at) < timedelta(minutes=1)
    root.write("a/b/c", b"54321")
    assert next(root.list("a")).etag != info.etag
    assert list(root.list("nothing")) == []


def test_keys_are_sorted_alike_everywhere(any_root):
    root = Storage(any_root)
    for key in ("k/a/b", "k/a-b", "k/a.b", "k/あ", "k/B"):
        root.write(key, b"")
    assert [info.key for info in root.list("k")] == ["k/B", "k/a-b", "k/a.b", "k/a/b", "k/あ"]


def test_write_replaces_and_delete_may_be_repeated(any_root):
    root = Storage(any_root)
    root.write("k", b"old")
    root.write("k", b"new")
    assert root.read("k") == b"new" and root.exists("k")
    root.delete("k")
    root.delete("k")
    assert not root.exists("k")
    with pytest.raises(NotFoundError, match="does not exist"):
        root.read("k")


@pytest.mark.parametrize("size", [0, 1, 20 << 20])
def test_an_open_file_is_put_whole(any_root, size):
    root, data = Storage(any_root), os.urandom(size)
    root.write("x/file", b"before")
    with tempfile.TemporaryFile() as file:
        file.write(data)
        root.write_file("x/file", file)
    assert root.read("x/file") == data
    assert [info.key for info in root.list("x")] == ["x/file"]


def test_a_folder_is_no_object(any_root):
    root = Storage(any_root)
    root.write("a/b", b"")
    assert not root.exists("a")
    with pytest.raises(NotFoundError):
        root.read("a")
    with pytest.raises(NotFoundError):
        root.read("nothing/below/here")


def test_of_many_creators_at_once_one_wins_and_its_bytes_stay(any_root):
    root = Storage(any_root)
    for key in ("race/1", "race/2", "race/3"):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, key=key: root.create(key, b"%d" % n), range(8)))
        assert won.count(True) == 1
        assert root.read(key) == b"%d" % won.index(True)
    assert {info.key for info in root.list("race")} == {"race/1", "race/2", "race/3"}


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.", "a\0b"])
def test_a_key_that_could_lead_out_is_refused(tmp_path, key):
    with pytest.raises(StorageError, match="not allowed"):
        Storage(str(tmp_path)).read(key)


@pytest.mark.parametrize(
    "root",
    [
        "gs://bucket/x",
        "file:///tmp",
        "s3://",
        "s3:///prefix",
        "s3://b/team/../x",
        "s3://b/a//b",
        "s3://b/a%25b",
        "/data/50%25",
        "/data/demo [1]",
        "/data/a\\b",
    ],
)
def test_a_root_of_another_kind_is_refused(root):
    with pytest.raises(StorageError) as caught:
        Storage(root)
    assert caught.value.hint


def test_storage_travels_to_other_processes(any_root):
    root = Storage(any_root)
    root.write("k", b"1")
    assert pickle.loads(pickle.dumps(root)).read("k") == b"1"
    assert pickle.loads(pickle.dumps(root)) == root


def test_what_another_process_is_just_writing_is_not_listed(tmp_path):
    root = Storage(str(tmp_path))
    temporary = objects._written_beside(root.uri("a/k"), [b"half"])
    assert list(root.list("a")) == []
    temporary.replace(tmp_path / "a" / "k")
    assert [info.key for info in root.list("a")] == ["a/k"]


def test_a_failed_local_write_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    root = Storage(str(tmp_path))
    root.write("k", b"old")

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="No space left"):
        root.write("k", b"new")
    monkeypatch.undo()
    assert root.read("k") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_root_below_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    root = Storage(str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        root.write("k", b"")
    assert not root.exists("k")


def test_local_files_are_readable_as_the_umask_says(tmp_path):
    mask = os.umask(0o022)
    try:
        Storage(str(tmp_path)).write("k", b"")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(Path(tmp_path, "k").stat().st_mode) == 0o644


def test_a_store_with_conditional_writes_is_taken_and_left_clean(any_root):
    root = Storage(any_root)
    ensure_exclusive_create(root)
    assert list(root.list("runs")) == []


def test_a_store_that_ignores_conditions_is_refused(bucket, monkeypatch):
    root = Storage(f"s3://{bucket}/forgetful")
    monkeypatch.setattr(Storage, "create", lambda self, key, data: self.write(key, data) is None)
    with pytest.raises(StorageError, match="ignores conditional writes") as caught:
        ensure_exclusive_create(root)
    assert "Ceph" in caught.value.hint
    assert list(root.list("runs")) == []


def test_an_object_cannot_take_a_folders_place_locally(tmp_path):
    root = Storage(str(tmp_path))
    root.write("a/b", b"")
    with pytest.raises(StorageError, match="cannot write"):
        root.write("a", b"")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]
