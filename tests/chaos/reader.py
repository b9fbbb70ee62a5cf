"""Somebody who reads the table all the time, as a search index does, and must never see half a snapshot."""

from __future__ import annotations

from collections.abc import Collection
from threading import Event, Thread
from types import TracebackType

from botocore.exceptions import ClientError

from tests.chaos.bucket import Bucket
from tests.chaos.table import open_snapshot, read_table

_EVERY_S = 0.3


class Reader:
    """Polls while the body runs; `problems` are the snapshots that were not whole."""

    def __init__(self, bucket: Bucket, root: str, whole: Collection[frozenset[str]]) -> None:
        """whole: the sets of track ids that a snapshot may have."""
        self._bucket, self._table, self._whole = bucket, f"{root}/predictions", whole
        self._over = Event()
        self._thread = Thread(target=self._poll, name="reader", daemon=True)
        self.n_polls = 0
        self.seen: list[int] = []
        """Versions, in the order in which they were current."""
        self.problems: list[str] = []

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._over.wait(_EVERY_S):
            self.look()

    def look(self) -> None:
        """Open the current snapshot, as it is now."""
        try:
            snapshot = open_snapshot(self._bucket, self._table)
            self.n_polls += 1
            if snapshot is None:
                self.problems.append("the table is gone")
            elif snapshot.version not in self.seen:
                rows = read_table(self._bucket, self._table, snapshot, ["track_id", "model_id"])
                self.seen.append(snapshot.version)
                self._judge(snapshot.version, rows["track_id"].to_pylist(), set(rows["model_id"].to_pylist()))
            elif snapshot.version != self.seen[-1]:
                self.problems.append(f"version {snapshot.version} came back after {self.seen[-1]}")
        except (ClientError, KeyError) as error:  # a file or a log entry that is named and not there
            self.problems.append(f"not readable: {error!r}")

    def _judge(self, version: int, ids: list[str], models: set[str]) -> None:
        if len(set(ids)) != len(ids):
            self.problems.append(f"version {version} has ids twice")
        if frozenset(ids) not in self._whole:
            self.problems.append(f"version {version} has {len(ids)} rows, which is no catalogue's")
        if len(models) > 1:
            self.problems.append(f"version {version} is of {len(models)} models")
