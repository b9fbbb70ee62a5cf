"""How far a submitted run is, from its folder in the storage root."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tagfleet.errors import TagfleetError
from tagfleet.fleet.records import read_progress, read_record
from tagfleet.fleet.runs import read_metrics, read_recipe, run_exists
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import Storage
from tagfleet.submit.cluster import Job

UNREADABLE = "its storage root cannot be read from here"


def progress_of(job: Job, config: StorageConfig) -> dict[str, Any]:
    """What the run's files say: `record` (run.json), `progress`, and a training's last `epoch` with `epochs`.

    Empty where the run has written nothing yet; `unreadable` says why where the root cannot be read from here.
    """
    try:
        root = Storage(job.root, config).reached()
        record = read_record(root, job.run_id)
        found: dict[str, Any] = {"record": record.model_dump(mode="json") if record else None}
        if progress := read_progress(root, job.run_id):
            found["progress"] = progress.model_dump(mode="json")
        if job.kind == "train" and run_exists(root, job.run_id):
            lines = read_metrics(root, job.run_id)
            found |= {"epochs": read_recipe(root, job.run_id).train.epochs, "epoch": lines[-1] if lines else None}
    except TagfleetError as error:
        return {"unreadable": error.message}
    return found


def in_a_line(found: dict[str, Any]) -> str:
    """The same for a table.

    >>> in_a_line({"progress": {"what": "Tagging", "done": 40, "total": 300, "failed": 1}})
    'Tagging 40/300, 1 failed'
    >>> in_a_line({"epoch": {"epoch": 3, "validation_accuracy": 0.71}, "epochs": 30})
    'epoch 3/30, validation_accuracy 0.710'
    """
    if "unreadable" in found:
        return UNREADABLE
    if epoch := found.get("epoch"):
        names = [name for name in epoch if name.startswith("validation") and epoch[name] is not None]
        measured = "".join(f", {name} {epoch[name]:.3f}" for name in names[:1])
        return f"epoch {epoch['epoch']}/{found['epochs']}{measured}"
    if progress := found.get("progress"):
        of = "" if progress["total"] is None else f"/{progress['total']}"
        failed = f", {progress['failed']} failed" if progress["failed"] else ""
        return f"{progress['what']} {progress['done']}{of}{failed}"
    return ""


def seconds_of(job: Job) -> float | None:
    """How long it has run."""
    if job.started_at is None:
        return None
    return round(((job.ended_at or datetime.now(UTC)) - job.started_at).total_seconds(), 1)
