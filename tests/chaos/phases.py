"""The phases of `tagfleet retag`, as the requests that it makes show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tests.chaos.messages import Message
from tests.chaos.rules import Rule
from tests.chaos.scene import Scene
from tests.chaos.state import AUDIO

Moment = Literal["before", "answered", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "answered", "after")
LEASE = {"method": "PUT", "path": "/leases/retag/"}
PLAN = {"method": "PUT", "path": "/runs/[^/]+/plan"}
READ = {"method": "GET", "path": f"^/[^/]+/{AUDIO}/"}
WRITE = {"method": "PUT", "path": r"/predictions/run-[^/]+/[0-9a-f]{32}\.parquet$"}
COMMIT = {"method": "PUT", "path": r"/predictions/_delta_log/\d{20}\.json$"}


def at(phase: dict[str, str], nth: int, moment: Moment, strike: Callable[[], None]) -> Rule:
    """A rule that calls `strike` once, at the nth request of a phase."""

    def called(request: Message) -> None:
        strike()

    return Rule(**phase, first=nth, n=1, **{moment: called})  # type: ignore[arg-type]


def some_read(scene: Scene) -> int:
    """The number of a GET of audio, well before the last."""
    return scene.random.randint(1, scene.world.n_tracks * 3 // 4)


def some_write(scene: Scene) -> int:
    """The number of a part, before the last."""
    return scene.random.randint(1, scene.world.n_tracks // scene.world.tracks_per_part * 3 // 4)
