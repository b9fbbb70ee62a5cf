"""What a run has to do, decided once: the catalogue against the last snapshot, row by row, by lineage.

The plan is stored with the run; a second start of the same run reads it and never plans again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagfleet.errors import NotFoundError
from tagfleet.schemas import LINEAGE, PLAN
from tagfleet.store.objects import Storage

Only = Literal["new", "changed", "stale", "all"]
"""new: tracks without a row; changed: also other audio, and what could not be fetched; stale: also another tagger."""

REMOVED = "removed"
RETRY = "retry"
"""The last run could not fetch the track: nothing is known of its audio."""
_REASONS: Mapping[Only, tuple[str, ...]] = {
    "new": ("new",),
    "changed": ("new", "retry", "audio"),
    "stale": ("new", "retry", "audio", "tagger"),
    "all": ("new", "retry", "audio", "tagger", "asked"),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The work of one run. `work` has PLAN rows; its reason `removed` marks rows that leave the table."""

    run_id: str
    model: str
    model_id: str
    catalog_version: int
    base_version: int | None
    n_catalog: int
    planned_at: str
    reasons: Mapping[str, int]
    work: pa.Table

    @property
    def to_tag(self) -> pa.Table:
        """PLAN rows whose prediction is made (again)."""
        return self.work.filter(pc.not_equal(self.work["reason"], REMOVED))

    @property
    def removed_ids(self) -> pa.Array:
        """Ids that the catalogue no longer has."""
        return self.work.filter(pc.equal(self.work["reason"], REMOVED))["track_id"].combine_chunks()


def make_work(tracks: pa.Table, snapshot: pa.Table | None, lineage: Mapping[str, str], only: Only) -> pa.Table:
    """PLAN rows, sorted by id: every track whose row is missing or would come out otherwise, and those to remove.

    tracks: TRACKS rows. snapshot: track_id, uri and LINEAGE columns of the last committed rows. lineage: what the
    tagger of this run would write. A track without etag in the catalogue cannot be known unchanged.
    """
    now = tracks.select(["track_id", "uri", "etag", "size_bytes"])
    if snapshot is None:
        reasons = pa.array(["new"] * now.num_rows, pa.string())
        return now.append_column("reason", reasons).cast(PLAN).sort_by("track_id")
    was = snapshot.rename_columns([name if name == "track_id" else f"was_{name}" for name in snapshot.column_names])
    both = now.join(was.append_column("known", pa.repeat(True, was.num_rows)), "track_id", join_type="full outer")
    fingerprint = pc.binary_join_element_wise(both["etag"], both["size_bytes"].cast(pa.string()), ":")
    same_audio = _all_equal([(fingerprint, both["was_audio_fingerprint"]), (both["uri"], both["was_uri"])])
    same_tagger = _all_equal([(pa.scalar(lineage[name]), both[f"was_{name}"]) for name in LINEAGE if name in lineage])
    reason = pc.case_when(
        pc.make_struct(
            pc.is_null(both["uri"]),
            pc.is_null(both["known"]),
            pc.is_null(both["was_audio_fingerprint"]),
            pc.invert(same_audio),
            pc.invert(same_tagger),
        ),
        *(pa.scalar(text) for text in (REMOVED, "new", RETRY, "audio", "tagger", "asked")),
    )
    both = both.set_column(both.schema.get_field_index("uri"), "uri", pc.coalesce(both["uri"], both["was_uri"]))
    work = both.select(["track_id", "uri", "etag", "size_bytes"]).append_column("reason", reason)
    wanted = pc.is_in(reason, pa.array([*_REASONS[only], REMOVED]))
    return work.filter(wanted).cast(PLAN).sort_by("track_id")


def _all_equal(pairs: list[tuple[pa.Scalar | pa.ChunkedArray, pa.ChunkedArray]]) -> pa.ChunkedArray:
    same = pa.scalar(True)
    for left, right in pairs:
        same = pc.and_(same, pc.fill_null(pc.equal(left, right), False))
    return same


def count_reasons(work: pa.Table) -> dict[str, int]:
    """How many rows for each reason."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(work["reason"]).to_pylist()}


def store_plan(root: Storage, plan: Plan) -> Plan:
    """Write the plan under `runs/<run_id>/`, its facts last and once: two starts of one run both get the first's."""
    rows = pa.BufferOutputStream()
    pq.write_table(plan.work, rows, compression="zstd")
    file = f"plan-{secrets.token_hex(4)}.parquet"
    root.write(f"runs/{plan.run_id}/{file}", rows.getvalue().to_pybytes())
    facts = {name: value for name, value in vars(plan).items() if name != "work"} | {"file": file}
    if root.create(_facts_key(plan.run_id), json.dumps(facts, ensure_ascii=False, indent=2).encode()):
        return plan
    return stored_plan(root, plan.run_id) or plan


def stored_plan(root: Storage, run_id: str) -> Plan | None:
    """The plan of a run that was started before, or None."""
    try:
        facts = json.loads(root.read(_facts_key(run_id)))
    except NotFoundError:
        return None
    rows = root.read(f"runs/{run_id}/{facts.pop('file')}")
    return Plan(**facts, work=pq.read_table(pa.BufferReader(rows), schema=PLAN))


def _facts_key(run_id: str) -> str:
    return f"runs/{run_id}/plan.json"


def utc_now() -> str:
    """Now, in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
