"""`tagfleet models`: published taggers, and which of them is in production."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from tagfleet.cli.evaluate import emit_axes, emit_differences
from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, emit_table, local_time, made_folder, printable, say
from tagfleet.cli.session import Session

app = typer.Typer(help="Models: published taggers, and which is in production.")

Why = Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the history.")]


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """All versions of all models."""
    session: Session = context.obj
    from tagfleet.store.models import ModelStore

    models = ModelStore(session.root).published()
    if as_json:
        emit_json(models)
        return
    zone = session.settings.tz
    emit_table(
        ("model", "created", "id", "alias"),
        [
            (m.ref, local_time(m.created_at, zone), m.model_id[:16], "production" if m.in_production else "")
            for m in models
        ],
    )


@app.command()
def show(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or production.")],
    as_json: Json = False,
) -> None:
    """What a model is made of and how well it does: its card, or with --json audio path, network, labels, metrics."""
    from tagfleet.store.models import ModelStore

    ref, files = ModelStore(context.obj.root).load(model, only=("tagger.json", "metrics.json", "README.md"))
    if as_json:
        metrics = json.loads(files.get("metrics.json", b"null"))
        emit_json({"model": str(ref), **json.loads(files["tagger.json"]), "metrics": metrics})
        return
    emit_facts({"model": str(ref)})
    for line in files.get("README.md", b"").decode().splitlines():
        typer.echo(printable(line))


@app.command()
def promote(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="NAME or NAME:VERSION.")],
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="BOUND", help='E.g. "genre.accuracy>=0.75"; without axis: on every axis.'),
    ] = None,
    why: Why = "",
    force: Annotated[
        bool, typer.Option("--force", help="Even if something speaks against it; history keeps that.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make a model the one that `retag` uses.

    Refused (exit 3) when it is below its baseline on any axis, below a --require, or significantly worse than the model
    in production on the same test tracks.
    """
    from tagfleet.fleet import promotion

    session: Session = context.obj
    limits, ray_config = session.settings.limits, session.settings.ray
    requirements = [promotion.parse_requirement(text) for text in require or ()]
    if dry_run:
        found = promotion.examine(session.root, model, requirements, limits=limits, ray_config=ray_config)
    else:
        found = promotion.promote(
            session.root, model, requirements, by=_person(), why=why, force=force, limits=limits, ray_config=ray_config
        )
    told = {axis: difference.model_dump() for axis, difference in found.against.items()}
    if as_json:
        facts = {"model": str(found.ref), "against": told, "refusals": list(found.refusals)}
        emit_json({"production": str(found.production if dry_run else found.ref), **facts})
        return
    emit_axes(found.evaluation)
    if found.against:
        emit_differences(str(found.ref), str(found.production), dict(found.against))
    for refusal in found.refusals:
        say(f"Speaks against it: {refusal}")
    say("Nothing was changed." if dry_run else f"{found.ref} is in production.")


@app.command()
def revise(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or production.")] = "production",
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="BOUND", help="instrument.piano=0.4, or genre=0.3: unknown below, on an exclusive axis."),
    ] = None,
    taxonomy: Annotated[Path | None, typer.Option(metavar="FILE", help="Other names of the same labels.")] = None,
    as_json: Json = False,
) -> None:
    """Publish a model with other thresholds or names: the next `retag` needs no audio for that."""
    from tagfleet.fleet.revise import revise as publish_revised
    from tagfleet.labels.taxonomy import load_taxonomy

    named = load_taxonomy(taxonomy) if taxonomy else None
    old, new = publish_revised(context.obj.root, model, thresholds=threshold or (), taxonomy=named)
    if as_json:
        emit_json({"model": str(new), "from": str(old)})
        return
    say(f"Published {new}, made of {old}; its metrics are those of {old}.")
    say(f"Use it: tagfleet models promote {new}; tagfleet retag")


@app.command()
def rollback(context: typer.Context, why: Why = "", as_json: Json = False) -> None:
    """Put the model back into production that was there before the last promotion."""
    from tagfleet.store.models import ModelStore

    ref = ModelStore(context.obj.root).rollback(by=_person(), why=why)
    emit_json({"production": str(ref)}) if as_json else say(f"{ref} is in production again.")


@app.command()
def history(context: typer.Context, as_json: Json = False) -> None:
    """Who put which model into production, when and why; the latest first."""
    from tagfleet.store.models import ModelStore

    session: Session = context.obj
    entries = ModelStore(session.root).history()[::-1]
    if as_json:
        emit_json([entry.model_dump(mode="json") for entry in entries])
        return
    rows = [
        (local_time(e.at, session.settings.tz), e.action, e.model, e.by, e.why, "; ".join(e.against)) for e in entries
    ]
    emit_table(("at", "what", "in production", "by", "why", "what spoke against it"), rows)


@app.command()
def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or production.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder; made when it is not there.")],
    as_json: Json = False,
) -> None:
    """Copy the files of a model into a folder: weights (safetensors), settings, metrics, model card."""
    from tagfleet.store.models import ModelStore

    ref, files = ModelStore(context.obj.root).load(model)
    made_folder(out)
    for name, data in files.items():
        (out / name).write_bytes(data)
    emit_json({"model": str(ref), "files": sorted(files)}) if as_json else say(
        f"{ref}: {', '.join(sorted(files))} in {out}"
    )


def _person() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
