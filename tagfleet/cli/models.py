"""`tagfleet models`: published taggers, and which of them is in production."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tagfleet.cli.output import Json, emit_facts, emit_json, emit_table, local_time, say
from tagfleet.cli.session import Session

app = typer.Typer(help="Models: published taggers, and which is in production.")


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
    """What a model is made of: audio path, network, labels, metrics."""
    from tagfleet.store.models import ModelStore

    ref, files = ModelStore(context.obj.root).load(model)
    facts = {"model": str(ref), **json.loads(files["tagger.json"])}
    emit_json(facts) if as_json else emit_facts(facts)


@app.command()
def promote(
    context: typer.Context, model: Annotated[str, typer.Argument(help="NAME or NAME:VERSION.")], as_json: Json = False
) -> None:
    """Make a model the one that `retag` uses."""
    from tagfleet.store.models import ModelStore

    store = ModelStore(context.obj.root)
    ref = store.resolve(model)
    store.promote(ref)
    emit_json({"production": str(ref)}) if as_json else say(f"{ref} is in production.")
