"""`tagfleet labels`: from what creators typed to what training takes as true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagfleet.cli.output import DryRun, Json, emit_json, emit_table, say
from tagfleet.cli.session import Session

app = typer.Typer(help="Labels: what the tags say, in the words of a taxonomy.")


@app.command()
def build(
    context: typer.Context,
    taxonomy: Annotated[Path | None, typer.Option(help="Taxonomy TOML; default: the packaged one.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Match every track's tags against the taxonomy and commit a new version of the labels."""
    from tagfleet.fleet.labelling import label_catalog
    from tagfleet.labels.taxonomy import load_taxonomy

    session: Session = context.obj
    words = load_taxonomy(taxonomy)
    built, version = label_catalog(session.root, words, dry_run=dry_run)
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
