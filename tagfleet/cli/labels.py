"""`tagfleet labels`: from what creators typed to what training takes as true."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.label_report import emit_changes, names_of, tell_build
from tagfleet.cli.output import DryRun, Json, emit_json, emit_table, local_time, printable, say
from tagfleet.cli.progress import progress
from tagfleet.cli.session import Session
from tagfleet.errors import ConflictError, NotFoundError, UsageError

if TYPE_CHECKING:
    from tagfleet.labels.revision import TaxonomyChange

app = typer.Typer(help="Labels: what the tags say, in the words of a taxonomy.")

TaxonomyFile = Annotated[
    Path | None,
    typer.Option("--taxonomy", help="Taxonomy TOML, or `default`; without: that of the latest labels, or the setting."),
]


@app.command()
def mine(
    context: typer.Context,
    source: Annotated[str, typer.Option(help="tags, description or all.")] = "all",
    min_tracks: Annotated[int, typer.Option(help="Terms of at least so many tracks.", min=1)] = 2,
    min_creators: Annotated[int, typer.Option(help="Terms of at least so many creators.", min=1)] = 1,
    uncovered: Annotated[
        bool, typer.Option("--uncovered", help="Only what the taxonomy does not account for.")
    ] = False,
    limit: Annotated[int, typer.Option(help="Terms to show, 0 for all.", min=0)] = 50,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write CSV that Excel opens rightly.")] = None,
    taxonomy: TaxonomyFile = None,
    as_json: Json = False,
) -> None:
    """List the words and phrases that creators use: how often, beside which labels, covered or not."""
    from tagfleet.fleet.label_store import current_taxonomy
    from tagfleet.labels.mining import SOURCES, mine_terms
    from tagfleet.store.tables import Table

    if source not in SOURCES:
        raise UsageError(f"--source {source!r} is not known", hint=f"one of {', '.join(SOURCES)}")
    session: Session = context.obj
    tracks = Table(session.root, "catalog").read()
    words = current_taxonomy(session.root, session.settings.labels, taxonomy)
    with progress("Reading texts", tracks.num_rows, quiet=session.quiet) as advance:
        terms = mine_terms(
            tracks, words, source=source, min_tracks=min_tracks, min_creators=min_creators, advance=advance
        )
    n_all = len(terms)
    terms = [term for term in terms if not (uncovered and term.covered == "yes")]
    shown = terms[:limit] if limit else terms
    if as_json:
        emit_json([vars(term) for term in shown])
        return
    names = names_of(session.settings.lang, words)
    columns = (
        "phrase",
        "tracks",
        "uses",
        "creators",
        "covered",
        "labels",
        "near (PMI, tracks)",
        "spellings",
        "examples",
    )
    rows = [
        (
            term.phrase,
            term.n_tracks,
            term.n_uses,
            term.n_creators,
            term.covered,
            ", ".join(names[name] for name in term.labels),
            ", ".join(f"{names[name]} ({pmi:+.1f}, {n})" for name, pmi, n in term.near),
            ", ".join(f"{text} ({n})" for text, n in term.spellings[:4]) if len(term.spellings) > 1 else "",
            ", ".join(term.examples),
        )
        for term in shown
    ]
    if out is not None:
        _write(out, f"\ufeff{_csv_text(columns, rows)}")
    elif as_csv:
        typer.echo(_csv_text(columns, rows), nl=False)
    else:
        emit_table(columns, rows)
    say(f"{len(shown)} of {len(terms)} terms" + (f" that are not covered, {n_all} in all" if uncovered else ""))


@app.command()
def check(context: typer.Context, taxonomy: TaxonomyFile = None, as_json: Json = False) -> None:
    """Refuse a taxonomy that contradicts itself, and list the overlaps that a person should know of."""
    from tagfleet.fleet.label_store import current_taxonomy
    from tagfleet.labels.check import check_taxonomy
    from tagfleet.labels.lexicon import load_lexicons

    session: Session = context.obj
    words = current_taxonomy(session.root, session.settings.labels, taxonomy)
    own, tables = load_lexicons(map(Path, session.settings.labels.lexicons))
    remarks = check_taxonomy(words)
    if as_json:
        emit_json({"taxonomy": words.version, "remarks": [vars(remark) for remark in remarks]})
        return
    names = names_of(session.settings.lang, words)
    emit_table(
        ("kind", "axis", "label", "spelling", "remark"),
        [(r.kind, r.axis, names[f"{r.axis}:{r.label}"], r.spelling, r.message) for r in remarks],
    )
    sizes = ", ".join(f"{axis.axis} {len(axis.labels)} labels" for axis in words.axes)
    say(f"Taxonomy {words.version}: no contradiction; {sizes}; {len(remarks)} remarks.")
    say(f"Mood words: {len(own)}" + "".join(f", {table.name} {len(table.by_word)}" for table in tables))


@app.command()
def build(
    context: typer.Context,
    axis: Annotated[str, typer.Argument(help="One axis (the others stay as they are), or all.")] = "all",
    taxonomy: TaxonomyFile = None,
    change: Annotated[Path | None, typer.Option(help="TaxonomyChange TOML, applied first.")] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="[AXIS:]LABEL", help="Take a label out.")] = None,
    per_class: Annotated[
        int | None, typer.Option(help="At most so many tracks per label of an exclusive axis.", min=1)
    ] = None,
    min_per_side: Annotated[
        int | None, typer.Option(help="Leave out labels with fewer tracks on a side.", min=0)
    ] = None,
    conflicts: Annotated[
        str | None, typer.Option(help="Several labels on an exclusive axis: first, skip, multi.")
    ] = None,
    lexicon: Annotated[list[Path] | None, typer.Option(help="Polarity dictionary, or a mood lexicon TOML.")] = None,
    histogram: Annotated[Path | None, typer.Option(help="Also write the scores' histogram (SVG).")] = None,
    on_ray: Annotated[bool, typer.Option("--ray", help="Read the texts on Ray; the same rows.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Read every track's tags and description, and commit a new version of the labels."""
    from tagfleet.fleet.label_store import current_taxonomy, histogram_of, report_of
    from tagfleet.fleet.labelling import label_catalog
    from tagfleet.labels.revision import load_change, revise

    lexicons = [str(path) for path in lexicon] if lexicon else None
    given = {"min_per_side": min_per_side, "conflicts": conflicts, "lexicons": lexicons}
    session: Session = context.obj.with_values("labels", given)
    config = session.settings.labels
    words = current_taxonomy(session.root, config, taxonomy)
    if change is not None:
        words = revise(words, load_change(change))
    if drop:
        words = revise(words, _drops(drop, axis))
    if histogram is not None and not any(found.polarity and axis in ("all", found.axis) for found in words.axes):
        raise UsageError("no axis that is made comes from a score: there is no histogram", hint="drop --histogram")
    with progress("Reading texts", None, quiet=session.quiet) as advance:
        made = label_catalog(
            session.root,
            words,
            config,
            axis=None if axis == "all" else axis,
            per_class=per_class,
            ray_config=session.settings.ray if on_ray else None,
            dry_run=dry_run,
            advance=advance,
        )
    if histogram is not None and not dry_run:
        _write(histogram, histogram_of(made.build, next(iter(made.build.scores))))
    if as_json:
        report = report_of(made.build)
        counted = {"n_changed_tracks": made.n_changed_tracks, "changes": [vars(c) for c in made.changes]}
        emit_json({"version": made.version, "previous": made.previous, **report, **counted})
        return
    tell_build(made, words, session.settings.lang, axis)


@app.command()
def explain(
    context: typer.Context, track: Annotated[str, typer.Argument(help="Track id.")], as_json: Json = False
) -> None:
    """Why a track has its labels, or none: its texts with the matches marked, and what decided on each axis."""
    from tagfleet.cli.explanation import explanation_as_plain, explanation_lines
    from tagfleet.fleet.label_store import current_taxonomy, stored_corrections, stored_report
    from tagfleet.labels.explain import explain_track
    from tagfleet.labels.lexicon import load_lexicons
    from tagfleet.labels.reading import TrackReader
    from tagfleet.store.tables import Table

    session: Session = context.obj
    found = Table(session.root, "catalog").read(where={"track_id": track}).to_pylist()
    if not found:
        raise NotFoundError(f"no track {track!r} in the catalogue", hint="tagfleet catalog stats")
    config = session.settings.labels
    words = current_taxonomy(session.root, config)
    labels = Table(session.root, "labels")
    built = labels.exists()
    stored = labels.read(where={"track_id": track}).to_pylist() if built else None
    report = stored_report(session.root) if built else {}
    corrections = stored_corrections(session.root)
    said = [] if corrections is None else [row for row in corrections.to_pylist() if row["track_id"] == track]
    lexicons = [Path(name) for name in report.get("config", {}).get("lexicons", config.lexicons)]
    if missing := [str(path) for path in lexicons if not path.is_file()]:
        say(f"Not here, so mood words are scored by the settings' lexicons: {', '.join(missing)}")
        lexicons = [Path(name) for name in config.lexicons]
    reader = TrackReader(words, *load_lexicons(lexicons))
    explanation = explain_track(found[0], words, reader, stored, report, said)
    if as_json:
        emit_json(explanation_as_plain(explanation))
        return
    for line in explanation_lines(explanation, words, session.settings.lang):
        typer.echo(line)
    if not built:
        say("There are no labels yet: this is what `tagfleet labels build all` would go by.")


@app.command()
def merge(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="CSV: track_id, axis, label or none, note.", exists=True, dir_okay=False)
    ],
    encoding: Annotated[str, typer.Option(help="auto tries UTF-8, UTF-16 with BOM, cp932.")] = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take over a person's corrections: they win over every rule, now and in later builds."""
    from tagfleet.catalog.files import read_table
    from tagfleet.fleet.labelling import merge_into_labels
    from tagfleet.labels.corrections import COLUMNS

    session: Session = context.obj
    rows = read_table(file.read_bytes(), COLUMNS[:3], encoding=encoding)
    merged = merge_into_labels(session.root, rows, session.settings.labels, dry_run=dry_run)
    n_new, version, changes = merged.new.num_rows, merged.version, merged.changes
    if as_json:
        told = [vars(c) for c in changes]
        emit_json({"n_corrections": n_new, "version": version, "changes": told, "void": merged.void})
        return
    emit_changes(changes, names_of(session.settings.lang, merged.taxonomy))
    for line in merged.void:
        say(f"Correction without effect: {printable(line)}")
    outcome = "nothing written (dry run)" if dry_run else f"labels version {version}" if version else "no labels yet"
    say(f"{n_new} corrections; {outcome}.")


@app.command()
def diff(
    context: typer.Context,
    old: Annotated[int | None, typer.Argument(help="Version; default: the last but one.")] = None,
    new: Annotated[int | None, typer.Argument(help="Version; default: the latest.")] = None,
    as_json: Json = False,
) -> None:
    """What changed from one version of the labels to another: gained, lost, moved, by rule."""
    from tagfleet.fleet.label_store import current_taxonomy
    from tagfleet.fleet.labelling import exclusive_axes, taxonomy_of
    from tagfleet.labels.diff import diff_labels, n_changed_tracks
    from tagfleet.store.tables import Table

    session: Session = context.obj
    table = Table(session.root, "labels")
    new = table.version() if new is None else new
    old = new - 1 if old is None else old
    if old < 0:
        raise ConflictError("there is one version of the labels: nothing to compare", hint="tagfleet labels history")
    words = current_taxonomy(session.root, session.settings.labels)
    before, after = table.read(old), table.read(new)
    changes = diff_labels(before, after, exclusive_axes(words))
    n_tracks = n_changed_tracks(before, after)
    if as_json:
        emit_json({"old": old, "new": new, "n_changed_tracks": n_tracks, "changes": [vars(c) for c in changes]})
        return
    names = names_of(session.settings.lang, taxonomy_of(session.root, before), taxonomy_of(session.root, after))
    emit_changes(changes, names)
    say(f"From labels version {old} to {new}: {n_tracks} tracks have other labels.")


@app.command()
def history(context: typer.Context, as_json: Json = False) -> None:
    """Versions of the labels, the latest first."""
    from tagfleet.store.tables import Table

    session: Session = context.obj
    versions = Table(session.root, "labels").history()
    if as_json:
        emit_json(versions)
        return
    zone = session.settings.tz
    emit_table(
        ("version", "committed", "note"),
        [(v.version, local_time(v.committed_at, zone), v.note or "") for v in versions],
    )


@app.command("taxonomy")
def taxonomy_(
    context: typer.Context,
    taxonomy: TaxonomyFile = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; default: stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Print the taxonomy as TOML: to read, to edit, and to give back with `labels build --taxonomy`."""
    import tomli_w

    from tagfleet.fleet.label_store import current_taxonomy

    session: Session = context.obj
    words = current_taxonomy(session.root, session.settings.labels, taxonomy)
    if as_json:
        emit_json({"version": words.version, **words.model_dump(mode="json")})
        return
    text = tomli_w.dumps(words.model_dump(mode="json", exclude_defaults=True), multiline_strings=False)
    if out is None:
        typer.echo(text, nl=False)
    else:
        _write(out, text)
        say(f"Taxonomy {words.version} in {out}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="name a file in a folder that exists"
        ) from error


def _drops(drop: list[str], axis: str) -> TaxonomyChange:
    from tagfleet.labels.revision import Drop, TaxonomyChange

    steps = []
    for text in drop:
        named, sep, label = text.rpartition(":")
        if not sep and axis == "all":
            raise UsageError(f"--drop {text!r} names no axis", hint="--drop AXIS:LABEL, e.g. --drop genre:march")
        steps.append(Drop(axis=named or axis, label=label))
    return TaxonomyChange(note="--drop", drop=tuple(steps))


def _csv_text(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = printable(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text
