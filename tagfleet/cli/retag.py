"""`tagfleet retag`: the nightly job."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, say
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.fleet.runs import new_run_id

Only = Literal["new", "changed", "stale", "all"]


def retag(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Model: production, NAME or NAME:VERSION.")] = "production",
    catalog: Annotated[int | None, typer.Option(help="Catalogue version; default: the latest.")] = None,
    only: Annotated[Only, typer.Option(help="new tracks; changed audio too; stale rows too; or all.")] = "stale",
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same name twice is one run.")] = None,
    max_error_rate: Annotated[float | None, typer.Option(help="Publish nothing above this share of failures.")] = None,
    settings: SettingsFlag = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Tag what is new or out of date, and publish one new snapshot of the predictions."""
    from tagfleet.fleet.retag import open_retag
    from tagfleet.fleet.retag import retag as tag_again

    session = with_error_rate(context.obj, max_error_rate, settings)
    audio = session.settings.audio if any(name.startswith("audio.") for name in session.loaded.sources) else None
    plan, tagger = open_retag(
        session.root,
        model,
        run_id or new_run_id("retag"),
        catalog_version=catalog,
        only=only,
        audio=audio,
    )
    if dry_run:
        facts = {"run_id": plan.run_id, "model": plan.model, "n_catalog": plan.n_catalog, "reasons": dict(plan.reasons)}
        emit_json(facts) if as_json else emit_facts(facts)
        return
    say(f"Run {plan.run_id}: {plan.to_tag.num_rows} of {plan.n_catalog} tracks to tag with {plan.model} …")
    with session.recorded(plan.run_id, "retag") as run:
        report = tag_again(
            session.root,
            plan,
            audio=tagger.audio,
            limits=session.settings.limits,
            config=session.settings.retag,
            ray_config=session.settings.ray,
            watch=run.watch,
        )
        run.result = asdict(report)
    emit_json(run.result) if as_json else emit_facts(run.result)


def with_error_rate(session: Session, max_error_rate: float | None, settings: list[str] | None) -> Session:
    """The session with `-s` settings, and with a rate of failures that somebody named on this very call."""
    flags = list(settings or [])
    if max_error_rate is not None:
        flags += [f"retag.max_error_rate={max_error_rate}", "retag.min_errors=1"]
    return session.with_flags(flags)
