"""`tagfleet predictions`: what the search team reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.catalog import absolute
from tagfleet.cli.output import Json, emit_facts, emit_json, emit_table, local_time, say
from tagfleet.cli.session import Session
from tagfleet.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from tagfleet.store.predictions import Predictions

app = typer.Typer(help="Predictions: committed snapshots of what the tracks are.")

Version = Annotated[int | None, typer.Option(help="Snapshot version; default: the latest.")]
QUERY_COLUMNS = ("track_id", "source_name", "genre", "genre_probability", "mood", "instruments")


@app.command()
def show(
    context: typer.Context,
    track: Annotated[str, typer.Argument(help="Track id.")],
    version: Version = None,
    as_json: Json = False,
) -> None:
    """One track: its tags with probabilities, or why it failed, and which model said so."""
    session: Session = context.obj
    row = _predictions(session).show(track, version=version)
    if row is None:
        raise NotFoundError(
            f"no prediction for track {track!r}", hint="tagfleet catalog show TRACK; then tagfleet retag"
        )
    if as_json:
        emit_json(row)
        return
    tags = row.pop("tags") or []
    others = row.pop("probabilities") or []
    accepted = {(tag["axis"], tag["label"]) for tag in tags}
    facts = {name: value for name, value in row.items() if value is not None}
    facts["instruments"] = ", ".join(row["instruments"] or [])
    facts["tagged_at"] = local_time(row["tagged_at"], session.settings.tz)
    emit_facts(facts)
    emit_table(
        ("axis", "label", "probability", "accepted"),
        [
            (p["axis"], p["label"], f"{p['probability']:.3f}", "yes" if (p["axis"], p["label"]) in accepted else "")
            for p in others
        ],
    )


@app.command()
def query(
    context: typer.Context,
    where: Annotated[
        str, typer.Argument(help="SQL condition, e.g. \"genre = 'rock' AND list_contains(instruments, 'piano')\".")
    ],
    columns: Annotated[str, typer.Option(help="Comma-separated columns.")] = ",".join(QUERY_COLUMNS),
    limit: Annotated[int, typer.Option(help="Most rows; 0 for all.", min=0)] = 100,
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Tracks for which a SQL condition holds."""
    names = [name.strip() for name in columns.split(",") if name.strip()]
    found = _predictions(context.obj).query(where, columns=names, limit=limit or None, version=version)
    if as_json:
        emit_json(found.to_pylist())
        return
    emit_table(found.column_names, [[_cell(value) for value in row.values()] for row in found.to_pylist()])
    say(f"{found.num_rows} tracks" + (f" (the first {limit}; --limit 0 for all)" if found.num_rows == limit else ""))


@app.command()
def history(context: typer.Context, limit: Annotated[int, typer.Option(min=1)] = 20, as_json: Json = False) -> None:
    """The committed snapshots, latest first."""
    session: Session = context.obj
    versions = _predictions(session).table.history(limit)
    if as_json:
        emit_json(versions)
        return
    emit_table(
        ("version", "committed", "operation", "run"),
        [(v.version, local_time(v.committed_at, session.settings.tz), v.operation, v.run_id or "") for v in versions],
    )


@app.command()
def publish(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="The run that the publish gate refused, or that was made --no-publish.")],
    as_json: Json = False,
) -> None:
    """Make a run's snapshot the current one although nobody, or the gate, published it."""
    version = _predictions(context.obj).publish(run)
    emit_json({"version": version, "run_id": run}) if as_json else say(f"Version {version} is what {run} made.")


@app.command()
def rollback(
    context: typer.Context,
    version: Annotated[int | None, typer.Argument(help="Version to go back to; default: the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Make an older snapshot the current one, as a new version; nothing is deleted."""
    target, new = _predictions(context.obj).rollback(version)
    emit_json({"version": new, "restored": target}) if as_json else say(f"Version {new} is version {target} again.")


@app.command()
def export(
    context: typer.Context,
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="parquet")],
    target: Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix.")],
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Plain files for readers that know no Delta: a clean snapshot folder, then latest.json."""
    if format_ != "parquet":
        raise UsageError(f"cannot export {format_!r}", hint="tagfleet predictions export parquet DIR")
    session: Session = context.obj
    result = _predictions(session).export_parquet(absolute(target), session.settings.storage, version=version)
    emit_json(result) if as_json else say(f"Version {result.version}, {result.n_rows} rows: {result.path}")


def _cell(value: Any) -> object:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(
            f"{v['axis']}:{v['label']} {v['probability']:.2f}" if isinstance(v, dict) else str(v) for v in value
        )
    return value


def _predictions(session: Session) -> Predictions:
    from tagfleet.store.predictions import Predictions

    return Predictions(session.root)
