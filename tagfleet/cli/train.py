"""`tagfleet train`: from labels to a published tagger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.evaluate import emit_axes
from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, say
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.config import Layer
from tagfleet.errors import UsageError
from tagfleet.fleet.runs import new_run_id, refuse_taken

if TYPE_CHECKING:
    from tagfleet.fleet.train import TrainPlan, TrainResult


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Settings under a name; -s overrides.")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Warm start: begin with the weights of this model.")
    ] = None,
    from_tune: Annotated[
        str | None, typer.Option(metavar="RUN", help="Settings of the best trial of `tagfleet tune`.")
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; default: train-<time>.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this run, by its own recipe, from its last epoch.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the work.", min=1)] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--cpu", help="One GPU per worker, or CPUs only.")] = None,
    settings: SettingsFlag = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train on the labelled tracks, calibrate, measure on held-out creators, publish the tagger.

    Recipes: smoke, genre5, genre4-from-genre5, instrument, mood2, all-axes, or a TOML file. What it makes lies in
    runs/<run id>/ of the storage root; `tagfleet report MODEL` shows it, `tagfleet models promote MODEL` uses it.
    """
    session: Session = context.obj
    if resume:
        only_resume(
            recipe=recipe,
            init_from=init_from,
            from_tune=from_tune,
            run_id=run_id,
            workers=workers,
            gpu=gpu,
            set=settings,
        )
        if dry_run:
            _emit_rest(session, resume, as_json)
            return
        result = _resume(session, resume)
    else:
        if recipe and from_tune:
            raise UsageError("--recipe and --from-tune both name settings", hint="give one of them; -s overrides")
        session = session.with_values("train", {"init_from": init_from})
        session = chosen(session, recipe=recipe, from_tune=from_tune, workers=workers, gpu=gpu, settings=settings)
        name = recipe or (from_tune and f"tune {from_tune}") or ""
        if dry_run:
            _emit_plan(_planned(session, name), run_id or new_run_id("train"), as_json)
            return
        result = run_training(session, run_id or new_run_id("train"), name)
    if as_json:
        emit_json(result.model_dump(mode="json"))
        return
    emit_facts(result.model_dump(mode="json", exclude={"evaluation"}))
    emit_axes(result.evaluation)
    say(f"\nMore: tagfleet report {result.model} --open; to put it to use: tagfleet models promote {result.model}")


def chosen(
    session: Session,
    *,
    recipe: str | None,
    from_tune: str | None = None,
    workers: int | None = None,
    gpu: bool | None = None,
    settings: list[str] | None = None,
) -> Session:
    """The session with what options of a training say."""
    if recipe:
        from tagfleet.fleet.recipes import recipe_layer

        session = session.with_recipe(recipe_layer(recipe))
    if from_tune:
        session = session.with_recipe(_best_trial(session, from_tune))
    session = session.with_flags(settings)
    return session.with_values("workers", {"n_workers": workers, "use_gpu": gpu})


def only_resume(**options: object) -> None:
    """UsageError for options that a run which goes on cannot take: it has its own recipe."""
    if given := [name.replace("_", "-") for name, value in options.items() if value not in (None, [], ())]:
        raise UsageError(
            f"--resume goes on with the recipe that the run began with; it takes no --{', --'.join(given)}",
            hint="leave them out, or start a new run",
        )


def _best_trial(session: Session, run_id: str) -> Layer:
    from tagfleet.fleet.tune import best_trial

    return best_trial(session.root, run_id)


def _planned(session: Session, recipe: str) -> TrainPlan:
    from tagfleet.fleet.train import plan_training

    return plan_training(session.root, session.settings.training, recipe=recipe)


def _emit_plan(plan: TrainPlan, run_id: str, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "run_id": run_id,
        "recipe": plan.recipe.recipe,
        "recipe_digest": plan.recipe.digest,
        "model": plan.recipe.train.model,
        **{f"n_{split}": n for split, n in plan.n_tracks.items()},
        "labels": {axis.axis: len(axis.labels) for axis in plan.recipe.taxonomy.axes},
        "epochs": plan.recipe.train.epochs,
        "steps": plan.n_steps,
        "n_parameters": plan.n_parameters,
        "multiply_adds_per_clip": plan.n_multiply_adds,
    }
    if plan.recipe.train.init_from:
        facts |= {"init_from": plan.recipe.train.init_from}
        facts |= {name: list(getattr(plan, name)) for name in ("copied", "new", "dropped")}
    if as_json:
        emit_json(facts | {"settings": plan.recipe.model_dump(mode="json", exclude={"taxonomy"})})
        return
    emit_facts({name: ", ".join(value) if isinstance(value, list) else value for name, value in facts.items()})


def _emit_rest(session: Session, run_id: str, as_json: bool) -> None:
    from tagfleet.fleet.runs import read_metrics, read_recipe, read_result

    recipe = read_recipe(session.root, run_id)
    facts = {
        "run_id": run_id,
        "recipe": recipe.recipe,
        "recipe_digest": recipe.digest,
        "model": recipe.train.model,
        "epochs_done": len(read_metrics(session.root, run_id)),
        "epochs": recipe.train.epochs,
        "already_finished": read_result(session.root, run_id) is not None,
    }
    emit_json(facts) if as_json else emit_facts(facts)


def run_training(session: Session, run_id: str, recipe: str = "") -> TrainResult:
    """Train with the settings of `session`, showing progress."""
    from tagfleet.fleet.train import train

    refuse_taken(session.root, run_id)
    chosen = session.settings
    _tell_network(session, recipe)
    say(f"Run {run_id}: features first, then up to {chosen.train.epochs} epochs …")
    with session.recorded(run_id, "train") as run:
        result = run.result = train(
            session.root,
            chosen.training,
            recipe=recipe,
            limits=chosen.limits,
            ray_config=chosen.ray,
            run_id=run_id,
            watch=run.watch,
            report=_teller(session, chosen.train.epochs),
        )
    return result


def _resume(session: Session, run_id: str) -> TrainResult:
    from tagfleet.fleet.runs import read_recipe
    from tagfleet.fleet.train import resume

    epochs = read_recipe(session.root, run_id).train.epochs
    say(f"Run {run_id} goes on …")
    with session.recorded(run_id, "train") as run:
        result = run.result = resume(
            session.root,
            run_id,
            limits=session.settings.limits,
            ray_config=session.settings.ray,
            watch=run.watch,
            report=_teller(session, epochs),
        )
    return result


def _tell_network(session: Session, recipe: str) -> None:
    plan = _planned(session, recipe)
    network = plan.recipe.network
    for what in ("copied", "new", "dropped"):
        if rows := getattr(plan, what):
            say(f"Warm start from {plan.recipe.train.init_from}, rows {what}: {', '.join(rows)}")
    say(
        f"Network {network.preset}: {plan.n_parameters:,} parameters, {plan.n_multiply_adds / 1e6:.0f} million"
        f" multiply-adds per clip; {plan.n_tracks['train']} training tracks"
    )


def _teller(session: Session, epochs: int) -> Any:
    if session.quiet:
        return lambda line: None
    return lambda line: _tell_epoch(line, epochs)


def _tell_epoch(line: Mapping[str, Any], epochs: int) -> None:
    names = [name for name in line if name == "train_loss" or name.startswith("validation")]
    measured = ", ".join(f"{name} {line[name]:.3f}" for name in names if line[name] is not None)
    speed = f"{line['clips_per_s']:.0f} clips/s, waited {line['wait_share']:.0%}"
    say(f"Epoch {line['epoch']}/{epochs}: {measured}; {speed}")
