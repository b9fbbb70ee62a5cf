"""The plan of a run, made from the tables and stored: counted on the way, with no more than one plan file in memory."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.fleet.distribution import distribution
from tagfleet.fleet.plan import (
    DECODE,
    NETWORK,
    NEW,
    STORED,
    Ask,
    Plan,
    PlanFile,
    Touched,
    counts_of,
    create_plan,
    plan_folder,
    utc_now,
)
from tagfleet.fleet.planning import Comparing, Known, plan_work, priority
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.model.tagger import Tagger
from tagfleet.schemas import PLAN
from tagfleet.store.models import ModelRef
from tagfleet.store.objects import Storage
from tagfleet.store.parts import id_checksum, parquet_bytes
from tagfleet.store.predictions import Predictions
from tagfleet.store.tables import NO_TABLE, Table

ROWS_PER_FILE = 250_000
"""PLAN rows of one file: what the driver holds at a time."""


def plan_run(
    root: Storage,
    ref: ModelRef,
    tagger: Tagger,
    ask: Ask,
    config: RetagConfig,
    ray_config: RayConfig,
    *,
    store: bool = True,
) -> Plan:
    """The catalogue compared with the last snapshot.

    store: False counts and leaves nothing behind. Raises NotFoundError without a catalogue, CountsError when an id
    stands twice in it.
    """
    catalog, predictions = Table(root, "catalog"), Predictions(root)
    catalog_version = catalog.version() if ask.catalog_version is None else ask.catalog_version
    base_version = predictions.table.latest()
    tracks = catalog.files(catalog_version)
    rows = predictions.table.files(base_version) if base_version != NO_TABLE else []
    axes = tuple(axis.axis for axis in tagger.taxonomy.axes)
    comparing = Comparing(root=root, lineage=tagger.lineage, axes=axes, only=ask.only, retry_failed=ask.retry_failed)
    counting = Counting(axes=axes, limit=ask.limit)
    files: list[PlanFile] = []
    for work in in_files(counting.counted(plan_work(comparing, tracks, rows, ask.run_id, ray_config))):
        key = f"{plan_folder(ask.run_id)}/{len(files):06d}-{secrets.token_hex(4)}.parquet"
        if store:
            root.write(key, parquet_bytes(work))
        files.append(PlanFile(key=key, n_rows=work.num_rows))
    plan = Plan(
        run_id=ask.run_id,
        model=str(ref),
        model_id=tagger.model_id,
        lineage=tagger.lineage,
        backend=config.backend,
        only=ask.only,
        retry_failed=ask.retry_failed,
        catalog_version=catalog_version,
        base_version=None if base_version == NO_TABLE else base_version,
        n_catalog=sum(file.n_rows for file in tracks),
        n_base=sum(file.n_rows for file in rows),
        planned_at=utc_now(),
        reasons=dict(counting.reasons),
        work=dict(counting.work),
        n_waiting=counting.n_waiting,
        n_left=counting.n_left,
        id_checksum=counting.id_checksum,
        before=counting.before.labels,
        n_before=counting.before.n_tagged,
        leaving=counting.leaving.labels,
        n_leaving=counting.leaving.n_tagged,
        touched={file: Touched(n_gone=n[0], n_stored=n[1]) for file, n in counting.touched.items()},
        files=tuple(files),
    )
    return create_plan(root, plan) if store else plan


@dataclass
class Counting:
    """Sums over PLAN rows as they pass, after those beyond `limit` are left out."""

    axes: tuple[str, ...]
    limit: int | None
    reasons: Counter[str] = field(default_factory=Counter)
    work: Counter[str] = field(default_factory=Counter)
    n_waiting: int = 0
    n_left: int = 0
    id_checksum: int = 0
    n_heard: int = 0
    before: Known = field(default_factory=lambda: Known(labels={}, n_tagged=0))
    leaving: Known = field(default_factory=lambda: Known(labels={}, n_tagged=0))
    touched: dict[str, list[int]] = field(default_factory=dict)

    def counted(self, buckets: Iterator[tuple[pa.Table, Known]]) -> Iterator[pa.Table]:
        """The PLAN rows that remain."""
        for rows, before in buckets:
            work = self._limited(rows)
            self.before = self.before.plus(before)
            n_leaving = work.num_rows - work["was"].null_count
            self.leaving = self.leaving.plus(Known(labels=distribution(work["was"], self.axes), n_tagged=n_leaving))
            self.reasons.update(counts_of(work["reason"]))
            self.work.update(counts_of(work["work"]))
            heard = work.filter(pc.is_in(work["work"], pa.array([DECODE, NETWORK])))
            self.n_heard += heard.num_rows
            self.id_checksum = (self.id_checksum + id_checksum(heard["track_id"])) % 2**64
            known = work.filter(pc.is_valid(work["file"]))
            stored = pc.equal(known["work"], STORED)
            for place, part in ((0, known.filter(pc.invert(stored))), (1, known.filter(stored))):
                for file, n in counts_of(part["file"]).items():
                    self.touched.setdefault(file, [0, 0])[place] += n
            yield work

    def _limited(self, work: pa.Table) -> pa.Table:
        if self.limit is None:
            return work
        heard = pc.is_in(work["work"], pa.array([DECODE, NETWORK]))
        candidates = work.filter(heard)
        room = max(0, self.limit - self.n_heard)
        order = priority(candidates)
        left = candidates.take(order[room:])
        self.n_left += left.num_rows
        self.n_waiting += pc.sum(pc.equal(left["reason"], NEW)).as_py() or 0
        kept = pa.concat_tables([work.filter(pc.invert(heard)), candidates.take(order[:room])])
        return kept.sort_by("track_id")


def in_files(buckets: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ROWS_PER_FILE; only the last is smaller."""
    waiting = PLAN.empty_table()
    for rows in buckets:
        waiting = pa.concat_tables([waiting, rows])
        while waiting.num_rows >= ROWS_PER_FILE:
            yield waiting.slice(0, ROWS_PER_FILE)
            waiting = waiting.slice(ROWS_PER_FILE)
    if waiting.num_rows:
        yield waiting
