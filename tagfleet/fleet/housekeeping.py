"""What is done to the snapshots between two nights: by hand another is made current, what years leave behind goes.

All of it holds the re-tag's lease: no run is at work meanwhile, and nothing is deleted that is just made current.
Nothing that a kept or a staged snapshot needs is ever deleted, whatever the clock says; ages are those that the store
tells, against this machine's clock.
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
from tagfleet.fleet.plan import stored_plan
from tagfleet.store.config import PredictionsConfig
from tagfleet.store.objects import PROBE, Storage
from tagfleet.store.parts import FOLDER, run_folder
from tagfleet.store.predictions import Predictions
from tagfleet.store.s3 import arrow_errors
from tagfleet.store.tables import KEPT_FILE, Kept, Version

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


def publish(root: Storage, run_id: str) -> int:
    """`Predictions.publish` while no run is at work."""
    with lease(root, "publish", housekeeping=True):
        return Predictions(root).publish(run_id)


def rollback(root: Storage, version: int | None = None) -> tuple[int, int]:
    """`Predictions.rollback` while no run is at work: what it makes would be for another snapshot, and lost."""
    with lease(root, "rollback", housekeeping=True):
        return Predictions(root).rollback(version)


def vacuum(
    root: Storage, config: PredictionsConfig, *, older_than_days: float | None = None, dry_run: bool = False
) -> Vacuumed:
    """Delete files that only snapshots older than the kept history need, and what dead runs left.

    older_than_days: in the place of both `history_days` and `orphan_days`; 0 keeps the current and staged snapshots
    alone. What a run made stays while that may only seem to be dead. Killed in the middle it has harmed nothing that is
    kept, and the next call finishes. Raises ConflictError while a run is at work, NotFoundError without predictions.
    """
    predictions = Predictions(root)
    now = datetime.now(UTC)
    history_days, orphan_days = config.history_days, config.orphan_days
    if older_than_days is not None:
        history_days = orphan_days = older_than_days
    with lease(root, "vacuum", housekeeping=True) as held:
        versions = predictions.table.history()
        latest = versions[0].version
        since = _kept_since(versions, now - timedelta(days=history_days))
        staged = _staged(predictions)
        bases = sorted({base for base in staged.values() if base < since and _readable(predictions, base)})
        needed = _needed(predictions, [*bases, *range(since, latest + 1)], list(staged))
        orphan_cutoff = now - timedelta(days=orphan_days)
        spared = set() if held.last_run_ended else {held.last_run}
        parts = [f"{run_folder(run_id)}/" for run_id in spared]
        others = tuple(f"{FOLDER}/{name}" for name in ("_delta_log/", KEPT_FILE, *parts))
        files = [i for i in root.list(FOLDER) if not i.key.startswith(others)]
        known = {f"{FOLDER}/{path}" for path in needed.files}
        unneeded = [i for i in files if i.key not in known and i.updated_at <= orphan_cutoff]
        mels = [i for i in root.list(KEPT_LOG_MELS) if i.key not in needed.log_mels and i.updated_at <= orphan_cutoff]
        of_runs = [
            i for i in root.list("runs") if i.updated_at <= orphan_cutoff and _is_leftover(i.key, spared.union(staged))
        ]
        unfinished = list(root.unfinished(orphan_cutoff))
        if not dry_run:
            # Somebody may have come in between who thought this process dead.
            if (predictions.table.version(), _staged(predictions)) != (latest, staged):
                raise ConflictError("the predictions changed meanwhile; nothing was deleted", hint="vacuum again")
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

    The rows stay what they are. Raises ConflictError while a run is at work, or when one waits to be published or gone
    on with: it was made for the files as they are. NotFoundError without predictions.
    """
    predictions = Predictions(root)
    with lease(root, "compact", housekeeping=True) as held:
        version = predictions.table.version()
        if waiting := sorted({*_staged(predictions), *_interrupted(predictions, held.last_run)}):
            raise ConflictError(
                f"{', '.join(waiting)}: what was made on version {version} could not be published any more",
                hint=f"first: tagfleet predictions publish {waiting[0]}, or tagfleet retag",
            )
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


def _interrupted(predictions: Predictions, run_id: str) -> list[str]:
    """The last run, when it has planned work on the current version and published nothing."""
    plan = stored_plan(predictions.root, run_id) if run_id else None
    if plan is None or not plan.work or (plan.base_version or 0) != predictions.table.version():
        return []
    return [] if predictions.table.committed(run_id) else [run_id]


def _is_leftover(key: str, needed: set[str]) -> bool:
    """Of an object below runs/: whether a run that is over has no more use for it."""
    run_id, _, name = key.removeprefix("runs/").partition("/")
    return run_id.startswith(PROBE) or (name.startswith(_OF_RUNS) and run_id not in needed)


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
    with arrow_errors(predictions.root.uri(FOLDER)):
        for batch in predictions.dataset_of(files.values()).to_batches(columns=["log_mels"]):
            named.update(pc.unique(pc.drop_null(batch["log_mels"])).to_pylist())
    return _Needed(set(files), named)
