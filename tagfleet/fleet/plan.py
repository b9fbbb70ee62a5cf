"""What a run has to do, decided once: the catalogue against the last snapshot, row by row, by lineage.

Every row gets the cheapest work that is enough. The plan is stored with the run; a second start of the same run reads
it and never plans again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagfleet.audio.decode import TRANSIENT
from tagfleet.errors import ConflictError, CountsError, NotFoundError
from tagfleet.fleet.distribution import Distribution, label_texts
from tagfleet.model.config import Backend
from tagfleet.schemas import LINEAGE, PLAN
from tagfleet.store.objects import Storage

Only = Literal["new", "changed", "stale", "all"]
"""new: tracks without a row; changed: also other audio or another place, and what failed for a passing reason; stale:
also another tagger; all: everything from the audio on."""

NEW, REMOVED, RETRY, AUDIO, MOVED = "new", "removed", "retry", "audio", "moved"
AUDIO_PATH, MODEL, THRESHOLDS, NAMES, ASKED = "audio-path", "model", "thresholds", "names", "asked"
DECODE, NETWORK, STORED, REMOVE = "decode", "network", "stored", "remove"

_REASONS: Mapping[Only, tuple[str, ...]] = {
    "new": (NEW,),
    "changed": (NEW, RETRY, AUDIO, MOVED),
    "stale": (NEW, RETRY, AUDIO, MOVED, AUDIO_PATH, MODEL, THRESHOLDS, NAMES),
    "all": (NEW, RETRY, AUDIO, MOVED, AUDIO_PATH, MODEL, THRESHOLDS, NAMES, ASKED),
}
_DEPTHS = {"audio_digest": 4, "model_id": 3, "backend": 3, "calibration_digest": 2, "taxonomy_version": 1}
"""How deep a change of each lineage column reaches; the fingerprint is compared with the catalogue's."""

CATALOG_COLUMNS = ("track_id", "uri", "etag", "size_bytes")
SNAPSHOT_COLUMNS = ("track_id", "uri", "status", "error_reason", "tags", "log_mels", *LINEAGE)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What somebody wants of a run."""

    model: str = "production"
    run_id: str
    only: Only = "stale"
    catalog_version: int | None = None
    """None: the latest."""
    limit: int | None = None
    """Tracks that are decoded at most; the others wait for the next run."""
    retry_failed: bool = False
    """Also those that failed for a lasting reason and whose file has not changed."""


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """PLAN rows below the run's folder."""

    key: str
    n_rows: int


@dataclass(frozen=True, kw_only=True)
class Touched:
    """What happens to one data file of the base version."""

    n_gone: int = 0
    """Rows that leave it: removed, or made again from their audio."""
    n_stored: int = 0
    """Rows that are made again from what it holds."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The work of one run, counted; the rows themselves are in `files`."""

    run_id: str
    model: str
    model_id: str
    lineage: Mapping[str, str]
    """What its rows will say of the tagger."""
    backend: Backend
    only: Only
    retry_failed: bool = False
    catalog_version: int
    base_version: int | None
    n_catalog: int
    n_base: int
    planned_at: str
    reasons: Mapping[str, int]
    work: Mapping[str, int]
    n_waiting: int
    """New tracks that `limit` leaves without a row."""
    n_left: int
    """All that `limit` leaves to the next run."""
    id_checksum: int
    """Of the rows that pass the network."""
    before: Distribution
    """Labels of the base version."""
    n_before: int
    """Its tagged rows."""
    leaving: Distribution
    """Labels of its rows that are made again or removed."""
    n_leaving: int
    """Tagged rows among them."""
    touched: Mapping[str, Touched] = field(default_factory=dict)
    files: tuple[PlanFile, ...] = ()

    @property
    def n_listen(self) -> int:
        """Rows that pass the network, with or without decoding."""
        return self.work.get(DECODE, 0) + self.work.get(NETWORK, 0)

    @property
    def n_stored(self) -> int:
        """Rows that are made again from what is stored."""
        return self.work.get(STORED, 0)

    @property
    def n_to_tag(self) -> int:
        """Rows that are made (again)."""
        return self.n_listen + self.n_stored


def snapshot_rows(rows: pa.Table, lineage: Mapping[str, str]) -> pa.Table:
    """What planning must know of committed rows, as few bytes as that takes.

    rows: SNAPSHOT_COLUMNS and `file`. lineage: what the tagger of this run would write.
    """
    depth = pa.scalar(0, pa.int8())
    for name in sorted(lineage, key=lambda name: _DEPTHS[name]):
        differs = pc.invert(pc.fill_null(pc.equal(rows[name], lineage[name]), False))
        depth = pc.if_else(differs, pa.scalar(_DEPTHS[name], pa.int8()), depth)
    failed = pc.equal(rows["status"], "failed")
    passing = pc.or_(
        pc.is_null(rows["audio_fingerprint"]),
        pc.fill_null(pc.is_in(rows["error_reason"], pa.array(sorted(TRANSIENT))), False),
    )
    return pa.table(
        {
            "track_id": rows["track_id"].cast(pa.string()),
            "was_uri": rows["uri"].cast(pa.string()),
            "was_fingerprint": rows["audio_fingerprint"].cast(pa.string()),
            "failed": failed,
            "passing": pc.and_(failed, passing),
            "depth": depth,
            "same_model": pc.less(depth, _DEPTHS["model_id"]),
            "was": label_texts(pc.if_else(failed, None, rows["tags"])),
            "log_mels": rows["log_mels"].cast(pa.string()),
            "file": rows["file"].cast(pa.string()),
        }
    )


def make_work(tracks: pa.Table, snapshot: pa.Table, *, only: Only, retry_failed: bool = False) -> pa.Table:
    """PLAN rows, sorted by id: every track whose row is missing or would come out otherwise, and those to remove.

    tracks: CATALOG_COLUMNS. snapshot: `snapshot_rows` of the same ids' part of the last version. A track without etag
    in the catalogue cannot be known unchanged. Raises CountsError when an id stands twice on one side.
    """
    _refuse_doubles(tracks, "the catalogue")
    _refuse_doubles(snapshot, "the predictions")
    now = tracks.select(CATALOG_COLUMNS).cast(pa.schema([PLAN.field(name) for name in CATALOG_COLUMNS]))
    both = now.join(
        snapshot.append_column("known", pa.repeat(True, snapshot.num_rows)), "track_id", "track_id", "full outer"
    )
    fingerprint = pc.binary_join_element_wise(both["etag"], both["size_bytes"].cast(pa.string()), ":")
    same_bytes = pc.fill_null(pc.equal(fingerprint, both["was_fingerprint"]), False)
    deep = {name: pc.equal(both["depth"], depth) for name, depth in _DEPTHS.items()}
    # The same bytes would fail the same way: the row is carried over.
    model_work = pc.if_else(both["failed"], STORED, pc.if_else(pc.is_null(both["log_mels"]), DECODE, NETWORK))
    # Stored logits are this model's only where nothing deeper than thresholds differs.
    moved_work = pc.if_else(deep["audio_digest"], DECODE, pc.if_else(deep["model_id"], model_work, STORED))
    moved = (pc.not_equal(both["uri"], both["was_uri"]), MOVED, moved_work)
    told: list[tuple[pa.ChunkedArray, str, str | pa.ChunkedArray]] = [
        (pc.is_null(both["uri"]), REMOVED, REMOVE),
        (pc.is_null(both["known"]), NEW, DECODE),
        (both["passing"], RETRY, DECODE),
        (pc.invert(same_bytes), AUDIO, DECODE),
        (pc.and_(both["failed"], retry_failed), RETRY, DECODE),
        # Of several reasons the deepest is told, unless only the others are asked for.
        *([moved] if only == "changed" else []),
        (deep["audio_digest"], AUDIO_PATH, DECODE),
        (deep["model_id"], MODEL, model_work),
        (deep["calibration_digest"], THRESHOLDS, STORED),
        (deep["taxonomy_version"], NAMES, STORED),
        moved,
    ]
    conditions = pc.make_struct(*(condition for condition, _, _ in told))
    reason = pc.case_when(conditions, *(pa.scalar(reason) for _, reason, _ in told), pa.scalar(ASKED))
    work = pc.case_when(conditions, *(_scalar(work) for _, _, work in told), pa.scalar(DECODE))
    if only == "all":
        work = pc.if_else(pc.equal(work, REMOVE), REMOVE, DECODE)
    columns = {
        "track_id": both["track_id"],
        "uri": pc.coalesce(both["uri"], both["was_uri"]),
        "etag": both["etag"],
        "size_bytes": both["size_bytes"],
        "reason": reason,
        "work": work,
        "file": both["file"],
        "was": both["was"],
        "same_model": pc.fill_null(both["same_model"], False),
        "log_mels": pc.if_else(pc.equal(work, NETWORK), both["log_mels"], None),
    }
    wanted = pc.is_in(reason, pa.array([*_REASONS[only], REMOVED]))
    return pa.table(columns).filter(wanted).cast(PLAN).sort_by("track_id")


def _scalar(value: str | pa.ChunkedArray) -> pa.Scalar | pa.ChunkedArray:
    return pa.scalar(value) if isinstance(value, str) else value


def _refuse_doubles(rows: pa.Table, where: str) -> None:
    if pc.count_distinct(rows["track_id"]).as_py() == rows.num_rows:
        return
    counts = pc.value_counts(rows["track_id"])
    double = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[0].as_py()
    raise CountsError(
        f"track {double!r} stands twice in {where}; nothing was tagged", hint="tagfleet catalog validate tells of more"
    )


def counts_of(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value stands there."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def create_plan(root: Storage, plan: Plan) -> Plan:
    """Store the plan, once: two starts of one run both get the first's."""
    if root.create(_facts_key(plan.run_id), json.dumps(asdict(plan), ensure_ascii=False, indent=1).encode()):
        return plan
    return stored_plan(root, plan.run_id) or plan


def stored_plan(root: Storage, run_id: str) -> Plan | None:
    """The plan of a run that was started before, or None.

    Raises ConflictError when another tagfleet made it.
    """
    try:
        facts = json.loads(root.read(_facts_key(run_id)))
    except NotFoundError:
        return None
    try:
        touched = {file: Touched(**counts) for file, counts in facts.pop("touched").items()}
        files = tuple(PlanFile(**file) for file in facts.pop("files"))
        return Plan(**facts, touched=touched, files=files)
    except (KeyError, TypeError) as error:
        raise ConflictError(
            f"run {run_id} was planned by another tagfleet", hint="start a new run: leave out --run-id"
        ) from error


def plan_rows(root: Storage, file: PlanFile) -> pa.Table:
    """PLAN rows of one file."""
    return pq.read_table(pa.BufferReader(root.read(file.key)), schema=PLAN)


def plans_rows(root: Storage, plan: Plan) -> Iterator[pa.Table]:
    """All PLAN rows, a file at a time."""
    return (plan_rows(root, file) for file in plan.files)


def has_its_rows(root: Storage, plan: Plan) -> bool:
    """Whether the PLAN rows of a stored plan are still there."""
    there = {info.key for info in root.list(plan_folder(plan.run_id))}
    return all(file.key in there for file in plan.files)


def plan_folder(run_id: str) -> str:
    """Where a run's PLAN rows lie."""
    return f"runs/{run_id}/plan"


def _facts_key(run_id: str) -> str:
    return f"runs/{run_id}/plan.json"


def utc_now() -> str:
    """Now, in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
