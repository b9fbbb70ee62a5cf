"""Planning a catalogue of any size: both tables are read in groups of files and compared bucket by bucket.

A bucket holds the ids whose hash falls into it, of both sides, so that a worker compares it alone. Small catalogues are
one bucket in this process. Large ones are split by Ray tasks, which hand pieces to each other as files below the run's
folder: neither the driver nor a worker ever holds more than a few buckets.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tagfleet.fleet.distribution import Distribution, distribution, total_of
from tagfleet.fleet.plan import CATALOG_COLUMNS, SNAPSHOT_COLUMNS, Only, make_work, snapshot_rows
from tagfleet.fleet.resources import RayConfig
from tagfleet.schemas import LINEAGE, PLAN, PREDICTIONS
from tagfleet.store.objects import Storage
from tagfleet.store.parts import id_hashes
from tagfleet.store.s3 import arrow_errors
from tagfleet.store.tables import DataFile

ROWS_IN_PROCESS = 3_000_000
"""Rows of both sides up to which this process plans alone."""
ROWS_PER_BUCKET = 500_000
"""Of both sides, about."""
ROWS_PER_GROUP = 500_000
"""Rows of data files that one task reads."""

Side = Literal["catalog", "predictions"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some data files of one side."""

    side: Side
    files: tuple[DataFile, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all of them."""
        return sum(file.n_rows for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Known:
    """The labels of committed rows."""

    labels: Distribution
    n_tagged: int

    def plus(self, other: Known) -> Known:
        """Of both together."""
        return Known(labels=total_of([self.labels, other.labels]), n_tagged=self.n_tagged + other.n_tagged)


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How rows are compared; travels to the workers."""

    root: Storage
    lineage: Mapping[str, str]
    axes: tuple[str, ...]
    only: Only
    retry_failed: bool

    def read(self, group: Group) -> pa.Table:
        """CATALOG_COLUMNS of a group of the catalogue, `snapshot_rows` of one of the predictions."""
        filesystem, base = self.root.arrow_filesystem()
        folder = f"{base}/{group.side}/"
        columns = CATALOG_COLUMNS if group.side == "catalog" else SNAPSHOT_COLUMNS
        read = []
        with arrow_errors(self.root.uri(group.side)):
            for file in group.files:
                source = ds.dataset(folder + file.path, format="parquet", filesystem=filesystem)
                rows = source.to_table(columns=list(columns), use_threads=False)
                if group.side == "predictions":
                    path = pa.DictionaryArray.from_arrays(np.zeros(rows.num_rows, np.int32), pa.array([file.path]))
                    rows = snapshot_rows(rows.append_column("file", path), self.lineage)
                read.append(rows)
        return pa.concat_tables(read) if read else self.nothing(group.side)

    def nothing(self, side: Side) -> pa.Table:
        """No rows of one side."""
        if side == "catalog":
            return PLAN.empty_table().select(CATALOG_COLUMNS)
        names = ("track_id", "uri", "status", "error_reason", "tags", "log_mels", *LINEAGE)
        empty = pa.schema([PREDICTIONS.field(name) for name in names]).empty_table()
        return snapshot_rows(empty.append_column("file", pa.array([], pa.string())), self.lineage)

    def known(self, snapshot: pa.Table) -> Known:
        """The labels of `snapshot_rows`."""
        n_tagged = snapshot.num_rows - snapshot["was"].null_count
        return Known(labels=distribution(snapshot["was"], self.axes), n_tagged=n_tagged)

    def compare(self, tracks: pa.Table, snapshot: pa.Table) -> pa.Table:
        """PLAN rows of one bucket."""
        return make_work(tracks, snapshot, only=self.only, retry_failed=self.retry_failed)


def plan_work(
    comparing: Comparing, catalog: Sequence[DataFile], snapshot: Sequence[DataFile], run_id: str, ray_config: RayConfig
) -> Iterator[tuple[pa.Table, Known]]:
    """PLAN rows, bucket by bucket, and what is known of the labels of committed rows that were not told before."""
    groups = [*_groups("catalog", catalog), *_groups("predictions", snapshot)]
    n_rows = sum(group.n_rows for group in groups)
    if n_rows <= ROWS_IN_PROCESS:
        sides = {}
        for side in ("catalog", "predictions"):
            read = [comparing.read(group) for group in groups if group.side == side]
            sides[side] = pa.concat_tables(read) if read else comparing.nothing(side)
        before = comparing.known(sides["predictions"])
        yield comparing.compare(sides["catalog"], sides["predictions"]), before
        return
    yield from _on_ray(comparing, groups, -(-n_rows // ROWS_PER_BUCKET), run_id, ray_config)


def _groups(side: Side, files: Sequence[DataFile]) -> Iterator[Group]:
    group = Group(side=side, files=())
    for file in files:
        group = replace(group, files=(*group.files, file))
        if group.n_rows >= ROWS_PER_GROUP:
            yield group
            group = Group(side=side, files=())
    if group.files:
        yield group


def _on_ray(
    comparing: Comparing, groups: Sequence[Group], n_buckets: int, run_id: str, ray_config: RayConfig
) -> Iterator[tuple[pa.Table, Known]]:
    from tagfleet.fleet.cluster import on_workers, ray_job

    root, folder = comparing.root, f"runs/{run_id}/exchange"
    split = Splitting(comparing=comparing, n_buckets=n_buckets, folder=folder)
    join = Joining(comparing=comparing, folder=folder)
    try:
        with ray_job(ray_config):
            pieces: dict[int, list[str]] = {}
            before = Known(labels={}, n_tagged=0)
            for answer in on_workers(split, groups):
                before = before.plus(Known(**answer["before"]))
                for bucket, key in answer["pieces"].items():
                    pieces.setdefault(int(bucket), []).append(key)
            keys = sorted(on_workers(join, sorted(pieces.items())))
        for key in keys:
            yield pq.read_table(pa.BufferReader(root.read(key)), schema=PLAN), before
            before = Known(labels={}, n_tagged=0)
    finally:
        for info in list(root.list(folder)):
            root.delete(info.key)


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """Reads one group and writes what belongs to each bucket as a file of its own."""

    comparing: Comparing
    n_buckets: int
    folder: str

    def __call__(self, group: Group) -> dict[str, Any]:
        """Bucket -> key of the piece, and how the group's labels are distributed."""
        rows = self.comparing.read(group)
        pieces = {}
        for bucket, part in split_rows(rows, self.n_buckets):
            # A name that a task which is tried again gives again.
            name = id_hashes(pa.array([file.path for file in group.files])).sum()
            pieces[bucket] = f"{self.folder}/{bucket:06d}/{group.side}-{name:020d}.arrow"
            data = io.BytesIO()
            with pa.ipc.new_file(data, part.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                writer.write_table(part)
            self.comparing.root.write(pieces[bucket], data.getvalue())
        before = self.comparing.known(rows) if group.side == "predictions" else Known(labels={}, n_tagged=0)
        return {"pieces": pieces, "before": asdict(before)}


@dataclass(frozen=True, kw_only=True)
class Joining:
    """Compares one bucket and writes its PLAN rows as a file."""

    comparing: Comparing
    folder: str

    def __call__(self, gathered: tuple[int, list[str]]) -> str:
        """The key of the file, for a bucket and the keys of its pieces."""
        bucket, pieces = gathered
        sides: dict[Side, list[pa.Table]] = {"catalog": [], "predictions": []}
        for key in pieces:
            side: Side = "catalog" if "/catalog-" in key else "predictions"
            sides[side].append(pa.ipc.open_file(self.comparing.root.read(key)).read_all())
        tracks, snapshot = (pa.concat_tables([self.comparing.nothing(side), *read]) for side, read in sides.items())
        data = io.BytesIO()
        pq.write_table(self.comparing.compare(tracks, snapshot), data, compression="zstd")
        key = f"{self.folder}/work-{bucket:06d}.parquet"
        self.comparing.root.write(key, data.getvalue())
        return key


def split_rows(rows: pa.Table, n_buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each bucket that has any, by a hash of the id that no version, platform or seed changes."""
    bucket = id_hashes(rows["track_id"]) % np.uint64(n_buckets)
    order = np.argsort(bucket, kind="stable")
    ordered, sorted_buckets = rows.take(pa.array(order)), bucket[order]
    starts = np.searchsorted(sorted_buckets, np.arange(n_buckets + 1, dtype=np.uint64))
    for n, (start, stop) in enumerate(pairwise(starts)):
        if stop > start:
            yield n, ordered.slice(start, stop - start)


def priority(work: pa.Table) -> pa.Array:
    """Places of the rows in the order in which `--limit` takes them: new tracks first, then by id."""
    return pc.sort_indices(
        pa.table({"new": pc.equal(work["reason"], "new"), "track_id": work["track_id"]}),
        sort_keys=[("new", "descending"), ("track_id", "ascending")],
    )
