"""`tagfleet retag`: the nightly job."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, say
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.fleet.runs import new_run_id

if TYPE_CHECKING:
    from tagfleet.fleet.plan import Ask

Only = Literal["new", "changed", "stale", "all"]


def retag(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Model: production, NAME or NAME:VERSION.")] = "production",
    catalog: Annotated[int | None, typer.Option(help="Catalogue version; default: the latest.")] = None,
    only: Annotated[Only, typer.Option(help="new tracks; changed audio too; stale rows too; or all.")] = "stale",
    limit: Annotated[int | None, typer.Option(min=0, help="Hear this many tracks; the rest waits.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also tracks that failed for good, though unchanged.")
    ] = False,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same name twice is one run.")] = None,
    max_error_rate: Annotated[float | None, typer.Option(help="Publish nothing above this share of failures.")] = None,
    publish: Annotated[bool, typer.Option(help="Or only make the snapshot, for `predictions publish`.")] = True,
    settings: SettingsFlag = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Tag what is new or out of date, and publish one new snapshot of the predictions."""
    from tagfleet.fleet.plan import Ask
    from tagfleet.fleet.retag import retag as tag_again
    from tagfleet.fleet.retag import unfinished_run

    session = with_error_rate(context.obj, max_error_rate, settings)
    ask = Ask(
        model=model,
        run_id=run_id or new_run_id("retag"),
        only=only,
        catalog_version=catalog,
        limit=limit,
        retry_failed=retry_failed,
    )
    if dry_run:
        facts = _preview(session, ask)
        emit_json(facts) if as_json else emit_facts(facts)
        return
    if run_id is None and (before := unfinished_run(session.root, ask, session.settings.retag)):
        say(f"Going on with run {before}, which published nothing (another --run-id starts anew) …")
        ask = Ask(**{**vars(ask), "run_id": before})
    with session.recorded(ask.run_id, "retag") as run:
        report = tag_again(
            session.root,
            ask,
            config=session.settings.retag,
            limits=session.settings.limits,
            ray_config=session.settings.ray,
            audio=audio_of(session),
            publish=publish,
            tidy=session.settings.predictions,
            price_per_hour=session.settings.price_per_hour,
            watch=run.watch,
            tell=say,
        )
        run.result = asdict(report)
    emit_json(run.result) if as_json else emit_facts(_brief(run.result))
    if not publish:
        say(f"Not published: tagfleet predictions publish {ask.run_id}")


def audio_of(session: Session) -> Any:
    """[audio] of the settings, where anybody set something in it."""
    return session.settings.audio if any(name.startswith("audio.") for name in session.loaded.sources) else None


def _preview(session: Session, ask: Ask) -> dict[str, Any]:
    from tagfleet.fleet.plan import stored_plan
    from tagfleet.fleet.plan_run import plan_run
    from tagfleet.fleet.retag import open_model
    from tagfleet.fleet.retag_report import estimate

    settings = session.settings
    ref, tagger = open_model(session.root, ask.model, settings.retag, audio_of(session))
    plan = stored_plan(session.root, ask.run_id)
    plan = plan or plan_run(session.root, ref, tagger, ask, settings.retag, settings.ray, store=False)
    expected = estimate(session.root, plan, settings.price_per_hour)
    facts: dict[str, Any] = {
        "run_id": plan.run_id,
        "model": plan.model,
        "catalog_version": plan.catalog_version,
        "base_version": plan.base_version,
        "n_catalog": plan.n_catalog,
        "n_to_tag": plan.n_to_tag,
        "n_left": plan.n_left,
        "reasons": dict(plan.reasons),
        "work": dict(plan.work),
        "expected_seconds": expected.seconds if expected else None,
        "expected_cost": expected.cost if expected else None,
    }
    return facts


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    """The report without what is a table of its own: `--json` and runs/<id>/report.json have all."""
    gate = [value for value in result["gate"] if value["value"] is not None]
    shown = {name: value for name, value in result.items() if name not in ("labels", "gate")}
    return shown | {"gate": {f"{v['axis']} {v['what']}": f"{v['value']:.3f} (most {v['most']:g})" for v in gate}}


def with_error_rate(session: Session, max_error_rate: float | None, settings: list[str] | None) -> Session:
    """The session with `-s` settings, and with a rate of failures that somebody named on this very call."""
    flags = list(settings or [])
    if max_error_rate is not None:
        flags += [f"retag.max_error_rate={max_error_rate}", "retag.min_errors=1"]
    return session.with_flags(flags)
