"""One trial of a structure search: a training in a single process, with values from the space."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from torch import Tensor

from tagfleet.errors import TagfleetError
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import Stored
from tagfleet.fleet.features import features_folder
from tagfleet.fleet.team import CPU, Team
from tagfleet.fleet.train_loop import WorkerJob, run_epochs
from tagfleet.fleet.tune_board import Search, Trial
from tagfleet.fleet.tune_space import Values, with_values
from tagfleet.model.network import cost_of
from tagfleet.model.tagger import Tagger, n_labels
from tagfleet.model.warmstart import warm_start
from tagfleet.store.objects import Storage

METRIC = "metric"
"""What is reported and maximised: the validation metric of the best epoch so far."""


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """What every trial is told."""

    root: Storage
    search: Search
    parent: Tagger | None
    """Weights that all trials start from."""
    stored: Mapping[str, Mapping[str, Stored]]
    """Per folder of features, the tracks of each side that is heard."""

    def recipe(self, values: Values) -> Recipe:
        """The recipe of a trial; one process. Raises ConfigError when the values do not go together."""
        settings, pinned = with_values(self.search.settings, values), self.search.recipe
        versions = {name: getattr(pinned.data, name) for name in ("labels_version", "catalog_version")}
        sections = {
            **dict(settings),
            "data": settings.data.model_copy(update=versions),
            "train": settings.train.model_copy(update={"init_from": pinned.train.init_from}),
            "workers": settings.workers.model_copy(update={"n_workers": 1}),
        }
        about = ("recipe", "taxonomy", "examples_digest", "parent_id")
        return Recipe(**sections, **{name: getattr(pinned, name) for name in about})

    def initial(self, recipe: Recipe) -> Mapping[str, Tensor]:
        """Weights to begin with; none without a parent. Raises ConfigError or DigestMismatch where they do not fit."""
        if self.parent is None:
            return {}
        return warm_start(self.parent, recipe.audio, recipe.network, recipe.taxonomy, seed=recipe.train.seed).weights

    def begun(self, trial_id: str, values: Values) -> Trial:
        """A trial that is about to run, with what it costs; skipped where its values do not go together."""
        try:
            recipe = self.recipe(values)
            self.initial(recipe)
        except TagfleetError as error:
            return Trial(trial_id=trial_id, settings=dict(values), status="skipped", reason=error.message)
        audio = recipe.audio
        heads = n_labels(recipe.taxonomy)
        cost = cost_of(recipe.network, heads, n_mels=audio.log_mel.n_mels, n_frames=audio.clip_frames)
        return Trial(
            trial_id=trial_id,
            settings=dict(values),
            status="running",
            n_parameters=cost.n_parameters,
            n_multiply_adds=cost.n_multiply_adds,
        )


def run_trial(config: dict[str, Any], job: SearchJob) -> None:
    """What runs in a trial's process: the epochs of a training, each reported.

    The last report says how it ended. A loss that is no number, or a network that does not fit the GPU, ends the trial,
    with a metric of 0, from which Optuna learns; only a process that dies is started again.
    """
    recipe = job.recipe(config["settings"])
    stored = job.stored[features_folder(recipe.audio, recipe.data.max_track_s)]
    last: dict[str, Any] = {"epoch": 0, METRIC: 0.0}

    def report(line: dict[str, Any], write: Callable[[Path], None] | None) -> None:
        nonlocal last
        history = line["history"]
        metrics = [epoch["validation_metric"] or 0.0 for epoch in history]
        last = {
            "epoch": len(history),
            METRIC: max(metrics),
            "validation_metric": metrics[-1],
            "clips_per_s": statistics.median(epoch["clips_per_s"] for epoch in history),
            "seconds": round(sum(epoch["seconds"] for epoch in history), 2),
        }
        tune.report(last)

    team = Team(device=torch.device("cuda") if recipe.workers.use_gpu else CPU, report=report)
    try:
        run_epochs(
            WorkerJob(
                root=job.root,
                recipe=recipe,
                train=stored["train"],
                validation=stored["validation"],
                initial=job.initial(recipe),
            ),
            team,
        )
    except TagfleetError as error:
        tune.report({**last, METRIC: 0.0, "outcome": "failed", "reason": error.message})
    except torch.OutOfMemoryError:
        tune.report({**last, METRIC: 0.0, "outcome": "failed", "reason": "the GPU's memory is too small for it"})
    else:
        tune.report({**last, "outcome": "finished"})
