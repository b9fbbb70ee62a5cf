"""The command tree, and the one place where errors become a line, a hint and an exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from tagfleet import __version__
from tagfleet.cli import (
    catalog,
    config,
    demo,
    doctor,
    evaluate,
    jobs,
    labels,
    models,
    predictions,
    retag,
    submit,
    train,
    tune,
)
from tagfleet.cli.output import be_quiet, complain, emit_json, printable
from tagfleet.cli.session import Session
from tagfleet.config import Layer
from tagfleet.errors import TagfleetError

MAX_PROBLEMS_SHOWN = 20
BUG = 70
INTERRUPTED = 130

app = typer.Typer(
    name="tagfleet",
    help="Batch tagging for music catalogues: genre, instrument and mood, from audio to Parquet.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(catalog.app, name="catalog")
app.add_typer(labels.app, name="labels")
app.add_typer(models.app, name="models")
app.add_typer(predictions.app, name="predictions")
app.add_typer(config.app, name="config")
app.add_typer(submit.app, name="submit")
app.add_typer(jobs.app, name="jobs")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(evaluate.report)
app.command("retag")(retag.retag)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tagfleet {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("-c", "--config", help="Settings file instead of ./tagfleet.toml.")
    ] = None,
    root: Annotated[str | None, typer.Option(help="Storage root: a folder or s3://bucket/prefix.")] = None,
    tz: Annotated[str | None, typer.Option(help="Time zone in which times are shown.")] = None,
    lang: Annotated[str | None, typer.Option(help="Language of labels: ja or en.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no remarks.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="More; -vv shows tracebacks.")] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command hold for every command."""
    values = {name: value for name, value in (("root", root), ("tz", tz), ("lang", lang)) if value is not None}
    verbosity = -1 if quiet else verbose
    be_quiet(quiet)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO if verbosity > 0 else logging.WARNING)
    context.obj = Session(file=file, flags=(Layer(name="flag", values=values),), verbosity=verbosity)


def run() -> None:
    """Entry point: run the command, exit with its meaning (docs/cli.md lists the codes)."""
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error is told on stderr, or as JSON with `--json`."""
    as_json = "--json" in arguments
    show_traceback = any(a.startswith("-v") and set(a[1:]) == {"v"} and len(a) > 2 for a in arguments)
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments or ["--help"], prog_name="tagfleet", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as leave:
        return leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        complain("Interrupted.")
        return INTERRUPTED
    except TagfleetError as error:
        if show_traceback:
            traceback.print_exc()
        _tell(error, as_json)
        return error.exit_code
    except Exception as error:  # the last resort: a bug must not look like a usage error
        if usage := getattr(error, "format_message", None):
            _tell(TagfleetError(usage(), hint="tagfleet --help"), as_json, code="usage")
            return 2
        traceback.print_exc()
        _tell(
            TagfleetError(f"{type(error).__name__}: {error}", hint="this is a bug: please report it"),
            as_json,
            code="bug",
        )
        return BUG


def _tell(error: TagfleetError, as_json: bool, code: str | None = None) -> None:
    if as_json:
        told = {"code": code or error.code, "message": error.message, "hint": error.hint}
        problems = {"problems": list(error.problems)} if error.problems else {}
        emit_json({"error": {**told, **problems}})
        return
    complain(f"Error: {printable(error.message)}")
    for problem in error.problems[:MAX_PROBLEMS_SHOWN]:
        complain(f"  {printable(problem)}")
    if len(error.problems) > MAX_PROBLEMS_SHOWN:
        complain(f"  … and {len(error.problems) - MAX_PROBLEMS_SHOWN} more (--json lists all)")
    if error.hint:
        complain(f"Hint: {printable(error.hint)}")
