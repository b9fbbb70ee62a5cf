"""Who re-tags now: a lease below the root, so that a second run notices before it works.

leases/retag/<number>.json      the highest number counts; each is made once, exclusively

It saves work, not data: what two runs would do to the table, the commit itself prevents. So clocks may be wrong: a
holder whose clock went back looks dead, and the commit then decides.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tagfleet.errors import ConflictError, NotFoundError, RunAtWork, StorageError
from tagfleet.store.objects import Storage

FOLDER = "leases/retag"
TTL_S = 60.0
"""So long after it was last renewed a lease counts."""
_POLL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What the holder says of itself."""

    run_id: str
    owner: str
    """Of this very start."""
    host: str
    pid: int
    began: str | None
    """When the process began, as its system counts: another process that got the same pid has another."""
    taken_at: str
    renewed_at: float
    """Seconds since 1970, by the holder's clock."""
    last_run: str = ""
    """The last re-tag, which is this one unless somebody only tidies up."""
    last_run_ended: bool = True
    """Of another's lease: whether that re-tag was still heard to end, or may be at work where it cannot be heard."""
    ended: bool = False
    """True when the run is over, however it ended."""

    def alive(self, now: float) -> bool:
        """Whether the holder may still be at work: no more than TTL_S away from its last sign of life."""
        if self.ended or abs(now - self.renewed_at) > TTL_S:
            return False
        return self.host != socket.gethostname() or _process_began(self.pid) == self.began


@contextmanager
def lease(root: Storage, run_id: str, *, housekeeping: bool = False) -> Iterator[Lease]:
    """Hold the lease while the body runs. housekeeping: it is no re-tag, only must not meet one.

    Raises ConflictError when another holds it, RunAtWork when an earlier start of the same run does. After a start of
    the same run on another machine it waits, for a minute at most, until that one's lease has run out: it is dead, or
    it would still renew it.
    """
    number, mine = _take(root, run_id, housekeeping)
    over = Event()

    def renew() -> None:
        while not over.wait(TTL_S / 4):
            with suppress(StorageError):  # the next one brings it
                _write(root, number, replace(mine, renewed_at=time.time()))

    thread = Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        over.set()
        thread.join()
        with suppress(StorageError):  # it runs out by itself
            _write(root, number, replace(mine, renewed_at=time.time(), ended=True))


def last_lease(root: Storage) -> tuple[int, Lease | None]:
    """The number of the latest lease, 0 without one, and what it says; None where it cannot be read."""
    keys = [info.key for info in root.list(FOLDER)]
    if not keys:
        return 0, None
    try:
        said = Lease(**json.loads(root.read(keys[-1])))
    except (NotFoundError, ValueError, TypeError):
        said = None
    return int(keys[-1].rpartition("/")[2].removesuffix(".json")), said


def _take(root: Storage, run_id: str, housekeeping: bool) -> tuple[int, Lease]:
    deadline = time.monotonic() + TTL_S + 2 * _POLL_S
    while True:
        number, held = last_lease(root)
        now = time.time()
        if held is None or not held.alive(now):
            mine = Lease(
                run_id=run_id,
                owner=secrets.token_hex(8),
                host=socket.gethostname(),
                pid=os.getpid(),
                began=_process_began(os.getpid()),
                taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
                renewed_at=now,
                last_run=run_id,
            )
            if housekeeping:
                mine = replace(mine, **_last_run(held))
            if root.create(_key(number + 1), json.dumps(asdict(mine)).encode()):
                if number > 1:
                    root.delete(_key(number - 1))  # the one before stays: it says which run was interrupted
                return number + 1, mine
        elif held.run_id == run_id and held.host != socket.gethostname() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        else:
            retag = held.run_id == held.last_run
            kind = RunAtWork if held.run_id == run_id else ConflictError
            raise kind(
                f"{'run' if retag else 'predictions'} {held.run_id} is at work since {held.taken_at}"
                f" (process {held.pid} on {held.host}); nothing was done",
                hint=f"wait for it{f': tagfleet jobs status {held.run_id}' if retag else ''}; the lease of a dead one"
                f" ends after {TTL_S:.0f} s",
            )


def _last_run(held: Lease | None) -> dict[str, Any]:
    """What a lease hands on of the last re-tag to one that is none."""
    if held is None:
        return {"last_run": ""}
    ended = held.ended if held.run_id == held.last_run else held.last_run_ended
    return {"last_run": held.last_run, "last_run_ended": ended}


def _write(root: Storage, number: int, mine: Lease) -> None:
    root.write(_key(number), json.dumps(asdict(mine)).encode())


def _key(number: int) -> str:
    return f"{FOLDER}/{number:010d}.json"


def _process_began(pid: int) -> str | None:
    """When a process of this machine began, in clock ticks since it was started; None when there is no such process."""
    if not Path("/proc/self/stat").exists():  # not Linux: only whether there is one
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return "?"
        return "?"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
