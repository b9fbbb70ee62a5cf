"""`tagfleet tune`: which network, on which clips, at which learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, emit_table, say
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.cli.train import chosen
from tagfleet.errors import UsageError
from tagfleet.fleet.config import N_TRIALS
from tagfleet.fleet.runs import new_run_id, refuse_taken

if TYPE_CHECKING:
    from tagfleet.fleet.tune import TunePlan, TuneResult
    from tagfleet.fleet.tune_board import Leaderboard, Trial


def tune(
    context: typer.Context,
    space: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML: settings and the values that each may take.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help=f"Trainings in all; default: {N_TRIALS}.")] = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="Stop after this time; the best so far counts.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Settings that all trials share; -s overrides.")
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the search; default: tune-<time>.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with this search; --trials and --max-hours give it more."),
    ] = None,
    settings: SettingsFlag = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Search for the best network: many short trainings, ranked by their metric on the validation tracks.

    Depth, width, pooling, dropout, learning rate, clip length and mels, or what --space names. Trials that lag behind
    are stopped early. The test tracks take no part. Needs `pip install 'tagfleet[tune]'`. Then: tagfleet train
    --from-tune RUN trains the best trial's settings to a model.
    """
    session: Session = context.obj
    if resume:
        only_resume(space=space, recipe=recipe, run_id=run_id, set=settings)
    else:
        session = chosen(session, recipe=recipe, settings=settings)
    name = resume or run_id or new_run_id("tune")
    if dry_run:
        plan = _planned(session, space, trials, max_hours, recipe or "", resume)
        _emit_plan(plan, name, as_json)
        return
    result = _searched(session, space, trials, max_hours, recipe or "", resume, name)
    if as_json:
        emit_json({**result.model_dump(mode="json"), "folder": f"{session.root.root}/runs/{name}"})
        return
    _emit_leaderboard(result)
    if result.already_finished:
        say(f"\nSearch {name} had been finished before; more: tagfleet tune --resume {name} --trials N")
    elif result.out_of_time:
        say(f"\nThe time was over before all {result.n_trials} trials were; go on: tagfleet tune --resume {name}")
    say(f"\nFiles: {session.root.root}/runs/{name}; the best to a model: tagfleet train --from-tune {name}")


def only_resume(**options: object) -> None:
    """UsageError for options that a search which goes on cannot take: it has its own space."""
    if given := [name.replace("_", "-") for name, value in options.items() if value not in (None, [], ())]:
        raise UsageError(
            f"--resume goes on with what the search began with; it takes no --{', --'.join(given)}",
            hint="leave them out, or start a new search",
        )


def _planned(
    session: Session, space: Path | None, trials: int | None, max_hours: float | None, recipe: str, resume: str | None
) -> TunePlan:
    from tagfleet.fleet.tune import plan_resumed, plan_tune
    from tagfleet.fleet.tune_space import read_space

    ray_config = session.settings.ray
    if resume:
        return plan_resumed(session.root, resume, n_trials=trials, max_hours=max_hours, ray_config=ray_config)
    training = session.settings.training
    return plan_tune(
        session.root,
        training,
        read_space(space, training),
        recipe=recipe,
        n_trials=trials or N_TRIALS,
        max_hours=max_hours,
        ray_config=ray_config,
    )


def _searched(
    session: Session,
    space: Path | None,
    trials: int | None,
    max_hours: float | None,
    recipe: str,
    resume: str | None,
    run_id: str,
) -> TuneResult:
    from tagfleet.fleet import tune as fleet_tune
    from tagfleet.fleet.tune_space import read_space

    told = (lambda trial, board: None) if session.quiet else _tell_trial
    limits, ray_config = session.settings.limits, session.settings.ray
    if resume:
        say(f"Search {run_id} goes on …")
        with session.recorded(run_id, "tune") as run:
            result = run.result = fleet_tune.resume_tune(
                session.root,
                run_id,
                n_trials=trials,
                max_hours=max_hours,
                limits=limits,
                ray_config=ray_config,
                watch=run.watch,
                told=told,
            )
        return result
    refuse_taken(session.root, run_id)
    training = session.settings.training
    n_trials = trials or N_TRIALS
    say(f"Search {run_id}: features first, then {n_trials} trials of up to {training.train.epochs} epochs …")
    chosen_space = read_space(space, training)
    with session.recorded(run_id, "tune") as run:
        result = run.result = fleet_tune.tune(
            session.root,
            training,
            chosen_space,
            recipe=recipe,
            n_trials=n_trials,
            max_hours=max_hours,
            limits=limits,
            ray_config=ray_config,
            run_id=run_id,
            watch=run.watch,
            told=told,
        )
    return result


def _tell_trial(trial: Trial, board: Leaderboard) -> None:
    ended = len(board) - len(board.unfinished)
    reason = f": {trial.reason}" if trial.reason else ""
    measured = f" {_digits(trial.metric)} at epoch {trial.best_epoch} of {trial.n_epochs}," if trial.metrics else ""
    best = f"; best {board.best.trial_id} {_digits(board.best.metric)}" if board.best else ""
    how = "stopped early" if trial.status == "stopped" else trial.status
    say(f"Trial {trial.trial_id} ({ended}/{board.search.n_trials}):{measured} {how}{reason}{best}")


def _emit_leaderboard(result: TuneResult) -> None:
    names = list(result.best.settings)
    columns = (
        "rank",
        "trial",
        "metric",
        "epochs",
        "status",
        "parameters",
        "multiply-adds",
        "clips/s",
        *names,
        "reason",
    )
    emit_table(
        columns,
        [
            (
                row["rank"] or "–",
                row["trial_id"],
                _digits(row["metric"]),
                row["n_epochs"],
                row["status"],
                f"{row['n_parameters']:,}",
                f"{row['n_multiply_adds']:,}",
                f"{row['clips_per_s']:.0f}",
                *(_value(row["settings"][name]) for name in names),
                row["reason"],
            )
            for row in result.trials
        ],
    )


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _emit_plan(plan: TunePlan, run_id: str, as_json: bool) -> None:
    search = plan.search
    facts: dict[str, Any] = {
        "run_id": run_id,
        "recipe": search.recipe.recipe,
        "model": search.recipe.train.model,
        **{f"n_{split}": n for split, n in plan.n_tracks.items()},
        "trials": search.n_trials,
        "trials_done": plan.n_done,
        "trials_at_once": plan.at_once,
        "epochs_per_trial": search.recipe.train.epochs,
        "max_hours": search.max_hours,
        "estimated_hours": None if plan.estimate_s is None else round(plan.estimate_s / 3600, 2),
        "tracks_to_decode": dict(plan.n_undecoded),
        "space": {
            name: distribution.model_dump(mode="json", exclude_defaults=True)
            for name, distribution in search.space.distributions.items()
        },
    }
    if as_json:
        emit_json(facts)
        return
    said = {name: value for name, value in facts.items() if value not in (None, "") and name != "space"}
    emit_facts(said | {name: _shown(described) for name, described in facts["space"].items()})


def _shown(described: dict[str, Any]) -> str:
    """A distribution on one line: 5, 6, 7 or 0.001 … 0.01, log."""
    if choice := described.get("choice"):
        return ", ".join(map(str, choice))
    step = f", step {described['step']}" if "step" in described else ""
    return f"{described['low']} … {described['high']}{step}{', log' if described.get('log') else ''}"
