import io
import os
import random
import socket
import time
import unicodedata

import boto3
import pytest

from tagfleet.errors import FetchError, NotFoundError, StorageError
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import Storage
from tagfleet.store.ranged import CACHE_BYTES
from tagfleet.store.sources import fingerprint, list_audio, open_uri
from tests import s3server
from tests.conftest import HARD_NAME
from tests.store.faulty import URI

HERE = StorageConfig()
LARGE = CACHE_BYTES + 3_000_001


def read(uri, max_bytes=1 << 30):
    with open_uri(uri, HERE, max_bytes=max_bytes) as source:
        return source.file.read()


def reason(uri, max_bytes=1 << 30):
    with pytest.raises(FetchError) as caught:
        read(uri, max_bytes)
    return caught.value.reason


def keys(uri, skipped=lambda name: None):
    return [info.key for info in list_audio(uri, HERE, skipped=skipped)]


def test_the_bytes_and_the_fingerprint_that_a_listing_gives(any_root):
    Storage(any_root).write(f"{HARD_NAME}/が.mp3", b"sound")
    (info,) = list_audio(any_root, HERE, skipped=pytest.fail)
    with open_uri(info.uri, HERE, max_bytes=5) as source:
        assert source.file.seekable()
        assert source.file.read() == b"sound"
        assert source.fingerprint == fingerprint(info.etag, info.size_bytes)
    assert source.file.closed


def test_a_changed_file_has_another_fingerprint(any_root):
    root = Storage(any_root)

    def seen():
        with open_uri(root.uri("t.wav"), HERE, max_bytes=100) as source:
            return source.fingerprint

    root.write("t.wav", b"first")
    first = seen()
    assert seen() == first
    time.sleep(0.01)
    root.write("t.wav", b"other")
    assert seen() != first


def test_unicode_twins_are_two_files(any_root):
    twins = [unicodedata.normalize(form, "がガ.mp3") for form in ("NFC", "NFD")]
    for name in twins:
        Storage(any_root).write(name, name.encode())
    assert sorted(keys(any_root)) == sorted(twins)
    assert [read(f"{any_root}/{name}").decode() for name in twins] == twins


@pytest.fixture(scope="module")
def large(s3):
    """A large object, its bytes, and the client that made it."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="large")
    data = random.Random(0).randbytes(LARGE)
    client.put_object(Bucket="large", Key="大 #1", Body=data)
    return "s3://large/大 #1", data, client


def test_a_large_object_read_by_ranges_equals_the_whole(large):
    uri, data, _ = large
    with open_uri(uri, HERE, max_bytes=LARGE) as source:
        assert source.file.read() == data
        assert source.file.read(1) == b""
        for offset in (0, 1, CACHE_BYTES - 3, LARGE - 10, 12_345):
            source.file.seek(offset)
            assert source.file.read(1000) == data[offset : offset + 1000]
            assert source.file.tell() == min(offset + 1000, LARGE)
        assert source.file.seek(-4, io.SEEK_END) == LARGE - 4
        assert source.file.read() == data[-4:]
        source.file.seek(LARGE + 5)
        assert source.file.read(10) == b""


def test_an_object_that_changes_while_it_is_read_is_no_mixture(s3, bucket):
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key="k", Body=b"1" * LARGE)
    with open_uri(f"s3://{bucket}/k", HERE, max_bytes=LARGE) as source:
        assert source.file.read(10) == b"1" * 10
        client.put_object(Bucket=bucket, Key="k", Body=b"2" * LARGE)
        source.file.seek(LARGE - 10)
        with pytest.raises(FetchError, match="was replaced") as caught:
            source.file.read(10)
    assert caught.value.reason == "changed"


ID3 = b"ID3\x04\0\0" + bytes((2, 64, 0, 0))  # and 5 MiB of it
SIZE = 18 << 20


@pytest.mark.parametrize(
    "head",
    [b"RIFF", b"RIFX", b"RF64", b"BW64", bytes.fromhex("726966662e91cf11"), b"FORM", b"fLaC", b"OggS", b"\0\0\0 ftyp"],
)
@pytest.mark.parametrize("tag", [b"", ID3 + bytes(5 << 20), ID3[:5] + b"\x10" + ID3[6:] + bytes((5 << 20) + 10)])
def test_of_containers_with_a_map_only_what_is_read_is_fetched(fake, head, tag):
    with fake(tag + head) as source:
        for place in (0, 12 << 20, SIZE - 1000):
            source.file.seek(place)
            source.file.read(1000)
    assert source.counts.n_requests == (4 if tag else 3)
    assert source.counts.n_bytes < 3 << 20
    assert source.counts.size_bytes == SIZE


@pytest.mark.parametrize("tag", [b"", ID3 + bytes(5 << 20)])
@pytest.mark.parametrize("head", [b"\xff\xfb\x90", b"\xff\xf1", bytes(500)])
def test_of_the_others_all_is_fetched_in_few_requests(fake, head, tag):
    with fake(tag + head) as source:
        source.file.seek(len(tag))
        while source.file.read(1 << 16):
            pass
    assert source.counts.n_requests <= 4
    assert SIZE - len(tag) <= source.counts.n_bytes <= SIZE - len(tag) + (1 << 18)


def test_of_many_tags_no_end_is_sought(fake):
    with fake((ID3[:6] + bytes(4)) * 20_000) as source:
        assert source.counts.n_requests == 1


@pytest.fixture
def fake(faulty_server):
    """Opens an object of SIZE that begins as given."""

    def opened(head):
        faulty_server.data = head.ljust(SIZE, b"x")
        return open_uri(URI, faulty_server.config(), max_bytes=SIZE)

    return opened


def test_a_small_object_comes_as_a_whole(bucket):
    boto3.client("s3").put_object(Bucket=bucket, Key="k", Body=b"RIFF" * 250_000)
    for whole_bytes, n_requests in ((1_000_000, 2), (999_999, 3)):
        with open_uri(f"s3://{bucket}/k", StorageConfig(whole_bytes=whole_bytes), max_bytes=1 << 30) as source:
            assert source.counts.n_requests == 1
            for place in (200_000, 900_000):
                source.file.seek(place)
                source.file.read(4)
        assert source.counts.n_requests == n_requests


def test_an_empty_object_has_its_fingerprint(any_root):
    Storage(any_root).write("empty.wav", b"")
    (info,) = list_audio(any_root, HERE, skipped=pytest.fail)
    with open_uri(info.uri, HERE, max_bytes=5) as source:
        assert source.file.read() == b""
        assert source.fingerprint == fingerprint(info.etag, 0)
    assert source.counts.size_bytes == source.counts.n_bytes == 0


def test_of_a_local_file_what_is_read_is_counted(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(1 << 20))
    with open_uri(f"{tmp_path}/a.wav", HERE, max_bytes=1 << 20) as source:
        source.file.seek(500_000)
        source.file.read(1 << 16)
        assert source.file.seek(-10, io.SEEK_END) == (1 << 20) - 10
        assert len(source.file.read()) == 10
    assert (source.counts.n_requests, source.counts.size_bytes) == (0, 1 << 20)
    assert 1 << 16 < source.counts.n_bytes < 1 << 17


def test_what_is_not_there(any_root):
    Storage(any_root).write("file", b"")
    assert reason(f"{any_root}/nothing") == "not-found"
    assert reason(f"{any_root}/file/below") == "not-found"


def test_more_bytes_than_allowed(any_root, large):
    Storage(any_root).write("k", b"12345")
    assert read(f"{any_root}/k", max_bytes=5) == b"12345"
    assert reason(f"{any_root}/k", max_bytes=4) == "too-large"
    assert reason(large[0], max_bytes=LARGE - 1) == "too-large"


def test_no_file_is_waited_for_or_mistaken(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link", "loop", ".", "x" * 300, "a\0b"):
        assert reason(f"{tmp_path}/{name}") == "not-a-file"
    assert reason("/dev/zero") == "not-a-file"
    assert reason("/dev/tty") == "not-a-file"


def test_an_unreadable_file_is_forbidden(tmp_path):
    path = tmp_path / "secret.mp3"
    path.write_bytes(b"")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        assert reason(str(path)) == "forbidden"
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    "uri",
    ["http://host/x.mp3", "file:///etc/passwd", "relative.mp3", "", "s3://", "s3://bucket/", "s3:///k", "s3://a b/k"],
)
def test_other_places_are_not_supported(uri, s3):
    assert reason(uri) == "unsupported-uri"


def test_a_name_that_is_no_unicode_names_no_object(bucket):
    assert reason(f"s3://{bucket}/\udcff") == "unsupported-uri"


def test_a_missing_bucket_is_not_found(s3):
    assert reason("s3://there-is-no-such-bucket/k") == "not-found"
    with pytest.raises(NotFoundError, match="no bucket"):
        keys("s3://there-is-no-such-bucket/k")


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3server.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3server.SECRET_KEY)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with (
        pytest.raises(FetchError) as caught,
        open_uri("s3://b/k", StorageConfig(endpoint_url=f"http://127.0.0.1:{port}", max_retries=2), max_bytes=1),
    ):
        pass
    assert caught.value.reason == "unreachable"


def test_a_listing_has_files_only(tmp_path):
    for name in ("b/2.mp3", "a.mp3", "b/.hidden", ".git/x", "z/é 曲/3.wav"):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.mp3").write_bytes(b"")
    music = tmp_path / "music"
    os.mkfifo(music / "fifo.mp3")
    (music / "out.mp3").symlink_to(tmp_path / "elsewhere" / "x.mp3")
    (music / "folder-link").symlink_to(tmp_path / "elsewhere")
    (music / "alias.mp3").symlink_to("a.mp3")
    (music / "dead.mp3").symlink_to("nothing")
    (music / os.fsdecode(b"\xff.mp3")).write_bytes(b"")
    skipped = []
    assert keys(str(music), skipped.append) == ["a.mp3", "alias.mp3", "b/2.mp3", "z/é 曲/3.wav"]
    why = {name.removeprefix(f"{music}/").split(":")[0]: name for name in skipped}
    assert set(why) == {"fifo.mp3", "out.mp3", "dead.mp3", "\\udcff.mp3"}
    assert "not valid UTF-8" in why["\\udcff.mp3"] and "leads out" in why["out.mp3"]
    "".join(skipped).encode()


def test_a_listing_of_a_bucket_takes_the_folder_alone(bucket):
    client = boto3.client("s3")
    for key in ("a/1.mp3", "a/sub/", "a/sub/2.mp3", "ab/3.mp3"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert keys(f"s3://{bucket}/a") == keys(f"s3://{bucket}/a/") == ["1.mp3", "sub/2.mp3"]
    assert keys(f"s3://{bucket}") == ["a/1.mp3", "a/sub/2.mp3", "ab/3.mp3"]


def test_a_listing_of_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(NotFoundError, match="is no folder"):
            keys(str(path))


def test_a_folder_that_cannot_be_listed_stops_the_scan_and_loses_no_track(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.wav").write_bytes(b"x")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(StorageError, match="locked cannot be listed: Permission denied"):
        list(list_audio(str(tmp_path), StorageConfig(), skipped=print))


def test_a_disk_that_breaks_off_fails_that_track_only(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    with (
        pytest.raises(FetchError, match="broke off: Input/output error") as caught,
        open_uri(str(tmp_path / "a.wav"), StorageConfig(), max_bytes=9),
    ):
        raise OSError(5, "Input/output error")
    assert caught.value.reason == "unreachable"
