"""Whether a table is what it must be, by what lies in the bucket. Nothing of tagfleet is used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.bucket import Bucket
from tests.chaos.rules import Entry
from tests.chaos.table import Rows, open_snapshot, read_table, versions

OF_THE_RUN = frozenset(("run_id", "tagged_at", "log_mels"))
"""Columns that tell who made a row and when: the others must be the same whoever did."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong with a table; all empty when nothing is."""

    lost: tuple[str, ...] = ()
    """Catalogue ids without a row."""
    doubled: tuple[str, ...] = ()
    """Ids with more than one, and ids that the catalogue has not."""
    wrong: tuple[str, ...] = ()
    """Rows that are not what a run without faults makes, and what else should not be, in words."""

    @property
    def fine(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


def check(bucket: Bucket, root: str, expected: Rows, lineage: Mapping[str, str]) -> Findings:
    """Compare the predictions below `root` with its catalogue and with `expected` rows."""
    catalog = {row["track_id"]: row for row in _current(bucket, f"{root}/catalog")}
    rows = _current(bucket, f"{root}/predictions")
    counts = Counter(row["track_id"] for row in rows)
    wrong = [f"run {run} committed {n} times" for run, n in _commits(bucket, f"{root}/predictions").items() if n > 1]
    for row in rows:
        track = catalog.get(row["track_id"])
        if track is not None:
            wrong += _differences(row, expected[row["track_id"]], track, lineage)
    return Findings(
        lost=tuple(sorted(set(catalog) - set(counts))),
        doubled=tuple(sorted(i for i, n in counts.items() if n > 1 or i not in catalog)),
        wrong=tuple(wrong),
    )


def _current(bucket: Bucket, table: str) -> list[dict[str, object]]:
    snapshot = open_snapshot(bucket, table)
    assert snapshot is not None, f"there is no table {table}"
    return list(read_table(bucket, table, snapshot).to_pylist())


def _differences(
    row: Mapping[str, object], expected: Mapping[str, object], track: Mapping[str, object], lineage: Mapping[str, str]
) -> Iterable[str]:
    for name in row:
        # repr: NaN is NaN here, and -0.0 is not 0.0.
        if name not in OF_THE_RUN and repr(row[name]) != repr(expected[name]):
            yield f"{row['track_id']}: {name} is {row[name]!r:.80}, not {expected[name]!r:.80}"
    for name, value in lineage.items():
        if row[name] != value:
            yield f"{row['track_id']}: {name} is {row[name]}, the model's is {value}"
    if row["audio_fingerprint"] != f"{track['etag']}:{track['size_bytes']}":
        yield f"{row['track_id']}: {row['audio_fingerprint']} is not the catalogue's {track['etag']}"
    if set(row) != set(expected):
        yield f"{row['track_id']}: columns {set(row) ^ set(expected)}"


def _commits(bucket: Bucket, table: str) -> Counter[str]:
    """How often each run id stands in the log."""
    found: Counter[str] = Counter()
    for version in versions(bucket, table):
        actions = map(json.loads, bucket.read(f"{table}/_delta_log/{version:020d}.json").splitlines())
        found.update(action["txn"]["appId"] for action in actions if "txn" in action)
    return found


def orphans(bucket: Bucket, table: str) -> list[str]:
    """Data files that no version in the log has."""
    known: set[str] = set()
    for version in versions(bucket, table):
        snapshot = open_snapshot(bucket, table, version)
        known |= snapshot.files if snapshot else set()
    return sorted(_data_files(bucket, table) - known)


def left_behind(bucket: Bucket, root: str) -> list[str]:
    """What must be gone when all but the current snapshot was vacuumed: other data files, and plans."""
    snapshot = open_snapshot(bucket, f"{root}/predictions")
    assert snapshot is not None, f"there is no table {root}/predictions"
    files = _data_files(bucket, f"{root}/predictions") - snapshot.files
    plans = [key for key in bucket.keys(f"{root}/runs") if "/plan/" in key]
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", ())
    return sorted([*files, *plans, *(upload["Key"] for upload in uploads if upload["Key"].startswith(f"{root}/"))])


def _data_files(bucket: Bucket, table: str) -> set[str]:
    found = (key.removeprefix(f"{table}/") for key in bucket.keys(table))
    return {path for path in found if path.endswith(".parquet") and not path.startswith("_delta_log/")}


def heard_again(log: Sequence[Entry], audio: str) -> int:
    """Hearings of tracks beyond the first of each. audio: /bucket/prefix/ of their objects.

    A hearing is an answer that begins at the first byte; one that breaks off is continued from where it did.
    """
    begun = Counter(
        entry.path
        for entry in log
        if entry.method == "GET"
        and entry.path.startswith(audio)
        and entry.range_start == 0
        and entry.status in (200, 206)
        and (entry.n_bytes or entry.whole)
    )
    return sum(begun.values()) - len(begun)
