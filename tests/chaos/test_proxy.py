"""The proxy harms nothing unasked, and does what a rule says and no more."""

import contextlib
import threading
import time

import boto3
import pyarrow as pa
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from deltalake import DeltaTable, write_deltalake

from tagfleet.store.config import StorageConfig
from tagfleet.store.s3 import arrow_s3, delta_options
from tests.chaos.proxy import proxied
from tests.chaos.rules import Rule

KEY = "曲 #1?50%&a+b=c/が.bin"
BODY = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def _proxy(s3):
    with proxied(s3.endpoint_url) as proxy:
        boto3.client("s3").create_bucket(Bucket="proxied")
        yield proxy


@pytest.fixture
def proxy(_proxy):
    yield _proxy
    _proxy.clear()


@pytest.fixture
def client(proxy):
    """One try per call, through the proxy."""
    return boto3.client(
        "s3", endpoint_url=proxy.endpoint_url, config=Config(retries={"total_max_attempts": 1}, read_timeout=30)
    )


def get(client, **words):
    return client.get_object(Bucket="proxied", Key=KEY, **words)["Body"].read()


@pytest.fixture
def stored(client):
    client.put_object(Bucket="proxied", Key=KEY, Body=BODY)


def test_everything_passes_unharmed(client, proxy, stored):
    assert get(client) == BODY
    assert get(client, Range="bytes=1000-1999") == BODY[1000:2000]
    assert client.head_object(Bucket="proxied", Key=KEY)["ContentLength"] == len(BODY)
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket="proxied")["Contents"]] == [KEY]
    # Signed and sent in chunks with a trailing checksum.
    client.put_object(Bucket="proxied", Key="chunks", Body=BODY, ChecksumAlgorithm="CRC32")
    assert client.get_object(Bucket="proxied", Key="chunks")["Body"].read() == BODY
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="proxied", Key=KEY, Body=b"", IfNoneMatch="*")
    client.put_object(Bucket="proxied", Key="empty", Body=b"")
    assert client.get_object(Bucket="proxied", Key="empty")["Body"].read() == b""
    client.delete_object(Bucket="proxied", Key="chunks")
    client.delete_object(Bucket="proxied", Key="empty")

    ranged = [entry for entry in proxy.log if entry.range_start]
    assert [(e.method, e.path, e.range_start, e.status, e.n_bytes) for e in ranged] == [
        ("GET", f"/proxied/{KEY}", 1000, 206, 1000)
    ]
    assert all(entry.whole for entry in proxy.log)


def test_other_libraries_pass_as_well(client, proxy, stored, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
    s3 = arrow_s3(StorageConfig())
    with s3.open_output_stream("proxied/streamed") as stream:
        stream.write(BODY)
    with s3.open_input_file("proxied/streamed") as file:
        assert file.read_at(10, 300) == BODY[300:310]
    options = delta_options(StorageConfig())
    write_deltalake("s3://proxied/table", pa.table({"n": [1, 2]}), storage_options=options)
    assert DeltaTable("s3://proxied/table", storage_options=options).version() == 0


def test_a_wrong_signature_is_still_refused(proxy, stored, s3):
    if s3.kind != "ceph":
        pytest.skip("moto asks for no signature")
    wrong = boto3.client(
        "s3", endpoint_url=proxy.endpoint_url, aws_access_key_id=s3.access_key, aws_secret_access_key="wrong"
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        get(wrong)


def test_rules_count_and_draw(client, proxy, stored):
    proxy.add(Rule(method="GET", path=r"が\.bin$", first=2, n=1, busy=True))
    assert get(client) == BODY
    with pytest.raises(ClientError, match="SlowDown"):
        get(client)
    assert get(client) == BODY
    assert [entry.status for entry in proxy.log][-3:] == [200, 503, 200]

    def drawn(seed):
        proxy.clear()
        proxy.add(Rule(method="HEAD", share=0.5, seed=seed, busy=True))
        for _ in range(30):
            with contextlib.suppress(ClientError):
                client.head_object(Bucket="proxied", Key=KEY)
        return [entry.status for entry in proxy.log]

    assert drawn(3) == drawn(3) != drawn(4)
    assert 5 < drawn(3).count(503) < 25


def test_a_lost_request_did_not_happen_and_a_lost_answer_did(client, proxy):
    for drop, happened in (("request", False), ("answer", True)):
        proxy.add(Rule(method="PUT", path=f"{drop}$", drop=drop))
        with pytest.raises(BotoCoreError):
            client.put_object(Bucket="proxied", Key=f"lost-{drop}", Body=b"1")
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="proxied").get("Contents", ())]
        assert (f"lost-{drop}" in keys) is happened


def test_bodies_break_off_and_come_late(client, proxy, stored):
    proxy.add(Rule(method="GET", path="bin$", n=1, keep=0.5))
    answer = client.get_object(Bucket="proxied", Key=KEY)
    assert answer["ContentLength"] == len(BODY)
    with pytest.raises(BotoCoreError):
        answer["Body"].read()
    assert (proxy.log[-1].n_bytes, proxy.log[-1].whole) == (len(BODY) // 2, False)
    proxy.add(Rule(method="HEAD", delay_s=0.3))
    start = time.monotonic()
    client.head_object(Bucket="proxied", Key=KEY)
    assert time.monotonic() - start >= 0.3


def test_nobody_is_answered_while_it_is_down(client, proxy, stored):
    proxy.down(60)
    with pytest.raises(BotoCoreError):
        get(client)
    proxy.down(0)
    assert get(client) == BODY


def test_the_harness_sees_the_moments_of_a_request(client, proxy, s3):
    direct = boto3.client("s3")
    told, passed_on = [], threading.Event()

    def there(moment):
        def call(request):
            told.append((moment, "Contents" in direct.list_objects_v2(Bucket="proxied", Prefix="moment")))
            if moment == "after":
                passed_on.set()

        return call

    proxy.add(
        Rule(method="PUT", path="moment$", before=there("before"), answered=there("answered"), after=there("after"))
    )
    client.put_object(Bucket="proxied", Key="moment", Body=b"1")
    assert passed_on.wait(30)
    assert told == [("before", False), ("answered", True), ("after", True)]
