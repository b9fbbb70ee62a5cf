"""Data on stdout, everything else on stderr; catalogue text never reaches the terminal unescaped."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from tagfleet.errors import UsageError

_quiet = False

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")]


def printable(value: object) -> str:
    r"""Text that cannot move the cursor, change colours or reorder a line: control and format characters as escapes.

    >>> print(printable("a\x1b[31mb\u202ec\n"))
    a\x1b[31mb\u202ec\n
    """
    text = "" if value is None else str(value)
    return "".join(
        # ZWJ and variation selectors build emoji and are harmless.
        character.encode("unicode_escape").decode() if _is_control(character) else character
        for character in text
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and character != "\u200d"


def say(message: str) -> None:
    """A remark for the person, on stderr; not made under `-q`."""
    if not _quiet:
        typer.echo(message, err=True)


def complain(message: str) -> None:
    """A line of an error, on stderr, in any case."""
    typer.echo(message, err=True)


def be_quiet(quiet: bool) -> None:
    """Whether remarks are made from now on."""
    global _quiet
    _quiet = quiet


def emit_json(value: object) -> None:
    """Exactly one JSON document on stdout; times as ISO 8601 in UTC, no NaN."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    return value


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Rows on stdout: a table on a terminal, tab-separated with a header line elsewhere."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (columns, *cells):
            sys.stdout.write("\t".join(line) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def emit_facts(facts: Mapping[str, Any]) -> None:
    """Name and value, a line each, on stdout."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
        sys.stdout.write(f"{name:<{width}}  {printable(shown)}\n")


def made_folder(path: Path) -> Path:
    """A folder to write into, made when it is not there. UsageError when it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} is no folder that can be written: {error.strerror}", hint="check -o") from error
    return path


def local_time(moment: datetime | None, zone: str) -> str:
    """A UTC time as a person of `zone` reads it, with the zone's name.

    >>> from datetime import UTC
    >>> local_time(datetime(2026, 11, 23, 18, 0, tzinfo=UTC), "Asia/Tokyo")
    '2026-11-24 03:00:00 JST'
    """
    return "" if moment is None else moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")
