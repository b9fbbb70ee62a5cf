"""Reading the store survives an answer that breaks off, whichever it is: neither boto3 nor deltalake always does."""

import pyarrow as pa
import pytest

from tagfleet.errors import StorageError
from tagfleet.store.objects import Storage
from tagfleet.store.tables import DataFile, Table
from tests.chaos.proxy import proxied
from tests.chaos.rules import Rule


@pytest.fixture
def proxy(s3, monkeypatch):
    with proxied(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        yield proxy


@pytest.fixture
def root(bucket):
    """On the bucket, with a table of two versions and an object."""
    root = Storage(f"s3://{bucket}/root")
    for n in (1, 2):
        Table(root, "catalog").replace(pa.table({"n": [n]}), note="")
    root.write("runs/r1/run.json", b"{}" * 100)
    return root


@pytest.mark.parametrize(
    "read",
    [
        lambda root: root.read("runs/r1/run.json"),
        lambda root: Table(root, "catalog").latest(),
        lambda root: Table(root, "catalog").read().to_pydict(),
        lambda root: Table(root, "catalog").files(0),
    ],
    ids=["object", "latest", "rows", "files"],
)
def test_each_answer_may_break_off(root, proxy, read):
    expected = read(root)
    n_answers = sum(entry.method == "GET" for entry in proxy.log)
    assert n_answers
    for nth in range(1, n_answers + 1):
        proxy.clear()
        proxy.add(Rule(method="GET", first=nth, n=1, keep=0.5))
        assert read(root) == expected


def test_each_answer_may_break_off_while_a_run_commits(root, proxy):
    table, schema = Table(root, "catalog"), pa.schema([("n", pa.int64())])

    def commit(run_id):
        file = DataFile(path=f"{run_id}.parquet", size_bytes=1, n_rows=1)
        return table.swap([file], [], schema=schema, base_version=base, run_id=run_id)

    base = table.version()
    commit("r")
    proxy.clear()
    base = table.version()
    n_opening = sum(entry.method == "GET" for entry in proxy.log)
    assert commit("s") == base + 1
    n_answers = sum(entry.method == "GET" for entry in proxy.log) - n_opening
    assert n_answers > n_opening, "a commit reads more than the table"
    for nth in range(1, n_answers + 1):
        proxy.clear()
        base = table.version()
        proxy.add(Rule(method="GET", first=nth, n=1, keep=0.5))
        assert commit(f"r{nth}") == base + 1 == table.version()


def test_a_server_that_never_ends_its_answers_is_told_of(root, proxy):
    proxy.add(Rule(method="GET", keep=0.5))
    with pytest.raises(StorageError, match=r"run\.json cannot be reached"):
        root.read("runs/r1/run.json")
