"""Progress on stderr: a bar on a terminal; elsewhere one heartbeat line every 30 s, for `kubectl logs`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tagfleet.cli.output import say

HEARTBEAT_S = 30.0

Advance = Callable[[int, int], None]
"""advance(done, failed): totals so far, not differences."""


@contextmanager
def progress(what: str, total: int | None, *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far `what` is; the body calls the yielded function with totals."""
    if quiet:
        yield lambda done, failed: None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        with _heartbeat(what, total) as advance:
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


@contextmanager
def _heartbeat(what: str, total: int | None) -> Iterator[Advance]:
    start = time.monotonic()
    totals = (0, 0)
    over = Event()

    def tell() -> None:
        done, failed = totals
        rate = done / max(time.monotonic() - start, 1e-9)
        of = f"/{total}" if total is not None else ""
        left = f", {(total - done) / rate:.0f} s left" if total is not None and 0 < done < total else ""
        say(f"{what}: {done}{of}, {rate:.1f}/s, {failed} failed{left}")

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            tell()

    def advance(done: int, failed: int) -> None:
        nonlocal totals
        totals = (done, failed)

    thread = Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        over.set()
        thread.join()
    if total or totals != (0, 0):
        tell()
