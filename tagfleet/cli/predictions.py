"""`tagfleet predictions`: what the search team reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tagfleet.cli.catalog import absolute
from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, emit_table, local_time, say
from tagfleet.cli.session import Session
from tagfleet.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from tagfleet.store.predictions import Predictions

app = typer.Typer(help="Predictions: committed snapshots of what the tracks are.")

Format = Literal["parquet", "ndjson", "csv"]
Encoding = Literal["utf-8-sig", "cp932"]
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
    from tagfleet.fleet import housekeeping

    version = housekeeping.publish(context.obj.root, run)
    emit_json({"version": version, "run_id": run}) if as_json else say(f"Version {version} is what {run} made.")


@app.command()
def rollback(
    context: typer.Context,
    version: Annotated[int | None, typer.Argument(help="Version to go back to; default: before the last run.")] = None,
    as_json: Json = False,
) -> None:
    """Make an older snapshot the current one, as a new version; nothing is deleted."""
    from tagfleet.fleet import housekeeping

    target, new = housekeeping.rollback(context.obj.root, version)
    emit_json({"version": new, "restored": target}) if as_json else say(f"Version {new} is version {target} again.")


@app.command()
def diff(
    context: typer.Context,
    old: Annotated[str | None, typer.Argument(help="Version, or run; default: the one before NEW.")] = None,
    new: Annotated[str | None, typer.Argument(help="Version, or run, published or not; default: latest.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Example tracks per axis.")] = 5,
    as_json: Json = False,
) -> None:
    """What two snapshots say differently: counts, how labels moved, how distributions shifted."""
    from tagfleet.fleet.snapshot_diff import compare_snapshots

    predictions = _predictions(context.obj)
    before, after = _two(predictions, old, new)
    found = compare_snapshots(predictions, before, after, limit=limit)
    if as_json:
        emit_json(found)
        return
    facts = vars(found.difference) | {"old": before, "new": after}
    emit_facts({name: facts[name] for name in ("old", "new", "n_added", "n_changed", "n_removed")})
    emit_facts({name: facts[name] for name in ("n_failed_now", "n_recovered", "n_compared")})
    for axis, moved in found.axes.items():
        index = "" if moved.stability_index is None else f", stability index {moved.stability_index:.3f}"
        emit_table(
            ("label", "before", "after"), moved.rows(), title=f"{axis}: {moved.n_flipped} top labels changed{index}"
        )
        flows = [(f"{a} -> {b}", n) for a, b, n in found.difference.flows[axis][:10]]
        emit_table(("moved", "tracks"), flows) if flows else None
        examples = [(t["track_id"], t["source_name"], f"{t['before']} -> {t['after']}") for t in moved.examples]
        emit_table(("track", "name", "moved"), examples) if examples else None


@app.command()
def changes(
    context: typer.Context,
    old: Annotated[str | None, typer.Argument(help="Version, or run; default: the one before NEW.")] = None,
    new: Annotated[str | None, typer.Argument(help="Version, or run, published or not; default: latest.")] = None,
) -> None:
    """The change feed: one JSON object a line per track that differs, with its row before and after."""
    from tagfleet.store.changes import change_lines

    predictions = _predictions(context.obj)
    for line in change_lines(predictions, *_two(predictions, old, new)):
        typer.echo(line)


@app.command()
def export(
    context: typer.Context,
    format_: Annotated[Format, typer.Argument(metavar="FORMAT", help="parquet, ndjson (_bulk) or csv.")],
    target: Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix.")],
    version: Version = None,
    since: Annotated[int | None, typer.Option(help="ndjson: only what differs from this version.")] = None,
    index: Annotated[str | None, typer.Option(help="ndjson: the index' name, when the address does not say.")] = None,
    encoding: Annotated[Encoding, typer.Option(help="csv: for Excel, or for older Japanese ones.")] = "utf-8-sig",
    as_json: Json = False,
) -> None:
    """Plain files for readers that know no Delta: complete first, then latest.json."""
    from tagfleet.store import exports

    session: Session = context.obj
    predictions, at, config = _predictions(session), absolute(target), session.settings.storage
    if format_ != "ndjson" and (since is not None or index):
        raise UsageError("--since and --index are for ndjson", hint=f"tagfleet predictions export {format_} TARGET")
    report = None
    if format_ == "parquet":
        result = exports.export_parquet(predictions, at, config, version)
    elif format_ == "ndjson":
        result = exports.export_bulk(predictions, at, config, version=version, since=since, index=index)
    else:
        result, report = exports.export_csv(predictions, at, config, version=version, encoding=encoding)
    if as_json:
        emit_json(vars(result) | ({"report": vars(report)} if report else {}))
        return
    deleted = f", {result.n_deleted} to delete" if result.n_deleted else ""
    say(f"Version {result.version}, {result.n_rows} rows{deleted}: {result.path}")
    if report and (report.n_replaced or report.n_formulas):
        say(f"{report.n_replaced} characters became ?, {report.n_formulas} cells got an apostrophe: see .report.json")


@app.command()
def vacuum(
    context: typer.Context,
    older_than: Annotated[float | None, typer.Option(min=0, help="Days; default: predictions.history_days.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete what no kept snapshot needs: old versions' files, leftovers of dead runs. Waits for no run: it refuses."""
    from tagfleet.fleet.housekeeping import vacuum as clean

    session: Session = context.obj
    done = clean(session.root, session.settings.predictions, older_than_days=older_than, dry_run=dry_run)
    emit_json(done) if as_json else emit_facts(vars(done))


@app.command()
def compact(context: typer.Context, as_json: Json = False) -> None:
    """Join small data files: the same rows, fewer files, one commit."""
    from tagfleet.fleet.housekeeping import compact as join

    session: Session = context.obj
    done = join(session.root, session.settings.predictions, at_least=2)
    emit_json(done) if as_json else emit_facts(vars(done))


def _two(predictions: Predictions, old: str | None, new: str | None) -> tuple[int | str, int | str]:
    """Two snapshots as people name them: a number is a version, anything else a run."""
    after = predictions.table.version() if new is None else _which(predictions, new)
    if old is not None:
        return _which(predictions, old), after
    if isinstance(after, int):
        return max(0, predictions.changed_by(after).version - 1), after
    staged = predictions.staged(after)
    return (staged.base_version if staged else predictions.table.version()), after


def _which(predictions: Predictions, text: str) -> int | str:
    """A version, also of a run that is published; else the run."""
    if text.isdecimal():
        return int(text)
    version = None if predictions.staged(text) else predictions.table.version_of(text)
    return text if version is None else version


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
