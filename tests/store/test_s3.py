"""What people read when the server, the bucket or the credentials are not there; each in a process of its own,
because AWS clients look for credentials once."""

import json
import os
import subprocess
import sys
import time

import pytest

from tagfleet.store.objects import Storage
from tagfleet.store.s3 import bucket_and_key
from tagfleet.store.tables import Table
from tests.s3server import S3Server
from tests.store.rows import table, tagged

SECRET = "THE-SECRET-OF-SOMEBODY"
ASK = """
import json, os, sys
import pyarrow as pa
from tagfleet.errors import TagfleetError
from tagfleet.store.config import StorageConfig
from tagfleet.store import s3
from tagfleet.store.objects import Storage
from tagfleet.store.exports import export_parquet
from tagfleet.store.predictions import Predictions
from tagfleet.store.sources import open_uri
from tagfleet.store.tables import Table

s3._TRIES = int(os.environ.get("TRIES", s3._TRIES))
root = Storage(sys.argv[1])
rows = pa.table({"track_id": ["a"]})
predictions = Predictions(root)

def opened():
    with open_uri(root.uri("object"), StorageConfig(max_retries=1), max_bytes=100) as source:
        return source.file.read().decode()

calls = {
    "reach": lambda: root.reached().root,
    "read": lambda: root.read("object").decode(),
    "list": lambda: [info.key for info in root.list("some")],
    "create": lambda: root.create("some/new", b""),
    "open": opened,
    "table exists": predictions.table.exists,
    "table read": lambda: predictions.table.read().num_rows,
    "table create": lambda: Table(root, "new").create(rows.schema),
    "table replace": lambda: Table(root, "catalog").replace(rows, note=""),
    "export": lambda: export_parquet(predictions, root.uri("export"), root.config).n_rows,
}
for name in sys.argv[2:] or [name for name in calls if name != "reach"]:
    try:
        answer = calls[name]()
    except TagfleetError as error:
        answer = [getattr(error, "reason", error.code), error.message, error.hint]
    print(json.dumps([name, answer]))
"""


def ask(root, *calls, **environment):
    """What each call answers in a new process: its value, or the error's code, message and hint."""
    left_out = {name for name, value in environment.items() if value is None}
    full = {name: value for name, value in (os.environ | environment).items() if name not in left_out}
    command = [sys.executable, "-W", "error", "-c", ASK, root, *calls]
    done = subprocess.run(command, env=full, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture
def filled(bucket):
    root = Storage(f"s3://{bucket}/棚 1")
    root.write("object", b"content")
    Table(root, "predictions").replace(table(tagged("a")), note="")
    return root.root


def test_a_profile_in_the_credentials_file_is_enough(filled, s3: S3Server, tmp_path):
    keys = f"[artist]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    (tmp_path / "credentials").write_text(keys)
    answers = ask(
        filled,
        AWS_PROFILE="artist",
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"),
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
    )
    assert answers == {
        "read": "content",
        "list": [],
        "create": True,
        "open": "content",
        "table exists": True,
        "table read": 1,
        "table create": None,
        "table replace": 0,
        "export": 1,
    }


def test_wrong_credentials_are_told_and_never_shown(filled, s3: S3Server):
    if s3.kind != "ceph":
        pytest.skip("moto's server takes any credentials")
    answers = ask(filled, AWS_SECRET_ACCESS_KEY=SECRET)
    assert answers.pop("open")[0] == "forbidden"
    for code, message, hint in answers.values():
        assert code == "storage" and "refused (SignatureDoesNotMatch)" in message and "credentials" in hint
    assert SECRET not in json.dumps(answers)


def test_without_credentials_the_hint_says_where_they_go(filled):
    answers = ask(filled, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert answers.pop("open")[0] == "forbidden"
    for code, message, hint in answers.values():
        assert code == "storage" and "no AWS credentials" in message and "AWS_PROFILE" in hint


def test_a_missing_bucket_is_named(s3):
    answers = ask("s3://there-is-no-such-bucket/x")
    assert answers.pop("open")[0] == "not-found"
    for code, message, hint in answers.values():
        assert code == "not-found" and "no bucket for s3://there-is-no-such-bucket/x" in message and "bucket" in hint


def test_a_dead_endpoint_is_told_of_before_any_work(filled):
    started = time.monotonic()
    (answer,) = ask(filled, "reach", AWS_ENDPOINT_URL="http://127.0.0.1:9").values()
    assert answer[0] == "storage" and "cannot be reached" in answer[1] and "endpoint_url" in answer[2]
    assert time.monotonic() - started < 30  # work itself is more patient: minutes


def test_an_endpoint_that_died_is_told_of(filled):
    calls = ("read", "open", "table exists", "export")
    answers = ask(filled, *calls, AWS_ENDPOINT_URL="http://127.0.0.1:9", TRIES="2")
    assert answers.pop("open")[0] == "unreachable"
    for code, message, hint in answers.values():
        assert code == "storage" and "cannot be reached" in message and "endpoint_url" in hint


@pytest.mark.parametrize("key", ["", "k", "a/b", "%41/#?&+ が"])
def test_a_key_is_taken_as_it_stands(key):
    assert bucket_and_key(f"s3://bucket/{key}") == ("bucket", key)
