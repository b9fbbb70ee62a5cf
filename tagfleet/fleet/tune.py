"""Structure search: many short trainings with settings from a space, ranked by how well they do on validation tracks.

The test side of the split takes no part: its tracks are not even decoded. A search looks at the validation tracks so
often that its best metric flatters; what the chosen settings are worth, the test side of the training tells that
follows (`tagfleet train --from-tune RUN`).
"""

from __future__ import annotations

import importlib.util
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.audio.config import DecodeLimits
from tagfleet.config import Layer, Section
from tagfleet.errors import ConfigError, JobError, NotFoundError
from tagfleet.fleet.cluster import ray_job, usable_cpus
from tagfleet.fleet.config import TrainSettings
from tagfleet.fleet.dataset import Stored, rows_of, stored_examples
from tagfleet.fleet.features import features_folder, index_of, make_features, read_index
from tagfleet.fleet.recipes import checked_recipe
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import Watch, unwatched
from tagfleet.fleet.taggers import learnt_from, load_tagger, refuse_leak
from tagfleet.fleet.training_data import TrainingData, check_sizes, reread, resolve
from tagfleet.fleet.tune_board import Leaderboard, Search, Trial, extended, open_search, read_search
from tagfleet.fleet.tune_space import Space, with_values
from tagfleet.labels.split import SPLITS
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage

HEARD = ("train", "validation")
"""The sides of the split that a search works on."""

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
    n_done: int
    """Trials that need not be run any more."""
    n_tracks: Mapping[str, int]
    """Labelled tracks of the sides that are heard."""
    n_undecoded: Mapping[str, int]
    """Per set of log-mels that the space needs, tracks that have none yet."""
    at_once: int | None
    """Trials side by side; None where only the cluster knows."""
    estimate_s: float | None
    """For the trials that are left, by those that are done; None where none is."""


def plan_tune(
    root: Storage,
    settings: TrainSettings,
    space: Space,
    *,
    recipe: str = "",
    n_trials: int,
    max_hours: float | None,
    ray_config: RayConfig,
) -> TunePlan:
    """What `tune` would do; refuses what it would refuse before it costs machine time."""
    search = _search(root, settings, space, recipe=recipe, n_trials=n_trials, max_hours=max_hours)
    return _plan(Leaderboard(root, "", search), ray_config)


def plan_resumed(
    root: Storage, run_id: str, *, n_trials: int | None, max_hours: float | None, ray_config: RayConfig
) -> TunePlan:
    """What `resume_tune` would do."""
    return _plan(extended(read_search(root, run_id), n_trials=n_trials, max_hours=max_hours), ray_config)


def tune(
    root: Storage,
    settings: TrainSettings,
    space: Space,
    *,
    recipe: str = "",
    n_trials: int,
    max_hours: float | None = None,
    limits: DecodeLimits,
    ray_config: RayConfig,
    run_id: str,
    watch: Watch = unwatched,
    told: Told = lambda trial, board: None,
) -> TuneResult:
    """Run up to `n_trials` trainings with values from the space, and keep the settings of the best as a recipe.

    A trial is one process that trains `train.epochs` epochs unless ASHA stops it early; Optuna's TPE chooses its values
    by the trials before. Validation metric of the best epoch, higher is better. After `max_hours` what runs is cut off.
    watch: shows how features are made. Raises what `resolve` raises, ConfigError
    without optuna, LeakError for a parent that knows the held-out tracks, ConflictError when the run id is taken,
    JobError when no trial could be measured.
    """
    search = _search(root, settings, space, recipe=recipe, n_trials=n_trials, max_hours=max_hours)
    return _run(open_search(root, run_id, search), limits=limits, ray_config=ray_config, watch=watch, told=told)


def resume_tune(
    root: Storage,
    run_id: str,
    *,
    n_trials: int | None = None,
    max_hours: float | None = None,
    limits: DecodeLimits,
    ray_config: RayConfig,
    watch: Watch = unwatched,
    told: Told = lambda trial, board: None,
) -> TuneResult:
    """Go on with a search; trials that have ended are not repeated, those that were cut off begin again.

    `n_trials` and `max_hours` replace what it was started with; hours count from now. Raises NotFoundError when there
    is no such search, DigestMismatch when its labels or tracks are no longer there, and what `tune` raises.
    """
    board = extended(read_search(root, run_id), n_trials=n_trials, max_hours=max_hours)
    if board.complete:
        return _result(board, already_finished=True)
    require_optuna()
    board.save_search()
    return _run(board, limits=limits, ray_config=ray_config, watch=watch, told=told)


def best_trial(root: Storage, run_id: str) -> Layer:
    """The settings of a search's best trial, as a recipe.

    Raises NotFoundError when there is no such search, or no trial of it has been measured.
    """
    try:
        text = root.read(f"runs/{run_id}/best.toml").decode()
    except NotFoundError as error:
        read_search(root, run_id)
        raise NotFoundError(
            f"no trial of structure search {run_id} has ended yet", hint=f"tagfleet tune --resume {run_id}"
        ) from error
    return checked_recipe(f"tune {run_id}", tomllib.loads(text))


def require_optuna() -> None:
    """Raise ConfigError where the extra is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "a structure search needs optuna, which is not installed", hint="pip install 'tagfleet[tune]'"
        )


def _search(
    root: Storage, settings: TrainSettings, space: Space, *, recipe: str, n_trials: int, max_hours: float | None
) -> Search:
    require_optuna()
    data = resolve(root, settings, recipe=recipe)
    _parent(root, data)
    return Search(settings=settings, recipe=data.recipe, space=space, n_trials=n_trials, max_hours=max_hours)


def _run(board: Leaderboard, *, limits: DecodeLimits, ray_config: RayConfig, watch: Watch, told: Told) -> TuneResult:
    began = time.monotonic()
    search, root = board.search, board.root
    data = reread(root, search.recipe)
    with ray_job(ray_config):
        from tagfleet.fleet.tune_search import run_trials  # ray.tune costs seconds
        from tagfleet.fleet.tune_trial import SearchJob

        stored = _features(data, search, root=root, limits=limits, watch=watch)
        job = SearchJob(root=root, search=search, parent=_parent(root, data), stored=stored)
        left_s = None if search.max_hours is None else search.max_hours * 3600 - (time.monotonic() - began)
        run_trials(job, board, left_s=left_s, told=told)
    return _result(board, out_of_time=not board.complete)


def _result(board: Leaderboard, **facts: bool) -> TuneResult:
    if board.best is None:
        reasons = [trial.reason for trial in board.trials if trial.reason] or ["none had time for an epoch"]
        raise JobError(
            f"no trial of structure search {board.run_id} could be measured: {reasons[0]}",
            hint=f"runs/{board.run_id}/leaderboard.csv lists them all",
        )
    return TuneResult(
        run_id=board.run_id, best=board.best, trials=board.rows(), n_trials=board.search.n_trials, **facts
    )


def _plan(board: Leaderboard, ray_config: RayConfig) -> TunePlan:
    search = board.search
    data = reread(board.root, search.recipe)
    workers = search.settings.workers
    at_once = None
    if ray_config.address is None and not workers.use_gpu:
        at_once = max(1, int((ray_config.n_cpus or usable_cpus()) // workers.cpus_per_worker))
    n_done = len(board) - len(board.unfinished)
    times = [trial.seconds for trial in board.trials if trial.metrics and trial not in board.unfinished]
    estimate_s = None
    if times and at_once:
        estimate_s = sum(times) / len(times) * max(0, search.n_trials - n_done) / at_once
    tracks = _heard_tracks(data)
    undecoded = {}
    for settings in _feature_settings(search):
        folder = features_folder(settings.audio, settings.data.max_track_s)
        index = index_of(tracks, read_index(board.root, folder), {})
        name = f"{settings.audio.log_mel.n_mels} mels, {folder}"
        undecoded[name] = index["file"].to_pylist().count("")
    return TunePlan(
        search=search,
        n_done=n_done,
        n_tracks={split: n for split, n in _n_tracks(data).items() if split in HEARD},
        n_undecoded=undecoded,
        at_once=at_once,
        estimate_s=estimate_s,
    )


def _parent(root: Storage, data: TrainingData) -> Tagger | None:
    """The model that every trial starts from; refused where it has learnt what shall measure the trials."""
    if not data.recipe.train.init_from:
        return None
    ref, parent = load_tagger(root, data.recipe.train.init_from, expected_id=data.recipe.parent_id)
    refuse_leak(data.examples, learnt_from(root, str(ref)), str(ref))
    return parent


def _heard_tracks(data: TrainingData) -> pa.Table:
    heard = data.examples.filter(pc.is_in(data.examples["split"], pa.array(HEARD)))
    return data.tracks.filter(pc.is_in(data.tracks["track_id"], heard["track_id"].combine_chunks()))


def _feature_settings(search: Search) -> Iterator[TrainSettings]:
    """One of the settings for each set of log-mels; values that do not go together are left out."""
    for values in search.space.feature_choices():
        with suppress(ConfigError):
            yield with_values(search.settings, values)


def _features(
    data: TrainingData, search: Search, *, root: Storage, limits: DecodeLimits, watch: Watch
) -> dict[str, dict[str, Stored]]:
    """Per folder of log-mels, what is heard on each side; all sets that the space needs, made where they are not there.

    Raises ConfigError when too few of the tracks could be decoded.
    """
    tracks = _heard_tracks(data)
    sets = {}
    for settings in _feature_settings(search):
        folder = features_folder(settings.audio, settings.data.max_track_s)
        with watch(f"Making features, {settings.audio.log_mel.n_mels} mels", None) as advance:
            index = make_features(
                root,
                tracks,
                settings.audio,
                limits=limits,
                data=settings.data,
                workers=settings.workers,
                advance=advance,
            )
        sets[folder] = {split: stored_examples(rows_of(data.examples, split), index) for split in HEARD}
        heard = {split: len(side) for split, side in sets[folder].items()}
        check_sizes(_n_tracks(data) | heard, search.recipe)
    return sets


def _n_tracks(data: TrainingData) -> dict[str, int]:
    return {split: rows_of(data.examples, split).num_rows for split in SPLITS}
