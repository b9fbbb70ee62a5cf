"""Progress as lines: one every 30 s, for logs that nobody sees live (`kubectl logs`, `tagfleet jobs logs`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tagfleet.fleet.runs import Advance

HEARTBEAT_S = 30.0


@contextmanager
def heartbeat(say: Callable[[str], None], what: str, total: int | None) -> Iterator[Advance]:
    """Say how far `what` is, every 30 s and at its end; the body calls the yielded function with totals."""
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
