"""Progress on stderr: a bar on a terminal; elsewhere one heartbeat line every 30 s, for `kubectl logs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tagfleet.cli.output import say
from tagfleet.fleet.heartbeat import heartbeat
from tagfleet.fleet.runs import Advance


@contextmanager
def progress(what: str, total: int | None, *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far `what` is; the body calls the yielded function with totals."""
    if quiet:
        yield lambda done, failed: None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        with heartbeat(say, what, total) as advance:
            yield advance


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(done: int, failed: int) -> None:
            bar.update(task, completed=done, note=f"{failed} failed" if failed else "")

        yield advance
