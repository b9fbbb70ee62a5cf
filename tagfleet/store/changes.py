"""What two snapshots say differently, track by track: for search indexes that follow, and for people who look.

Data files that both snapshots share are never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tagfleet.schemas import PREDICTIONS
from tagfleet.store.parts import FOLDER as KEY
from tagfleet.store.predictions import Predictions
from tagfleet.store.sql import arrow_sql, identifier, json_fields, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Which = int | str
"""A version, or the id of a run that staged a snapshot."""

ADDED, CHANGED, REMOVED = "added", "changed", "removed"
INTERNAL = ("pooled_logits", "log_mels")
"""Columns for re-tagging, not for search."""
OF_THE_RUN = ("run_id", "tagged_at")
"""A row in which nothing else differs is not changed."""
DOCUMENT = pa.schema([field for field in PREDICTIONS if field.name not in INTERNAL])
"""What consumers are told of a row."""
ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two snapshots compared, counted."""

    n_added: int
    n_changed: int
    n_removed: int
    n_failed_now: int
    """Were tagged, are failed."""
    n_recovered: int
    """Were failed, are tagged."""
    n_compared: int
    """Tagged in both, among the changed."""
    flows: dict[str, list[tuple[str, str, int]]]
    """Axis -> (top label before, after, tracks), the most tracks first; `unknown` where there was none."""


def change_lines(predictions: Predictions, old: Which, new: Which) -> Iterator[str]:
    """One JSON object per track that differs: {"track_id", "change", "before", "after"}, in no order.

    change: added | changed | removed. before, after: DOCUMENT as an object; null where there is none. Raises
    NotFoundError for a snapshot that is not there or no longer kept.
    """
    rows = {
        side: json_fields({name: f"{side}.{identifier(name)}" for name in DOCUMENT.names}, DOCUMENT) for side in "ba"
    }
    told = f"""to_json(struct_pack(track_id := id, change := change,
        before := CASE WHEN b.track_id IS NOT NULL THEN {rows["b"]} END,
        after := CASE WHEN a.track_id IS NOT NULL THEN {rows["a"]} END))"""
    with _joined(predictions, old, new) as connection:
        yield from _texts(connection, f"SELECT CAST({told} AS VARCHAR) FROM changes")


def documents(predictions: Predictions, new: Which, since: Which | None) -> Iterator[tuple[str, str | None]]:
    """(track_id, DOCUMENT as JSON) of every row of a snapshot, or of those that are new or other than in `since`; None
    in the place of a document that has gone.
    """
    row = json_fields({name: f"a.{identifier(name)}" for name in DOCUMENT.names}, DOCUMENT)
    if since is None:
        with arrow_sql(predictions.root.uri(KEY), a=predictions.dataset(new)) as connection:
            yield from _pairs(connection, f"SELECT a.track_id, CAST(to_json({row}) AS VARCHAR) FROM a")
        return
    with _joined(predictions, since, new) as connection:
        text = f"CASE WHEN change <> {literal(REMOVED)} THEN CAST(to_json({row}) AS VARCHAR) END"
        yield from _pairs(connection, f"SELECT id, {text} FROM changes")


def difference(predictions: Predictions, old: Which, new: Which, axes: tuple[str, ...]) -> Difference:
    """Counts of what differs between two snapshots, and how top labels moved on each of `axes`."""
    with _joined(predictions, old, new) as connection:
        counts = Counter(dict(connection.execute("SELECT change, count(*) FROM changes GROUP BY 1").fetchall()))
        moved = dict(
            connection.execute(
                "SELECT b.status || ' ' || a.status, count(*) FROM changes WHERE change = 'changed' GROUP BY 1"
            ).fetchall()
        )
        flows = {}
        for axis in axes:
            top = {
                side: f"coalesce(list_filter({side}.tags, lambda t: t.axis = {literal(axis)})[1].label, 'unknown')"
                for side in "ba"
            }
            found = connection.execute(
                f"SELECT {top['b']} AS old, {top['a']} AS new, count(*) AS n FROM changes"
                " WHERE b.status = 'tagged' AND a.status = 'tagged' AND old <> new GROUP BY 1, 2 ORDER BY n DESC, 1, 2"
            ).fetchall()
            flows[axis] = [(str(old), str(new), int(n)) for old, new, n in found]
    return Difference(
        n_added=counts[ADDED],
        n_changed=counts[CHANGED],
        n_removed=counts[REMOVED],
        n_failed_now=moved.get("tagged failed", 0),
        n_recovered=moved.get("failed tagged", 0),
        n_compared=moved.get("tagged tagged", 0),
        flows=flows,
    )


def flipped_tracks(predictions: Predictions, old: Which, new: Which, axis: str, limit: int) -> list[dict[str, Any]]:
    """Some tracks whose top label on an axis is another: track_id, source_name, before, after; by id."""
    top = {
        side: f"coalesce(list_filter({side}.tags, lambda t: t.axis = {literal(axis)})[1].label, 'unknown')"
        for side in "ba"
    }
    with _joined(predictions, old, new) as connection:
        found = connection.execute(
            f"SELECT id, a.source_name, {top['b']} AS old, {top['a']} AS new FROM changes"
            " WHERE b.status = 'tagged' AND a.status = 'tagged' AND old <> new ORDER BY 1 LIMIT ?",
            [limit],
        ).fetchall()
    return [dict(zip(("track_id", "source_name", "before", "after"), row, strict=True)) for row in found]


@contextmanager
def _joined(predictions: Predictions, old: Which, new: Which) -> Iterator[DuckDBPyConnection]:
    """A database with the view `changes`: id, change, and the rows `b` (before) and `a` (after) of what differs."""
    old_files, new_files = predictions.files(old), predictions.files(new)
    shared = {file.path for file in old_files} & {file.path for file in new_files}
    before, after = (
        predictions.dataset_of(file for file in files if file.path not in shared) for files in (old_files, new_files)
    )
    names = [name for name in DOCUMENT.names if name not in OF_THE_RUN]
    differs = " OR ".join(f"b.{identifier(name)} IS DISTINCT FROM a.{identifier(name)}" for name in names)
    with arrow_sql(predictions.root.uri(KEY), before=before, after=after) as connection:
        connection.execute(
            f"""CREATE TEMP VIEW changes AS
            SELECT coalesce(b.track_id, a.track_id) AS id, b, a,
              CASE WHEN b.track_id IS NULL THEN 'added' WHEN a.track_id IS NULL THEN 'removed'
                ELSE 'changed' END AS change
            FROM before b FULL OUTER JOIN after a ON b.track_id = a.track_id WHERE {differs}"""
        )
        yield connection


def _texts(connection: DuckDBPyConnection, statement: str) -> Iterator[str]:
    for (text,) in _rows(connection, statement):
        yield text


def _pairs(connection: DuckDBPyConnection, statement: str) -> Iterator[tuple[str, str | None]]:
    yield from _rows(connection, statement)


def _rows(connection: DuckDBPyConnection, statement: str) -> Iterator[Any]:
    result = connection.execute(statement)
    while rows := result.fetchmany(ROWS_AT_ONCE):
        yield from rows
