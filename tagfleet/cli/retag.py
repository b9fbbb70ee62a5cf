"""`tagfleet retag`: the nightly job."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, say
from tagfleet.cli.progress import progress
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.errors import UsageError

ONLY = ("new", "changed", "stale", "all")


def retag(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Model: production, NAME or NAME:VERSION.")] = "production",
    catalog: Annotated[int | None, typer.Option(help="Catalogue version; default: the latest.")] = None,
    only: Annotated[str, typer.Option(help="new tracks; changed audio too; stale rows too; or all.")] = "stale",
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same name twice is one run.")] = None,
    max_error_rate: Annotated[float | None, typer.Option(help="Publish nothing above this share of failures.")] = None,
    settings: SettingsFlag = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Tag what is new or out of date, and publish one new snapshot of the predictions."""
    if only not in ONLY:
        raise UsageError(f"--only {only!r} is not known", hint=f"one of {', '.join(ONLY)}")
    from tagfleet.fleet import retag as fleet_retag
    from tagfleet.fleet.taggers import load_tagger

    flags = list(settings or [])
    if max_error_rate is not None:
        flags += [f"retag.max_error_rate={max_error_rate}", "retag.min_errors=1"]
    session: Session = context.obj.with_flags(flags)
    root = session.root
    ref, tagger = load_tagger(root, model)
    if any(name.startswith("audio.") for name in session.loaded.sources):
        fleet_retag.check_audio(tagger, session.settings.audio)
    plan = fleet_retag.plan_retag(
        root,
        ref,
        tagger,
        run_id or new_run_id("retag"),
        catalog_version=catalog,
        only=only,  # type: ignore[arg-type]  # checked above
    )
    if dry_run:
        facts = {"run_id": plan.run_id, "model": plan.model, "n_catalog": plan.n_catalog, "reasons": dict(plan.reasons)}
        emit_json(facts) if as_json else emit_facts(facts)
        return
    say(f"Run {plan.run_id}: {plan.to_tag.num_rows} of {plan.n_catalog} tracks to tag with {ref} …")
    with progress("Tagging", plan.to_tag.num_rows, quiet=session.quiet) as advance:
        report = fleet_retag.retag(
            root,
            plan,
            audio=tagger.audio,
            limits=session.settings.limits,
            config=session.settings.retag,
            ray_config=session.settings.ray,
            advance=advance,
        )
    emit_json(asdict(report)) if as_json else emit_facts(asdict(report))


def new_run_id(kind: str) -> str:
    """A name for a run that sorts by time and is not taken: retag-20261123T180000Z-1f2e."""
    return f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
