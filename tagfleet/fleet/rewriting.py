"""Rows that need no audio: committed data files written anew, without what leaves them and with what is made again.

A new threshold, a new name, another place of the file: the tags come from the stored logits. What nothing happened to
is copied as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagfleet.errors import CountsError
from tagfleet.fleet.metrics import count_part
from tagfleet.fleet.plan import STORED, Plan, plans_rows
from tagfleet.fleet.stages import RunFacts, of_run, one_thread, part_table, prediction_columns
from tagfleet.fleet.tallying import add_up, tally_labels
from tagfleet.model.tagger import Tagger
from tagfleet.schemas import PREDICTIONS
from tagfleet.store.objects import Storage
from tagfleet.store.parts import FOLDER, PartFile, Tally, write_part
from tagfleet.store.s3 import arrow_errors
from tagfleet.store.tables import DataFile

ROWS_PER_GROUP = 50_000
"""Rows of the data files that become one."""
GROUPS_PER_TASK = 16
"""At most. A task holds their PLAN rows."""
_ROWS_AT_ONCE = 2_000

Group = tuple[DataFile, ...]


def groups_to_rewrite(files: Sequence[DataFile], plan: Plan, done: set[str]) -> list[Group]:
    """The base files that some but not all rows leave, or in which some are made again; a few small ones together."""
    groups: list[list[DataFile]] = []
    n_rows = ROWS_PER_GROUP
    for file in files:
        touched = plan.touched.get(file.path)
        if touched is None or touched.n_gone == file.n_rows or file.path in done:
            continue
        if n_rows + file.n_rows > ROWS_PER_GROUP:
            groups.append([])
            n_rows = 0
        groups[-1].append(file)
        n_rows += file.n_rows
    return [tuple(group) for group in groups]


def in_tasks(n_groups: int, n_workers: int) -> list[pa.Table]:
    """The places of groups, as `Rewriting` takes them: as few tasks as keep all workers busy to the end."""
    n = max(1, min(GROUPS_PER_TASK, n_groups // (4 * n_workers)))
    return [pa.table({"n": range(first, min(first + n, n_groups))}) for first in range(0, n_groups, n)]


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """From groups of data files to one part each. `groups` are what the places in the table of a call mean.

    A call reads the whole plan once: the rows of a data file are spread over it.
    """

    root: Storage
    run: RunFacts
    plan: Plan
    groups: Sequence[Group]

    def __call__(self, asked: pa.Table) -> Iterator[pa.Table]:
        """One PARTS row per place in `n`."""
        one_thread()
        tagger = self.run.tagger(self.root, device=None)
        groups = [self.groups[n] for n in asked["n"].to_pylist()]
        planned = self._planned([file for group in groups for file in group])
        for group in groups:
            yield part_table(self._rewrite(group, planned, tagger))

    def _planned(self, files: Sequence[DataFile]) -> pa.Table:
        """PLAN rows of some data files."""
        paths = pa.array([file.path for file in files])
        found = (rows.filter(pc.is_in(rows["file"], paths)) for rows in plans_rows(self.root, self.plan))
        return pa.concat_tables(found)

    def _rewrite(self, group: Group, planned: pa.Table, tagger: Tagger) -> PartFile:
        began_at, start, cpu = time.time(), time.monotonic(), time.process_time()
        planned = planned.filter(pc.is_in(planned["file"], pa.array([file.path for file in group])))
        base = self._read(group)
        ids = base["track_id"].cast(pa.string())
        untouched = base.filter(pc.invert(pc.is_in(ids, planned["track_id"])))
        stored = planned.filter(pc.equal(planned["work"], STORED))
        again = base.filter(pc.is_in(ids, stored["track_id"])).sort_by("track_id")
        expected = sum(file.n_rows for file in group) - planned.num_rows
        if again.num_rows != stored.num_rows or untouched.num_rows != expected:
            raise CountsError(
                f"{', '.join(f.path for f in group)}: {untouched.num_rows} rows stay and {again.num_rows} are made"
                f" again, the plan says {expected} and {stored.num_rows}",
                hint="start a new run: leave out --run-id",
            )
        made, tallies = [untouched], []
        for rows, tally in self._made_again(again, stored.sort_by("track_id"), tagger):
            made.append(rows)
            tallies.append(tally)
        spent = {"rewrite": time.process_time() - cpu}
        facts = {"cpu_s": spent, "began_at": began_at, "wall_s": time.monotonic() - start}
        part = PartFile(
            path="",
            run_id=self.run.run_id,
            n_rows=0,
            id_checksum=0,
            replaces=tuple(file.path for file in group),
            n_stored=stored.num_rows,
            tally=add_up(tallies).model_copy(update=facts),
        )
        part = write_part(self.root, pa.concat_tables(made), part)
        count_part(part)
        return part

    def _read(self, group: Group) -> pa.Table:
        filesystem, base = self.root.arrow_filesystem()
        read = []
        for file in group:
            path = f"{base}/{FOLDER}/{file.path}"
            with arrow_errors(path):
                read.append(pq.read_table(path, filesystem=filesystem, partitioning=None).cast(PREDICTIONS))
        return pa.concat_tables(read)

    def _made_again(self, rows: pa.Table, planned: pa.Table, tagger: Tagger) -> Iterator[tuple[pa.Table, Tally]]:
        """PREDICTIONS rows from what is stored of them, both sides sorted by id."""
        for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
            some = rows.slice(start, _ROWS_AT_ONCE).to_pylist()
            asked = planned.slice(start, _ROWS_AT_ONCE).to_pylist()
            made = [self._again(row, track, tagger) for row, track in zip(some, asked, strict=True)]
            was = [track["was"] if track["same_model"] else None for track in asked]
            yield pa.Table.from_pylist(made, schema=PREDICTIONS), tally_labels(was, made, tagger.taxonomy)

    def _again(self, row: Mapping[str, Any], track: Mapping[str, Any], tagger: Tagger) -> dict[str, Any]:
        made = {**row, **of_run(self.run, tagger, track["uri"])}
        if row["status"] == "failed":
            return made
        return made | prediction_columns(tagger.tag_again(np.array(row["pooled_logits"], np.float32)))
