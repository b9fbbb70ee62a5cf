"""The folder of a training run, `runs/<id>/`: its recipe, what each epoch measured, and the result."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

from pydantic import ValidationError

from tagfleet.errors import ConflictError, DigestMismatch, NotFoundError, StorageError, UsageError
from tagfleet.fleet.config import Recipe
from tagfleet.store.objects import Storage

POLL_S = 0.5
STOP_FILE = "stopped.json"
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Advance = Callable[[int, int], None]
"""Called with (tracks done, failed), totals so far."""
Watch = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Opened with what is being done and how many there are; shows it until it is closed."""


def unwatched(what: str, total: int | None) -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda done, failed: None)


def new_run_id(kind: str) -> str:
    """A name for a run that sorts by time and is not taken: retag-20261123T180000Z-1f2e."""
    return f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def check_run_id(run_id: str) -> str:
    """The id, when it is a name; UsageError otherwise."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(f"a run cannot be called {run_id!r}", hint="letters, digits, . _ and -; e.g. genre5-2026")
    return run_id


Report = Callable[[Mapping[str, Any]], None]
"""Called once per finished epoch with its line of `metrics.jsonl`."""


def open_run(root: Storage, run_id: str, recipe: Recipe) -> None:
    """Claim a new run id with its recipe.

    Raises UsageError for an id that is no name, ConflictError when it is taken.
    """
    check_run_id(run_id)
    described = {"digest": recipe.digest, **recipe.model_dump(mode="json")}
    if not root.create(f"runs/{run_id}/recipe.json", json.dumps(described, ensure_ascii=False, indent=2).encode()):
        raise ConflictError(
            f"there is a training run {run_id} already", hint=f"continue it with --resume {run_id}, or take another id"
        )


def run_exists(root: Storage, run_id: str) -> bool:
    """Whether a training has this id."""
    return root.exists(f"runs/{run_id}/recipe.json")


def search_exists(root: Storage, run_id: str) -> bool:
    """Whether a structure search has this id."""
    return root.exists(f"runs/{run_id}/tune.json")


def refuse_taken(root: Storage, run_id: str) -> None:
    """Raise ConflictError when a training or a search has this id: before a new one writes into its folder."""
    if run_exists(root, run_id) or search_exists(root, run_id):
        raise ConflictError(
            f"there is a run {run_id} already", hint=f"continue it with --resume {run_id}, or take another id"
        )


def read_recipe(root: Storage, run_id: str) -> Recipe:
    """The recipe that a run was started with.

    Raises NotFoundError when there is no such run, DigestMismatch when this tagfleet reads other settings out of it.
    """
    try:
        described = json.loads(root.read(f"runs/{run_id}/recipe.json"))
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no training run {run_id} in {root.root}", hint="tagfleet train starts one; check --root"
        ) from error
    digest = described.pop("digest", None)
    try:
        recipe = Recipe.model_validate(described)
    except ValidationError as error:
        raise DigestMismatch(
            f"the recipe of run {run_id} is not one of this tagfleet's: {error}", hint="use the tagfleet it began with"
        ) from error
    if recipe.digest != digest:
        raise DigestMismatch(f"the recipe of run {run_id} was changed: its digest is {recipe.digest}, not {digest}")
    return recipe


def read_stop(root: Storage, run_id: str) -> dict[str, Any] | None:
    """What stopped a run for good, `message` and `hint`; None when nothing did."""
    try:
        stopped: dict[str, Any] = json.loads(root.read(f"runs/{run_id}/{STOP_FILE}"))
    except NotFoundError:
        return None
    return stopped


def write_json(root: Storage, run_id: str, name: str, value: Mapping[str, Any]) -> None:
    """A file of a run that people and programs read."""
    root.write(f"runs/{run_id}/{name}", json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n")


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


@contextmanager
def reported(root: Storage, run_id: str, *reports: Report) -> Iterator[None]:
    """Call `reports` for every epoch that is finished while the body runs, from another thread.

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
                    n_reported += 1
                    for report in reports:
                        with suppress(StorageError):
                            report(line)

    thread = Thread(target=follow, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
