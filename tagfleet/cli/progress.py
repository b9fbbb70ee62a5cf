"""Progress on stderr: a bar on a terminal; elsewhere one heartbeat line every 30 s, for `kubectl logs`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        yield _heartbeat(what, total)


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


def _heartbeat(what: str, total: int | None) -> Advance:
    start = last = time.monotonic()

    def advance(done: int, failed: int) -> None:
        nonlocal last
        now = time.monotonic()
        finished = total is not None and done >= total
        if now - last < HEARTBEAT_S and not finished:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        eta = f", {max(0.0, (total - done) / rate):.0f} s left" if total is not None and done and not finished else ""
        say(f"{what}: {done}{f'/{total}' if total is not None else ''}, {rate:.1f}/s, {failed} failed{eta}")

    return advance
