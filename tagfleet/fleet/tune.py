"""Structure search: many short trainings with settings from a space, ranked by how well they do on validation tracks.

The test side of the split takes no part: its tracks are not even decoded. A search looks at the validation tracks so
often that its best metric flatters; what the chosen settings are worth, the test side of the training tells that
follows (`tagfleet train --from-tune RUN`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tagfleet.config import Section
from tagfleet.fleet.config import TrainSettings
from tagfleet.fleet.training_data import TrainingData, resolve
from tagfleet.fleet.tune_board import Leaderboard, Search, Trial
from tagfleet.fleet.tune_space import Space
from tagfleet.store.objects import Storage

HEARD = ("train", "validation")
"""The sides of the split that a search works on."""

Advance = Callable[[int, int], None]
Told = Callable[[Trial, Leaderboard], None]
"""Called with each trial that has ended, and all so far."""


class TuneResult(Section):
    """Where a search stands when it returns."""

    run_id: str
    best: Trial
    trials: list[dict[str, Any]]
    """Rows of the leaderboard, best first."""
    n_trials: int
    """As many were asked for."""
    out_of_time: bool = False
    """`max_hours` were over before all trials were; the search can go on."""
    already_finished: bool = False
    """Nothing was done now: the search had been finished before."""


@dataclass(frozen=True, kw_only=True)
class TunePlan:
    """What a search would do."""

    search: Search
    n_left: int
    """Trials that are not done."""
    n_tracks: Mapping[str, int]
    """Labelled tracks of the sides that are heard."""
    undecoded: Mapping[str, int]
    """Per set of log-mels that is needed, tracks that have none yet."""
    at_once: int | None
    """Trials side by side; None where only the cluster knows."""
    estimate_s: float | None
    """By the trials that are done; None before the first."""


def plan_tune(
    root: Storage, settings: TrainSettings, space: Space, *, n_trials: int, max_hours: float | None, recipe: str = ""
) -> tuple[Search, TrainingData]:
    """What `tune` would search, and on what; refuses what it would refuse."""
    require_optuna()
    data = resolve(root, settings, recipe=recipe)
    _parent(root, data)
    search = Search(settings=settings, recipe=data.recipe, space=space, n_trials=n_trials, max_hours=max_hours)
    return search, data
