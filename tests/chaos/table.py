"""A Delta table read by hand: its log with json, its files with pyarrow, its bytes with boto3. Nothing of tagfleet."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from tests.chaos.bucket import Bucket

_LOG = re.compile(r"_delta_log/(\d{20})\.(json|checkpoint\.parquet)$")
Rows = dict[str, dict[str, Any]]
"""Track id -> columns."""


@dataclass
class Snapshot:
    """One version of a table."""

    version: int
    files: set[str] = field(default_factory=set)
    """Paths of its data files, relative to the table."""
    runs: dict[str, int] = field(default_factory=dict)
    """Application transactions."""


def versions(bucket: Bucket, table: str) -> list[int]:
    """Those that have a log entry, ascending."""
    found = (_LOG.search(key) for key in bucket.keys(f"{table}/_delta_log"))
    return sorted(int(entry[1]) for entry in found if entry and entry[2] == "json")


def open_snapshot(bucket: Bucket, table: str, version: int | None = None) -> Snapshot | None:
    """The latest version, or another; None where there is no table."""
    entries = {}
    for key in bucket.keys(f"{table}/_delta_log"):
        if found := _LOG.search(key):
            entries[int(found[1]), found[2]] = key
    logged = [number for number, kind in entries if kind == "json"]
    if not logged:
        return None
    wanted = max(logged) if version is None else version
    start = max((n for n, kind in entries if kind == "checkpoint.parquet" and n <= wanted), default=-1)
    snapshot = Snapshot(version=wanted)
    if start >= 0:
        data = bucket.read(entries[start, "checkpoint.parquet"])
        _apply(snapshot, pq.read_table(pa.BufferReader(data)).to_pylist())
    for number in range(start + 1, wanted + 1):
        data = bucket.read(entries[number, "json"])  # a hole in the log is a KeyError
        _apply(snapshot, map(json.loads, data.splitlines()))
    return snapshot


def _apply(snapshot: Snapshot, actions: Iterable[dict[str, Any]]) -> None:
    actions = list(actions)
    for action in actions:  # within one commit the order says nothing: what it removes was there before
        if action.get("remove"):
            snapshot.files.discard(unquote(action["remove"]["path"]))
    for action in actions:
        if action.get("add"):
            snapshot.files.add(unquote(action["add"]["path"]))
        if action.get("txn"):
            snapshot.runs[action["txn"]["appId"]] = action["txn"]["version"]


def read_table(bucket: Bucket, table: str, snapshot: Snapshot, columns: list[str] | None = None) -> pa.Table:
    """All rows of a version."""
    files = [bucket.read(f"{table}/{path}") for path in sorted(snapshot.files)]
    return pa.concat_tables([pq.read_table(io.BytesIO(data), columns=columns) for data in files])


def read_rows(bucket: Bucket, table: str) -> Rows:
    """The rows of the latest version; AssertionError where an id stands there twice."""
    snapshot = open_snapshot(bucket, table)
    assert snapshot is not None, f"there is no table {table}"
    rows = read_table(bucket, table, snapshot).to_pylist()
    by_id = {row["track_id"]: row for row in rows}
    assert len(by_id) == len(rows), f"{len(rows) - len(by_id)} ids stand twice in {table}"
    return by_id
