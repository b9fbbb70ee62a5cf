"""The folder of a training run, `runs/<id>/`: its recipe, what each epoch measured, and the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from tagfleet.errors import ConflictError, DigestMismatch, NotFoundError, StorageError
from tagfleet.fleet.config import Recipe
from tagfleet.store.objects import Storage

POLL_S = 0.5

Report = Callable[[Mapping[str, Any]], None]
"""Called once per finished epoch with its line of `metrics.jsonl`."""


def open_run(root: Storage, run_id: str, recipe: Recipe, *, resume: bool) -> None:
    """Claim a new run id, or check that a run to be resumed had the same recipe.

    Raises ConflictError when the id is taken, NotFoundError when there is nothing to resume, DigestMismatch when
    settings, taxonomy or tracks are not those the run was started with.
    """
    key = f"runs/{run_id}/recipe.json"
    described = {"digest": recipe.digest, **recipe.model_dump(mode="json")}
    if not resume:
        text = json.dumps(described, ensure_ascii=False, indent=2).encode()
        if not root.create(key, text):
            raise ConflictError(
                f"there is a training run {run_id} already", hint="continue it with --resume, or take another --run-id"
            )
        return
    try:
        before = json.loads(root.read(key))
    except NotFoundError as error:
        raise NotFoundError(f"there is no training run {run_id} to resume", hint="leave out --resume") from error
    if before["digest"] != recipe.digest:
        changed = ", ".join(name for name in described if name != "digest" and before.get(name) != described[name])
        raise DigestMismatch(
            f"run {run_id} was started with another recipe: {changed} changed",
            hint="resume with the settings, taxonomy and tracks it had, or start a new run",
        )


def write_metrics(root: Storage, run_id: str, history: Sequence[Mapping[str, Any]]) -> None:
    """`metrics.jsonl`, one line per finished epoch; written whole, because S3 cannot append."""
    lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in history)
    root.write(f"runs/{run_id}/metrics.jsonl", "".join(lines).encode())


def read_metrics(root: Storage, run_id: str) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; none before the first epoch is finished."""
    try:
        text = root.read(f"runs/{run_id}/metrics.jsonl").decode()
    except NotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def read_result(root: Storage, run_id: str) -> dict[str, Any] | None:
    """What a finished run made; None while it is not finished."""
    try:
        result: dict[str, Any] = json.loads(root.read(f"runs/{run_id}/result.json"))
    except NotFoundError:
        return None
    return result


def write_result(root: Storage, run_id: str, result: Mapping[str, Any]) -> None:
    """Mark the run as finished; the last thing it writes."""
    root.write(f"runs/{run_id}/result.json", json.dumps(result, ensure_ascii=False, indent=2).encode())


@contextmanager
def reported(root: Storage, run_id: str, report: Report) -> Iterator[None]:
    """Call `report` for every epoch that is finished while the body runs, from another thread.

    The epochs are finished in other processes, perhaps on other machines; `metrics.jsonl` is where they meet. Epochs
    of an earlier start are not reported again.
    """
    n_known = len(read_metrics(root, run_id))
    finished = Event()

    def follow() -> None:
        n_reported = n_known
        last_look = False
        while not last_look:
            last_look = finished.wait(POLL_S)
            with suppress(StorageError):  # a look that fails delays a line, the next one brings it
                for line in read_metrics(root, run_id)[n_reported:]:
                    report(line)
                    n_reported += 1

    thread = Thread(target=follow, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
