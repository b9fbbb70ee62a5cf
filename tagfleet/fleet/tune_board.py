"""A structure search on disk: what it was started with, its trials so far, and the best of them as a recipe.

runs/<run id>/tune.json           the search: settings, pinned recipe, space
runs/<run id>/leaderboard.json    every trial, best first; what a resumed search goes on from
runs/<run id>/leaderboard.csv     the same, to look at
runs/<run id>/best.toml           the settings of the best trial: a recipe file
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import tomli_w
from pydantic import ValidationError

from tagfleet.config import Section, digest_of
from tagfleet.errors import ConflictError, DigestMismatch, NotFoundError
from tagfleet.fleet.config import Recipe, TrainSettings
from tagfleet.fleet.runs import run_exists, write_json
from tagfleet.fleet.tune_space import Space, Value, with_values
from tagfleet.store.objects import Storage

Status = Literal["running", "finished", "stopped", "failed", "skipped", "out of time"]
ENDED: tuple[Status, ...] = ("finished", "stopped", "failed", "skipped")
"""A resumed search does not run these again."""
RANKED: tuple[Status, ...] = ("finished", "stopped", "out of time")
"""These count: all of them were measured, on the same validation tracks."""
FIRST_COLUMNS = ("rank", "trial_id", "status", "metric", "best_epoch", "n_epochs")
COST_COLUMNS = ("n_parameters", "n_multiply_adds", "clips_per_s", "seconds")


class Search(Section):
    """What a search was started with."""

    settings: TrainSettings
    """Of all trials; what is searched stands above them."""
    recipe: Recipe
    """The same with every version pinned."""
    space: Space
    n_trials: int
    max_hours: float | None = None

    @property
    def digest(self) -> str:
        """Of what decides the outcome of a trial."""
        return digest_of({"recipe": self.recipe.digest, "space": self.space.model_dump(mode="json")})


class Trial(Section):
    """One line of the leaderboard."""

    trial_id: str
    settings: dict[str, Value]
    """What was searched: dotted names and this trial's values."""
    status: Status
    """stopped: early, by the scheduler; skipped: the settings do not go together; out of time: cut off by max_hours."""
    reason: str = ""
    """Why it failed or was skipped."""
    metrics: tuple[float, ...] = ()
    """Validation metric after each epoch."""
    n_parameters: int = 0
    n_multiply_adds: int = 0
    """Of one clip's forward."""
    clips_per_s: float = 0.0
    """In training; beside the other trials that ran at the same time."""
    seconds: float = 0.0
    """In all epochs together."""

    @property
    def n_epochs(self) -> int:
        """Epochs that were run."""
        return len(self.metrics)

    @property
    def metric(self) -> float | None:
        """Validation metric of the best epoch; None before the first."""
        return max(self.metrics, default=None)

    @property
    def best_epoch(self) -> int:
        """The first epoch with that metric; 0 before the first."""
        return self.metrics.index(max(self.metrics)) + 1 if self.metrics else 0


class Leaderboard:
    """The trials of a search; every change is written at once. Of one process: the one that runs the search."""

    def __init__(self, root: Storage, run_id: str, search: Search, trials: Iterable[Trial] = ()) -> None:
        self.root = root
        self.run_id = run_id
        self.search = search
        self._trials = {trial.trial_id: trial for trial in trials}

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, trial_id: str) -> Trial:
        return self._trials[trial_id]

    @property
    def trials(self) -> list[Trial]:
        """In the order in which they were begun."""
        return sorted(self._trials.values(), key=lambda trial: int(trial.trial_id[1:]))

    @property
    def unfinished(self) -> list[Trial]:
        """Begun, and to be run again by a resumed search."""
        return [trial for trial in self.trials if trial.status not in ENDED]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return len(self) >= self.search.n_trials and not self.unfinished

    @property
    def ranked(self) -> list[Trial]:
        """Trials that count, highest metric first, of equals the one with fewer multiply-adds; then the others."""
        counted = [trial for trial in self.trials if trial.status in RANKED and trial.metrics]
        counted.sort(key=lambda trial: (-max(trial.metrics), trial.n_multiply_adds))
        return counted + [trial for trial in self.trials if trial not in counted]

    @property
    def best(self) -> Trial | None:
        """The first of those that count."""
        first = self.ranked[0] if self._trials else None
        return first if first and first.status in RANKED and first.metrics else None

    def next_id(self) -> str:
        """For a new trial: t001, t002, …"""
        return f"t{len(self) + 1:03d}"

    def note(self, trial: Trial) -> None:
        """Remember a trial's latest state until the next `put`."""
        self._trials[trial.trial_id] = trial

    def put(self, *trials: Trial) -> None:
        """Remember trials, and write the leaderboard and the best one's recipe."""
        for trial in trials:
            self.note(trial)
        write_json(
            self.root,
            self.run_id,
            "leaderboard.json",
            {
                "run_id": self.run_id,
                "digest": self.search.digest,
                "n_trials": self.search.n_trials,
                "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "trials": self.rows(),
            },
        )
        self.root.write(f"runs/{self.run_id}/leaderboard.csv", _csv(self.rows()).encode())
        if best := self.best:
            self.root.write(f"runs/{self.run_id}/best.toml", self._recipe(best).encode())

    def save_search(self) -> None:
        """Write what is searched: after it was extended."""
        self.root.write(f"runs/{self.run_id}/tune.json", _described(self.search))

    def rows(self) -> list[dict[str, Any]]:
        """Per trial, best first, what is told of it; `rank` is None where it does not count."""
        return [
            {
                "rank": n if trial.status in RANKED and trial.metrics else None,
                "metric": trial.metric,
                "best_epoch": trial.best_epoch,
                "n_epochs": trial.n_epochs,
                **trial.model_dump(mode="json"),
            }
            for n, trial in enumerate(self.ranked, 1)
        ]

    def _recipe(self, best: Trial) -> str:
        settings = with_values(self.search.settings, best.settings)
        head = (
            f"# Trial {best.trial_id}, the best of {len(self)} of structure search {self.run_id}: validation metric"
            f" {best.metric:.4f}\n# tagfleet train --from-tune {self.run_id}\n"
        )
        return head + tomli_w.dumps(settings.model_dump(mode="json"))


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    flat = [
        {**{name: row[name] for name in (*FIRST_COLUMNS, *COST_COLUMNS)}, **row["settings"], "reason": row["reason"]}
        for row in rows
    ]
    writer = csv.DictWriter(text, list(flat[0]) if flat else [*FIRST_COLUMNS, *COST_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def open_search(root: Storage, run_id: str, search: Search) -> Leaderboard:
    """Claim a new run id. Raises ConflictError when a search or a training run has it."""
    if run_exists(root, run_id) or not root.create(f"runs/{run_id}/tune.json", _described(search)):
        raise ConflictError(
            f"there is a run {run_id} already", hint=f"continue it with --resume {run_id}, or take another id"
        )
    return Leaderboard(root, run_id, search)


def read_search(root: Storage, run_id: str) -> Leaderboard:
    """A search that was started before, with its trials so far.

    Raises NotFoundError when there is no such search, DigestMismatch when this tagfleet reads something else out of it.
    """
    try:
        described = json.loads(root.read(f"runs/{run_id}/tune.json"))
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no structure search {run_id} in {root.root}", hint="tagfleet tune starts one; check --root"
        ) from error
    digest = described.pop("digest", None)
    try:
        search = Search.model_validate(described)
    except ValidationError as error:
        raise DigestMismatch(
            f"structure search {run_id} is not one of this tagfleet's: {error}", hint="use the tagfleet it began with"
        ) from error
    if search.digest != digest:
        raise DigestMismatch(f"structure search {run_id} was changed: its digest is {search.digest}, not {digest}")
    try:
        rows = json.loads(root.read(f"runs/{run_id}/leaderboard.json"))["trials"]
    except NotFoundError:
        rows = []
    trials = [Trial.model_validate({name: row[name] for name in Trial.model_fields}) for row in rows]
    return Leaderboard(root, run_id, search, trials)


def extended(board: Leaderboard, *, n_trials: int | None, max_hours: float | None) -> Leaderboard:
    """The search with another number of trials or hours; writes nothing."""
    said = {"n_trials": n_trials, "max_hours": max_hours}
    search = board.search.model_copy(update={name: value for name, value in said.items() if value is not None})
    return Leaderboard(board.root, board.run_id, search, board.trials)


def _described(search: Search) -> bytes:
    described = {"digest": search.digest, **search.model_dump(mode="json")}
    return json.dumps(described, ensure_ascii=False, indent=2).encode() + b"\n"
