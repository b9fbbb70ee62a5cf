"""`tagfleet train`: from labels to a published tagger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, emit_table, say
from tagfleet.cli.progress import progress
from tagfleet.cli.retag import new_run_id
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.errors import UsageError

if TYPE_CHECKING:
    from tagfleet.fleet.train import TrainResult
    from tagfleet.model.metrics import AxisMetrics


WIDTH_ON_GPU = 64
"""A GPU has the time for four times the network; any other width is taken as set."""


def train(
    context: typer.Context,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; default: train-<time>.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run from its last epoch.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the work.", min=1)] = None,
    gpu: Annotated[bool | None, typer.Option("--gpu/--cpu", help="One GPU per worker, or CPUs only.")] = None,
    settings: SettingsFlag = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train on the labelled tracks, measure on held-out creators, publish the tagger."""
    if resume and run_id:
        raise UsageError("--resume names the run already", hint="leave out --run-id")
    flags = list(settings or [])
    flags += [f"train.n_workers={workers}"] if workers is not None else []
    flags += [f"train.use_gpu={str(gpu).lower()}"] if gpu is not None else []
    session: Session = context.obj.with_flags(flags)
    if session.settings.train.use_gpu and "network.width" not in session.loaded.sources:
        session = session.with_flags([f"network.width={WIDTH_ON_GPU}"])
    name = resume or run_id or new_run_id("train")
    if dry_run:
        facts = {"run_id": name, **planned(session)}
        emit_json(facts) if as_json else emit_facts(facts)
        return
    result = run_training(session, name, resume=resume is not None)
    if as_json:
        emit_json(result.model_dump(mode="json"))
        return
    emit_facts({name: value for name, value in result.model_dump(mode="json").items() if name != "metrics"})
    emit_metrics(result.metrics)


def planned(session: Session) -> dict[str, int]:
    """What a training would see and do."""
    from tagfleet.fleet.label_store import stored_labels
    from tagfleet.fleet.train import plan_training
    from tagfleet.store.tables import Table

    labels, taxonomy = stored_labels(session.root)
    return plan_training(Table(session.root, "catalog").read(), labels, taxonomy, session.settings.train)


def run_training(session: Session, run_id: str, *, resume: bool) -> TrainResult:
    """Train with the settings of `session`, showing progress."""
    from tagfleet.fleet.label_store import stored_labels
    from tagfleet.fleet.train import train
    from tagfleet.store.tables import Table

    chosen = session.settings
    labels, taxonomy = stored_labels(session.root)
    tracks = Table(session.root, "catalog").read()
    say(f"Run {run_id}: features first, then {chosen.train.epochs} epochs …")
    with progress("Making features", None, quiet=session.quiet) as advance:
        return train(
            session.root,
            tracks,
            labels,
            taxonomy,
            config=chosen.train,
            audio=chosen.audio,
            network=chosen.network,
            limits=chosen.limits,
            ray_config=chosen.ray,
            run_id=run_id,
            resume=resume,
            advance=advance,
            report=(lambda line: None) if session.quiet else lambda line: _tell_epoch(line, chosen.train.epochs),
        )


def _tell_epoch(line: Mapping[str, Any], epochs: int) -> None:
    measured = ", ".join(f"{name} {value:.3f}" for name, value in line.items() if isinstance(value, float))
    say(f"Epoch {line['epoch']}/{epochs}: {measured}")


def emit_metrics(metrics: Sequence[AxisMetrics]) -> None:
    """The result per axis on held-out creators, beside what guessing gives."""
    rows = [(m.axis, m.measure, _share(m.value), _share(m.chance), m.n_tracks) for m in metrics]
    emit_table(("axis", "measure", "value", "chance", "test tracks"), rows)


def _share(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3f}"
