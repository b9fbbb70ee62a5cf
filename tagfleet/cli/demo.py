"""`tagfleet demo`: the whole journey on one machine, by the commands that a user would type."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tagfleet.cli.output import emit_table, say
from tagfleet.cli.progress import progress
from tagfleet.cli.session import Session
from tagfleet.config import Layer
from tagfleet.errors import JobError, UsageError
from tagfleet.settings import FILE_NAME

MARK = "demo.json"


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the audio, the settings and the storage root.")] = Path("demo"),
    tracks: Annotated[int, typer.Option(help="Tracks to synthesise.", min=40)] = 120,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; default: as for `train`.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Decides every note, name and weight.", min=0)] = 7,
) -> None:
    """Synthesise a small catalogue, label it, train a tagger, tag everything, publish a snapshot."""
    from tagfleet.fleet.cluster import ray_cluster

    session: Session = context.obj
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    _write_audio(session, out, tracks, seed)
    settings = _write_settings(session, out, epochs, seed)
    inner = Session(file=settings, flags=(Layer(name="flag", values={"root": _demo_root(session, out)}),))
    root = inner.root
    run_id = f"demo-{tracks}-tracks-{inner.settings.train.epochs}-epochs-seed-{seed}"
    started = root.exists(f"runs/{run_id}/recipe.json")
    at = ("-c", str(settings), "--root", root.root)
    with ray_cluster(inner.settings.ray):  # one start for both jobs
        _run(at, "catalog", "import", str(out / "catalog.csv"), "--audio-root", str(out / "audio"))
        _run(at, "labels", "build", "all")
        _run(at, "train", *(("--resume", run_id) if started else ("--run-id", run_id)))
        _run(at, "models", "promote", "tagger", "--force", "--why", "the demo's model, whatever it is worth")
        _run(at, "retag")
    _tell_failures(inner)
    command = shlex.join([_program(), "-c", str(settings)])
    say(
        f"""
Done in {time.monotonic() - start:.0f} s.
  audio      {out / "audio"}
  settings   {settings}
  root       {root.root}   (catalogue, labels, models, runs, predictions)

Try next:
  {command} predictions query "genre = 'rock' AND mood = 'dark'"
  {command} predictions show 001
  {command} labels explain 001
  {command} report tagger -o {shlex.quote(str(out))}
  {command} predictions export parquet {shlex.quote(str(out / "export"))}
and with music of your own: {command} catalog scan FOLDER, then … retag"""
    )


def _write_audio(session: Session, out: Path, tracks: int, seed: int) -> None:
    from tagfleet.demo.catalog import write_demo

    wanted = {"tracks": tracks, "seed": seed}
    mark = out / MARK
    if mark.exists():
        if json.loads(mark.read_text(encoding="utf-8")) != wanted:
            raise UsageError(f"{out} holds another demo", hint="choose another --out, or delete that folder")
        say(f"The audio is in {out} already.")
        return
    with progress("Synthesising", tracks, quiet=session.quiet) as advance:
        write_demo(out, tracks, seed, lambda done: advance(done, 0))
    mark.write_text(json.dumps(wanted), encoding="utf-8")


def _demo_root(session: Session, out: Path) -> str:
    """`root/` beside the audio, or what `--root` names on this very call.

    A root from settings or the environment may be a real one: the demo must not put its catalogue in that place.
    """
    from tagfleet.store.objects import Storage

    named = session.loaded.sources.get("root") == "flag"
    return Storage(session.settings.root).root if named else str((out / "root").absolute())


def _write_settings(session: Session, out: Path, epochs: int | None, seed: int) -> Path:
    """Settings for this folder: the root beside the audio unless one was named, and the demo's training."""
    root = _demo_root(session, out)
    path = out / FILE_NAME
    if path.exists() and epochs is None:
        return path
    path.write_text(
        f"# Written by `tagfleet demo`; `tagfleet config show` lists what else can be set.\n"
        f"root = {json.dumps(root, ensure_ascii=False)}\n\n"
        f'[labels]\ntaxonomy = "taxonomy.toml"\n\n[train]\nseed = {seed}\n'
        + (f"epochs = {epochs}\n" if epochs else ""),
        encoding="utf-8",
    )
    return path


def _run(at: tuple[str, ...], *words: str) -> None:
    from tagfleet.cli.main import exit_code

    say(f"\n$ tagfleet {shlex.join(words)}")
    code = exit_code([*at, *words])
    if code:
        raise JobError(f"`tagfleet {words[0]}` ended with exit code {code}", hint="see the message above")


def _program() -> str:
    """How this program is called from here: by its name where the shell finds it, else by its path."""
    found = shutil.which("tagfleet")
    here = Path(sys.argv[0])
    if found and here.name == "tagfleet" and not Path(found).samefile(here):
        found = None
    return "tagfleet" if found else os.path.relpath(Path(sys.executable).with_name("tagfleet"))


def _tell_failures(session: Session) -> None:
    from tagfleet.store.predictions import Predictions

    columns = ("source_name", "error_stage", "error_reason", "error_detail")
    failed = Predictions(session.root).query("status = 'failed'", columns=columns)
    say("\nTracks that could not be tagged, each a row with its reason:")
    emit_table(columns, (row.values() for row in failed.to_pylist()))
