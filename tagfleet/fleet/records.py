"""What a run says of itself while it runs and when it ends: `runs/<id>/run.json` and `progress.json`.

The operator's view, of every kind of run alike: `tagfleet jobs status` reads it, a monitor may.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from tagfleet import __version__
from tagfleet.config import Section
from tagfleet.errors import (
    GateRefused,
    JobStopped,
    NotFoundError,
    RunAtWork,
    StorageError,
    TagfleetError,
    TooManyFailures,
)
from tagfleet.fleet.metrics import show_run
from tagfleet.fleet.runs import Advance, Watch, check_run_id
from tagfleet.store.objects import Storage

RECORD_FILE = "run.json"
PROGRESS_FILE = "progress.json"
PROGRESS_S = 5.0
BUG = 70

Status = Literal["running", "finished", "refused", "failed", "stopped"]


class RunRecord(Section):
    """`run.json`."""

    run_id: str
    kind: str
    """train, tune, evaluate, retag, …"""
    status: Status = "running"
    """refused: a gate said no (exit 3) or too many tracks were bad (4). running: or killed without a word."""
    exit_code: int | None = None
    error: dict[str, str | None] | None = None
    """code, message and hint of what ended it."""
    first_started_at: str
    started_at: str
    """Of the last start."""
    ended_at: str | None = None
    n_starts: int = 1
    """More than one: it was gone on with."""
    tagfleet: str = __version__
    result: Any = None
    """What the command prints with --json."""


class Progress(Section):
    """`progress.json`: how far the step is that runs now."""

    what: str
    done: int
    total: int | None = None
    failed: int = 0
    at: str


@dataclass
class Recorded:
    """A run while it is recorded: what it shows is also stored, what it ends with is given here."""

    root: Storage
    run_id: str
    kind: str
    shown: Watch
    result: Any = None
    told_at: float = field(default=float("-inf"))

    @contextmanager
    def watch(self, what: str, total: int | None) -> Iterator[Advance]:
        """A `Watch` that stores `progress.json`, every few seconds and at the end, besides showing it."""
        last = (0, 0)
        with self.shown(what, total) as show:

            def advance(done: int, failed: int) -> None:
                nonlocal last
                last = (done, failed)
                show(done, failed)
                show_run(self.kind, what, done, total, failed)
                if time.monotonic() - self.told_at > PROGRESS_S:
                    self._tell(what, total, last)

            self._tell(what, total, last)
            yield advance
            self._tell(what, total, last)

    def _tell(self, what: str, total: int | None, totals: tuple[int, int]) -> None:
        self.told_at = time.monotonic()
        progress = Progress(what=what, total=total, done=totals[0], failed=totals[1], at=_now())
        with suppress(StorageError):  # the next one brings it
            self.root.write(f"runs/{self.run_id}/{PROGRESS_FILE}", progress.model_dump_json().encode())


@contextmanager
def recorded(root: Storage, run_id: str, kind: str, shown: Watch) -> Iterator[Recorded]:
    """Keep `run.json` of the body's run: that it started, and how it ended.

    shown: how progress is shown besides. Raises UsageError for an id that is no name, StorageError when the root cannot
    be written: no run is started that could say nothing. What the body raises is recorded and raised on.
    """
    began = _now()
    before = read_record(root, check_run_id(run_id))
    first = {"first_started_at": before.first_started_at, "n_starts": before.n_starts + 1} if before else {}
    started: dict[str, Any] = {"run_id": run_id, "kind": kind, "first_started_at": began, "started_at": began}
    record = RunRecord.model_validate(started | first)
    _write(root, record)
    run = Recorded(root=root, run_id=run_id, kind=kind, shown=shown)
    try:
        yield run
    except BaseException as error:
        # Of a run that is at work elsewhere, it says itself how it ends.
        at_work = before if isinstance(error, RunAtWork) else None
        with suppress(StorageError):
            _write(root, at_work or record.model_copy(update=_ending(error)))
        raise
    result = run.result.model_dump(mode="json") if isinstance(run.result, BaseModel) else run.result
    finished = {"status": "finished", "exit_code": 0, "ended_at": _now(), "result": result}
    with suppress(StorageError):  # the run's own files are there; it is not to fail for this one
        _write(root, record.model_copy(update=finished))


def _ending(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt):
        error = JobStopped("the run was stopped", hint="start it again with the same id: it goes on where it was")
    if isinstance(error, TagfleetError):
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        code = error.exit_code
    else:
        told, code = {"code": "bug", "message": f"{type(error).__name__}: {error}", "hint": None}, BUG
    status: Status = "failed"
    if isinstance(error, JobStopped):
        status = "stopped"
    elif isinstance(error, (GateRefused, TooManyFailures)):
        status = "refused"
    return {"status": status, "exit_code": code, "error": told, "ended_at": _now()}


def read_record(root: Storage, run_id: str) -> RunRecord | None:
    """`run.json`; None where there is none, or where it is none of this tagfleet's."""
    found = _read(root, run_id, RECORD_FILE)
    return None if found is None else _or_none(RunRecord, found)


def read_progress(root: Storage, run_id: str) -> Progress | None:
    """`progress.json`; None before the first step."""
    found = _read(root, run_id, PROGRESS_FILE)
    return None if found is None else _or_none(Progress, found)


def _or_none(kind: type[Any], values: Mapping[str, Any]) -> Any:
    with suppress(ValueError):
        return kind.model_validate(values)
    return None


def _read(root: Storage, run_id: str, name: str) -> dict[str, Any] | None:
    try:
        found = json.loads(root.read(f"runs/{run_id}/{name}"))
    except (NotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(root: Storage, record: RunRecord) -> None:
    text = json.dumps(record.model_dump(mode="json"), ensure_ascii=False, indent=2)
    root.write(f"runs/{record.run_id}/{RECORD_FILE}", text.encode() + b"\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
