"""What years of nights leave behind: old snapshots' files, leftovers of dead runs, many small files.

Both hold the re-tag's lease: no run is at work meanwhile. Nothing that a kept or a staged snapshot needs is ever
deleted, whatever the clock says; ages are those that the store tells, against this machine's clock.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow.compute as pc

from tagfleet.errors import ConflictError, StorageError
from tagfleet.fleet.kept import FOLDER as KEPT_LOG_MELS
from tagfleet.fleet.lease import lease
from tagfleet.store.config import PredictionsConfig
from tagfleet.store.objects import Storage
from tagfleet.store.parts import FOLDER
from tagfleet.store.predictions import Predictions
from tagfleet.store.tables import KEPT_FILE, Kept, Version

VACUUM = "vacuum"
"""What the lease says while one works."""
_OF_RUNS = ("plan/", "exchange/", "staged.json")
"""What a run needs only until it ends."""


@dataclass(frozen=True, kw_only=True)
class Vacuumed:
    """What was, or would be, deleted."""

    since: int
    """The oldest version that can still be read."""
    n_files: int
    """Data files that no kept snapshot needs."""
    n_of_runs: int
    """Plans and the like of runs that are over."""
    n_unfinished: int
    """Half-written files and uploads of killed writers."""
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """Files before and after."""

    n_before: int
    n_after: int
    version: int


def vacuum(
    root: Storage, config: PredictionsConfig, *, older_than_days: float | None = None, dry_run: bool = False
) -> Vacuumed:
    """Delete files that only snapshots older than the kept history need, and what dead runs left.

    older_than_days: in the place of both `history_days` and `orphan_days`; 0 keeps the current and staged snapshots
    alone. Killed in the middle it has harmed nothing that is kept, and the next call finishes. Raises ConflictError
    while a run is at work, NotFoundError without predictions.
    """
    predictions = Predictions(root)
    now = datetime.now(UTC)
    history_days, orphan_days = config.history_days, config.orphan_days
    if older_than_days is not None:
        history_days = orphan_days = older_than_days
    with lease(root, VACUUM, housekeeping=True):
        versions = predictions.table.history()
        latest = versions[0].version
        since = _kept_since(versions, now - timedelta(days=history_days))
        staged = _staged(predictions)
        bases = sorted({base for base in staged.values() if base < since and _readable(predictions, base)})
        needed = _needed(predictions, [*bases, *range(since, latest + 1)], list(staged))
        orphan_cutoff = now - timedelta(days=orphan_days)
        own = (f"{FOLDER}/_delta_log/", f"{FOLDER}/{KEPT_FILE}")
        files = [i for i in root.list(FOLDER) if not i.key.startswith(own)]
        known = {f"{FOLDER}/{path}" for path in needed.files}
        unneeded = [i for i in files if i.key not in known and i.updated_at <= orphan_cutoff]
        mels = [i for i in root.list(KEPT_LOG_MELS) if i.key not in needed.log_mels and i.updated_at <= orphan_cutoff]
        of_runs = [
            i
            for i in root.list("runs")
            if i.updated_at <= orphan_cutoff
            and i.key.split("/", 2)[2].startswith(_OF_RUNS)
            and i.key.split("/")[1] not in staged
        ]
        unfinished = list(root.unfinished(orphan_cutoff))
        if not dry_run:
            # First it is said which versions are no longer there, then their files go.
            told = Kept(since=since, also=bases, at=now.isoformat(timespec="seconds"))
            root.write(f"{FOLDER}/{KEPT_FILE}", json.dumps(asdict(told)).encode())
            for info in (*unneeded, *mels, *of_runs):
                root.delete(info.key)
            for leftover in unfinished:
                leftover.delete()
        return Vacuumed(
            since=since,
            n_files=len(unneeded) + len(mels),
            n_of_runs=len(of_runs),
            n_unfinished=len(unfinished),
            n_bytes=sum(info.size_bytes for info in (*unneeded, *mels, *of_runs)),
        )


def compact(root: Storage, config: PredictionsConfig, *, at_least: int | None = None) -> Compacted:
    """Join data files below half of `target_file_mb` when there are `at_least` (default: `compact_from`) of them.

    The rows stay what they are. Raises ConflictError while a run is at work, NotFoundError without predictions.
    """
    predictions = Predictions(root)
    with lease(root, VACUUM, housekeeping=True):
        version = predictions.table.version()
        files = predictions.table.files(version)
        target = config.target_file_mb << 20
        small = [file for file in files if file.size_bytes < target / 2]
        if len(small) >= max(2, config.compact_from if at_least is None else at_least):
            version = predictions.table.compact(target)
        return Compacted(n_before=len(files), n_after=len(predictions.table.files(version)), version=version)


def tidy_up(root: Storage, config: PredictionsConfig) -> str | None:
    """Compact and vacuum at the end of a night; what kept it from that, if anything: the next night does it."""
    try:
        compact(root, config)
        vacuum(root, config)
    except (ConflictError, StorageError) as error:
        return f"not tidied up: {error.message}"
    return None


def _kept_since(versions: list[Version], cutoff: datetime) -> int:
    """The oldest version that was current after `cutoff`; versions: the latest first."""
    since = versions[0].version
    for later, earlier in pairwise(versions):
        if later.committed_at < cutoff:
            break
        since = earlier.version
    return since


def _staged(predictions: Predictions) -> dict[str, int]:
    """Run -> version that its staged snapshot stands on, for those that could still be published."""
    latest = predictions.table.version()
    found = {}
    for info in predictions.root.list("runs"):
        run_id, _, name = info.key.removeprefix("runs/").partition("/")
        if name == "staged.json" and (prepared := predictions.staged(run_id)) and prepared.base_version == latest:
            found[run_id] = prepared.base_version
    return found


def _readable(predictions: Predictions, version: int) -> bool:
    kept = predictions.table.kept()
    return kept is None or kept.allows(version)


@dataclass(frozen=True)
class _Needed:
    files: set[str]
    log_mels: set[str]


def _needed(predictions: Predictions, versions: list[int], staged: list[str]) -> _Needed:
    """Data files of some versions and staged snapshots, and the kept log-mels that their rows name."""
    files = {file.path: file for version in versions for file in predictions.files(version)}
    files |= {file.path: file for run_id in staged for file in predictions.files(run_id)}
    if next(predictions.root.list(KEPT_LOG_MELS), None) is None:
        return _Needed(set(files), set())
    named: set[str] = set()
    for batch in predictions.dataset_of(files.values()).to_batches(columns=["log_mels"]):
        named.update(pc.unique(pc.drop_null(batch["log_mels"])).to_pylist())
    return _Needed(set(files), named)
