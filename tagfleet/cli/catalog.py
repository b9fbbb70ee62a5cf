"""`tagfleet catalog`: what tracks there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.output import DryRun, Json, emit_facts, emit_json, emit_table, local_time, printable, say
from tagfleet.cli.progress import progress
from tagfleet.cli.session import Session
from tagfleet.errors import CatalogError, NotFoundError, TooManyFailures, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from tagfleet.catalog.rows import CheckedRows
    from tagfleet.store.tables import Table

app = typer.Typer(help="The catalogue: what tracks there are.")

SkipBad = Annotated[bool, typer.Option(help="Leave bad rows out, into a rejects file, instead of refusing all.")]
Rejects = Annotated[Path, typer.Option(help="Where --skip-bad writes the rows it left out (JSON Lines).")]


@app.command()
def scan(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix.")],
    id_prefix: Annotated[str, typer.Option(help="Put before every track id.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Catalogue the audio files below a folder or prefix; tracks catalogued from elsewhere stay."""
    from tagfleet.catalog.versions import replace_below
    from tagfleet.fleet.scan import scan as scan_files

    session: Session = context.obj
    audio_root = absolute(uri)
    table = _table(session)
    base_version = table.latest()
    known = table.read(base_version) if base_version >= 0 else None
    with progress("Reading headers", None, quiet=session.quiet) as advance:
        found = scan_files(
            audio_root,
            session.settings.storage,
            session.settings.limits,
            known=known,
            id_prefix=id_prefix,
            advance=advance,
        )
    for name in found.skipped:
        say(f"Skipped: {printable(name)}")
    for name, why in found.unreadable:
        say(f"Not readable, kept as a track: {printable(name)}: {printable(why)}")
    if not found.tracks.num_rows:
        raise CatalogError(
            f"no audio files below {audio_root}"
            + (f" ({found.n_other_files} other files)" if found.n_other_files else ""),
            hint="scan takes .wav .flac .mp3 .ogg .opus .m4a .aac .aiff files",
        )
    tracks = replace_below(known, found.tracks, audio_root)
    _commit(session, known, base_version, tracks, note=f"scan {audio_root}", dry_run=dry_run, as_json=as_json)


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON Lines or Parquet.", exists=True, dir_okay=False)],
    audio_root: Annotated[
        str, typer.Option(help="Folder or s3:// prefix of the audio; default: the file's folder.")
    ] = "",
    map_: Annotated[list[str] | None, typer.Option("--map", metavar="OURS=THEIRS", help="e.g. track_id=曲ID")] = None,
    encoding: Annotated[str, typer.Option(help="auto tries UTF-8, UTF-16 with BOM, cp932.")] = "auto",
    format_: Annotated[str, typer.Option("--format", help="csv, tsv, jsonl or parquet; default: by the suffix.")] = "",
    tag_separator: Annotated[str, typer.Option(help="Between the tags of one cell.")] = "|",
    skip_bad: SkipBad = False,
    rejects: Rejects = Path("rejects.jsonl"),
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make a catalogue file the catalogue: tracks that it does not list leave it."""
    from tagfleet.catalog.files import FORMATS, read_rows
    from tagfleet.catalog.rows import check_rows
    from tagfleet.fleet.scan import add_sizes, find_by_id
    from tagfleet.store.sources import list_audio

    session: Session = context.obj
    kind = format_ or {"ndjson": "jsonl", "txt": "tsv"}.get(file.suffix[1:].lower(), file.suffix[1:].lower())
    if kind not in FORMATS:
        raise UsageError(f"cannot tell the format of {file.name}", hint=f"--format {'|'.join(FORMATS)}")
    if not tag_separator:
        raise UsageError("--tag-separator must not be empty")
    root = absolute(audio_root or str(file.parent))
    rows = list(read_rows(file.read_bytes(), kind, encoding=encoding, mapping=_mapping(map_ or [])))
    named_by_id = not any("uri" in row.values for row in rows)
    checked = check_rows(rows, audio_root=root, tag_separator=tag_separator, named_by_id=named_by_id)
    if not skip_bad:
        _refuse(checked)
    elif not dry_run:
        _write_rejects(checked, rejects)
    if not checked.tracks.num_rows:
        raise CatalogError(
            f"{file.name} holds no good row; the catalogue stays as it is", hint="check --audio-root and --map"
        )
    table = _table(session)
    base_version = table.latest()
    known = table.read(base_version) if base_version >= 0 else None
    files = list(list_audio(root, session.settings.storage, skipped=lambda name: None))
    tracks = add_sizes(find_by_id(checked.tracks, files) if named_by_id else checked.tracks, files)
    if named_by_id:
        say("No uri column: each track's file is the one that is called like its id (--map uri=THEIRS names another).")
    if missing := tracks["size_bytes"].null_count:
        say(
            f"{missing} of {tracks.num_rows} tracks have no file below {root}; they will end as failed rows (not-found)"
        )
    _commit(session, known, base_version, tracks, note=f"import {file.name}", dry_run=dry_run, as_json=as_json)


@app.command()
def validate(
    context: typer.Context,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode the clips, as a re-tag does.")] = False,
    as_json: Json = False,
) -> None:
    """Open every track of the catalogue and list those that a re-tag would fail on (exit 4 if there are any)."""
    from tagfleet.audio.decode import probe
    from tagfleet.errors import TrackError
    from tagfleet.fleet.decoder import Decoder
    from tagfleet.store.sources import open_uri

    session: Session = context.obj
    settings = session.settings
    decoder = Decoder(settings.audio, settings.limits, settings.storage)

    def check(uri: str) -> TrackError | None:
        if decode:
            return decoder.listen(uri).error
        try:
            with open_uri(uri, settings.storage, max_bytes=settings.limits.max_size_bytes) as source:
                probe(source.file, settings.limits)
        except TrackError as error:
            return error
        return None

    tracks = _table(session).read(columns=["track_id", "uri"]).to_pylist()
    failures: list[dict[str, str]] = []
    with decoder, progress("Checking", len(tracks), quiet=session.quiet) as advance:
        for n, track in enumerate(tracks, start=1):
            if error := check(track["uri"]):
                failures.append({**track, "stage": error.stage, "reason": error.reason, "detail": error.message})
            advance(n, len(failures))
    if as_json:
        emit_json({"n_tracks": len(tracks), "failures": failures})
    else:
        emit_table(
            ("track_id", "stage", "reason", "detail"),
            [(f["track_id"], f["stage"], f["reason"], f["detail"]) for f in failures],
        )
        say(f"{len(tracks) - len(failures)} of {len(tracks)} tracks are good.")
    if failures:
        raise typer.Exit(TooManyFailures.exit_code)


@app.command()
def stats(context: typer.Context, as_json: Json = False) -> None:
    """Tracks, hours, creators, file types, tags, and what is missing."""
    from tagfleet.catalog.versions import stats as catalog_stats

    facts = catalog_stats(_table(context.obj).read())
    emit_json(facts) if as_json else emit_facts(facts)


@app.command()
def show(
    context: typer.Context, track: Annotated[str, typer.Argument(help="Track id.")], as_json: Json = False
) -> None:
    """One track as the catalogue has it."""
    session: Session = context.obj
    rows = _table(session).read(where={"track_id": track}).to_pylist()
    if not rows:
        raise NotFoundError(f"no track {track!r} in the catalogue", hint="tagfleet catalog stats")
    facts: dict[str, Any] = rows[0]
    if not as_json:
        facts = {
            **facts,
            "tags": " | ".join(facts["tags"] or []),
            "updated_at": local_time(facts["updated_at"], session.settings.tz),
        }
    emit_json(facts) if as_json else emit_facts(facts)


def absolute(uri: str) -> str:
    """An s3:// uri as it is, a local path made absolute; symbolic links and spellings stay as they are."""
    return uri.rstrip("/") if uri.startswith("s3://") else os.path.abspath(Path(uri).expanduser())  # noqa: PTH100  # Path.absolute keeps "..", resolve follows links


def _table(session: Session) -> Table:
    from tagfleet.store.tables import Table

    return Table(session.root, "catalog")


def _mapping(pairs: list[str]) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        ours, sep, theirs = pair.partition("=")
        if not sep or not ours or not theirs:
            raise UsageError(f"cannot read --map {pair!r}", hint="write --map OURS=THEIRS, e.g. --map track_id=曲ID")
        mapping[ours] = theirs
    return mapping


def _refuse(checked: CheckedRows) -> None:
    if checked.problems:
        raise CatalogError(
            f"{len(checked.problems)} bad rows; nothing was imported",
            problems=tuple(map(str, checked.problems)),
            hint="mend them, or leave them out with --skip-bad",
        )


def _write_rejects(checked: CheckedRows, path: Path) -> None:
    import json

    if not checked.problems:
        return
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for problem, row in zip(checked.problems, checked.rejected, strict=True):
            content = {"line": problem.line, "problem": problem.message, "row": row.values}
            file.write(json.dumps(content, ensure_ascii=False, default=str) + "\n")
    say(f"{len(checked.problems)} bad rows left out, with their reasons in {path}")


def _commit(
    session: Session,
    known: pa.Table | None,
    base_version: int,
    tracks: pa.Table,
    *,
    note: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from tagfleet.catalog.versions import compare

    changes = asdict(compare(known, tracks))
    version = None
    if not dry_run and (known is None or any(changes[name] for name in ("added", "changed", "removed"))):
        version = _table(session).replace(tracks, note=note, base_version=base_version)
    if as_json:
        emit_json({"n_tracks": tracks.num_rows, **changes, "version": version, "root": session.root.root})
        return
    counts = ", ".join(f"{count} {name}" for name, count in changes.items())
    outcome = "nothing written (dry run)" if dry_run else "no new version" if version is None else f"version {version}"
    say(f"Catalogue of {tracks.num_rows} tracks: {counts}; {outcome} in {session.root.root}")
