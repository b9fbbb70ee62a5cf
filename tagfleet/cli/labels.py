"""`tagfleet labels`: from what creators typed to what training takes as true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagfleet.cli.output import DryRun, Json, emit_json, emit_table, say
from tagfleet.cli.session import Session

app = typer.Typer(help="Labels: what the tags say, in the words of a taxonomy.", no_args_is_help=True)


@app.command()
def build(
    context: typer.Context,
    taxonomy: Annotated[Path | None, typer.Option(help="Taxonomy TOML; default: the packaged one.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Match every track's tags against the taxonomy and commit a new version of the labels."""
    from tagfleet.labels.build import build_labels
    from tagfleet.labels.taxonomy import load_taxonomy
    from tagfleet.store.tables import Table
    from tagfleet.store.taxonomies import put_taxonomy

    session: Session = context.obj
    words = load_taxonomy(taxonomy)
    built = build_labels(Table(session.root, "catalog").read(), words)
    version = None
    if not dry_run:
        put_taxonomy(session.root, words.version, words.model_dump_json(indent=2).encode())
        version = Table(session.root, "labels").replace(built.labels, note=f"taxonomy {words.version}")
    language = session.settings.lang
    names = {(axis.axis, label.id): getattr(label, language) for axis in words.axes for label in axis.labels}
    rows = [(axis, label, names[axis, label], count) for (axis, label), count in built.counts.items()]
    if as_json:
        counts = [{"axis": axis, "label": label, "name": name, "n_tracks": n} for axis, label, name, n in rows]
        emit_json({"version": version, "taxonomy": words.version, "labels": counts, "conflicts": built.conflicts})
        return
    emit_table(("axis", "label", "name", "tracks"), rows)
    for axis, n in built.n_unlabelled.items():
        conflicts = built.conflicts.get(axis, 0)
        say(
            f"{axis}: {n} tracks unknown"
            + (f", {conflicts} with several labels: the first tag won" if conflicts else "")
        )
    say("Nothing written (dry run)." if dry_run else f"Labels version {version} by taxonomy {words.version}.")
