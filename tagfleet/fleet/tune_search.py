"""The trials of a structure search under Ray Tune: Optuna chooses the values, ASHA stops what lags behind.

What a search goes on from is the leaderboard, not Ray Tune's own state below `runs/<id>/ray`: that is written every ten
seconds at best, so that a killed search would repeat what had ended since, and it consists of pickles. Instead Optuna
and ASHA are told again what the trials before have measured.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import optuna
import ray.exceptions
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from tagfleet.errors import JobError
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.excerpts import stable_seed
from tagfleet.fleet.tune_board import Leaderboard, Search, Trial
from tagfleet.fleet.tune_space import Distribution, setting
from tagfleet.fleet.tune_trial import METRIC, SearchJob, run_trial

GRACE = 0.25
"""Share of the epochs in which no trial is stopped: the learning rate has hardly begun to fall."""
REDUCTION = 3
"""ASHA: at each rung the best third goes on."""
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the leaderboard holds what was measured
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is an interruption, not the end of the search
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are reasons in the leaderboard
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one draws a table even when it shall be silent
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def run_trials(
    job: SearchJob, board: Leaderboard, *, left_s: float | None, told: Callable[[Trial, Leaderboard], None]
) -> None:
    """Run the trials that the leaderboard lacks; those that were cut off begin again, from their first epoch.

    Returns when all have ended or `left_s` seconds are over. Raises JobError when Tune itself fails.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's failure is a reason in the leaderboard
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if left_s is not None and left_s <= 0:
        return
    workers = job.search.settings.workers
    filesystem, base = job.root.arrow_filesystem()
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_trial, job=job),
            {"cpu": workers.cpus_per_worker, **({"gpu": 1} if workers.use_gpu else {})},
        ),
        tune_config=tune.TuneConfig(
            search_alg=Proposals(job, board),
            scheduler=early_stopping(job.search, board),
            num_samples=job.search.n_trials,
            time_budget_s=left_s,
            reuse_actors=True,  # a process' start and its imports cost more than an epoch
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}",
            storage_path=f"{base}/runs/{board.run_id}/ray",
            storage_filesystem=filesystem,
            failure_config=tune.FailureConfig(max_failures=workers.max_failures),
            callbacks=[Following(board, told)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except (tune.TuneError, ray.exceptions.RayError) as error:
        raise JobError(
            f"structure search {board.run_id} stopped: {root_cause(error)}",
            hint=f"when the cause is mended: tagfleet tune --resume {board.run_id}",
        ) from error
    board.put(*(trial.model_copy(update={"status": "out of time"}) for trial in board.unfinished))


class Proposals(OptunaSearch):
    """Optuna's TPE, told of the trials before; first the ones that were cut off, then new ones.

    Values that do not go together cost no process: they become a skipped trial here.
    """

    def __init__(self, job: SearchJob, board: Leaderboard) -> None:
        settings = job.search.settings
        again = board.unfinished
        super().__init__(
            space={
                name: optuna_distribution(d, type(setting(settings, name)))
                for name, d in job.search.space.distributions.items()
            },
            metric=METRIC,
            mode="max",
            points_to_evaluate=[trial.settings for trial in again],
            # A resumed search with the first one's seed would draw the first one's trials again.
            sampler=optuna.samplers.TPESampler(seed=stable_seed(settings.train.seed, len(board)) % 2**32),
        )
        self.job = job
        self.board = board
        self._again = [trial.trial_id for trial in again]
        self._ids: dict[str, str] = {}
        for trial in board.trials:
            if trial.status == "failed":
                self.add_evaluated_point(trial.settings, 0.0)
            elif trial.metric is not None and trial not in again:
                self.add_evaluated_point(trial.settings, trial.metric)

    def suggest(self, trial_id: str) -> Any:
        """Our id and the values of the next trial, for Tune's; FINISHED when there are as many as were asked for."""
        while self._again or len(self.board) < self.job.search.n_trials:
            ours = self._again.pop(0) if self._again else self.board.next_id()
            values = super().suggest(ours) or {}
            trial = self.job.begun(ours, values)
            self.board.put(trial)
            if trial.status == "running":
                self._ids[trial_id] = ours
                return {"trial_id": ours, "settings": values}
            super().on_trial_complete(ours, error=True)
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Optuna is told of whole trials only."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna what a trial came to."""
        super().on_trial_complete(self._ids[trial_id], result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the leaderboard is what is kept."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given; this is never read back."""
        return {}


class Following(tune.Callback):
    """Keeps the leaderboard up to date. Its methods are called in the process that runs the search."""

    def __init__(self, board: Leaderboard, told: Callable[[Trial, Leaderboard], None]) -> None:
        self.board = board
        self.told = told

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is over; or the training says how it ended."""
        if "outcome" in result:
            return
        row = self.board[trial.config["trial_id"]]
        # A process that died began again at the first epoch.
        metrics = (*row.metrics[: result["epoch"] - 1], result["validation_metric"])
        measured = {name: result[name] for name in ("clips_per_s", "seconds")}
        self.board.note(row.model_copy(update={"metrics": metrics, **measured}))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial came to its end, or ASHA stopped it."""
        row = self.board[trial.config["trial_id"]]
        all_epochs = row.n_epochs == self.board.search.settings.train.epochs
        outcome = trial.last_result.get("outcome", "finished" if all_epochs else "stopped")
        self._ended(row, status=outcome, reason=trial.last_result.get("reason", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process died as often as it may."""
        error = trial.get_pickled_error() or trial.get_error()
        self._ended(
            self.board[trial.config["trial_id"]], status="failed", reason=root_cause(error) if error else "it died"
        )

    def _ended(self, row: Trial, **update: str) -> None:
        row = row.model_copy(update=update)
        self.board.put(row)
        self.told(row, self.board)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given; this is never read back."""
        return {}


def early_stopping(search: Search, board: Leaderboard) -> ASHAScheduler:
    """ASHA over epochs (Li et al.: "A system for massively parallel hyperparameter tuning", MLSys 2020), told of the
    trials before: at each rung a trial goes on while it is among the best third of those that came so far.
    """
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=METRIC,
        mode="max",
        max_t=search.settings.train.epochs,
        grace_period=grace_epochs(search),
        reduction_factor=REDUCTION,
    )
    controller: Any = None
    for trial in board.trials:
        if not trial.metrics or trial in board.unfinished:
            continue
        before: Any = SimpleNamespace(trial_id=trial.trial_id)  # all that ASHA reads of a trial
        scheduler.on_trial_add(controller, before)
        for epoch in range(1, trial.n_epochs + 1):
            scheduler.on_trial_result(controller, before, {"epoch": epoch, METRIC: max(trial.metrics[:epoch])})
        scheduler.on_trial_remove(controller, before)
    return scheduler


def grace_epochs(search: Search) -> int:
    """Epochs that every trial may run."""
    return max(1, round(GRACE * search.settings.train.epochs))


def optuna_distribution(distribution: Distribution, kind: type) -> optuna.distributions.BaseDistribution:
    """The distribution in Optuna's words, of a setting of this type."""
    low, high, step = distribution.low, distribution.high, distribution.step
    if low is None or high is None:
        return optuna.distributions.CategoricalDistribution(distribution.choice)
    if kind is int:
        return optuna.distributions.IntDistribution(int(low), int(high), log=distribution.log, step=int(step or 1))
    return optuna.distributions.FloatDistribution(low, high, log=distribution.log, step=step)


def _folder_name(trial: Any) -> str:
    return str(trial.config["trial_id"])
