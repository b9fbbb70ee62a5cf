"""Others at the same storage root, and clocks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from tests.chaos.kills import kill_driver
from tests.chaos.messages import Message
from tests.chaos.phases import COMMIT, LEASE, PLAN, READ, at, some_read
from tests.chaos.rules import Rule
from tests.chaos.scene import Fault, Scene

_WAIT_S = 120
_HOUR_S = 3600


def _meeting(n: int) -> Callable[[Message], None]:
    """Who comes there waits until all `n` have come, or for so long that something else is the matter."""
    barrier = threading.Barrier(n)

    def wait(request: Message) -> None:
        try:
            barrier.wait(_WAIT_S)
        except threading.BrokenBarrierError:
            return

    return wait


def _two_at_once(scene: Scene) -> int:
    """Two runs ask for the lease at the same moment."""
    scene.proxy.add(Rule(**LEASE, n=2, before=_meeting(2)))
    starts = [scene.start("chaos"), scene.start("rival")]
    codes = [start.wait() for start in starts]
    scene.notes.append(lambda: f"both at once: {codes}")
    if sorted(codes) == [0, 1]:
        scene.struck()
    return max(codes)


def _lease_lost(scene: Scene) -> int:
    """The lease does not keep a second run out; both come to the commit at the same moment."""
    under_way = threading.Event()
    scene.proxy.add(at(READ, some_read(scene), "before", under_way.set))
    scene.proxy.add(Rule(method="PUT", path=r"leases/retag/0*1\.json$", first=2, drop="request"))
    scene.proxy.add(Rule(**COMMIT, n=2, before=_meeting(2)))
    first = scene.start("chaos")
    under_way.wait(_WAIT_S)
    _rewrite_lease(scene, ended=True)
    codes = [scene.start("rival").wait(), first.wait()]
    scene.notes.append(lambda: f"both at work: {codes}")
    scene.struck(parts=1 + scene.world.n_tracks // scene.world.tracks_per_part)
    return max(codes)


def _catalog_moves(scene: Scene) -> None:
    """Somebody commits another catalogue while the run plans, reads, or commits."""

    def strike() -> None:
        scene.world.state.commit_catalog(scene.root)
        scene.struck()

    phase, nth = scene.random.choice([(PLAN, 1), (READ, some_read(scene)), (COMMIT, 1)])
    scene.proxy.add(at(phase, nth, "before", strike))


def _clock_goes_back(scene: Scene) -> None:
    """The dead run's lease is of another machine and says that it is an hour later."""
    _rewrite_lease(scene, host="elsewhere", renewed_at=time.time() + _HOUR_S)


def _rewrite_lease(scene: Scene, **facts: object) -> None:
    bucket = scene.world.bucket
    key = max(bucket.keys(f"{scene.root}/leases/retag"))
    bucket.put({key: json.dumps(json.loads(bucket.read(key)) | facts).encode()})


def _killed(scene: Scene) -> None:
    scene.proxy.add(at(READ, some_read(scene), "before", kill_driver(scene)))


def _nothing(scene: Scene) -> None:
    pass


RIVALS = (
    Fault(name="two runs at once", arm=_nothing, first=_two_at_once, new_run=True),
    Fault(name="two runs in spite of the lease", arm=_nothing, first=_lease_lost, new_run=True),
    Fault(name="catalogue changed mid-run", arm=_catalog_moves, next_night=True),
    Fault(name="clock an hour back", arm=_killed, again=_clock_goes_back),
)
