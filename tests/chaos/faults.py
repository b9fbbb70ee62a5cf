"""What goes wrong, and when: seen from the requests that a run makes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from tests.chaos.harness import Fault, Scene
from tests.chaos.messages import Message
from tests.chaos.processes import kill
from tests.chaos.rules import Rule
from tests.chaos.state import AUDIO, WORKERS

Moment = Literal["before", "answered", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "answered", "after")
LEASE = {"method": "PUT", "path": "/leases/retag/"}
PLAN = {"method": "PUT", "path": "/runs/[^/]+/plan"}
READ = {"method": "GET", "path": f"^/[^/]+/{AUDIO}/"}
WRITE = {"method": "PUT", "path": r"/predictions/run-[^/]+/[0-9a-f]{32}\.parquet$"}
COMMIT = {"method": "PUT", "path": r"/predictions/_delta_log/\d{20}\.json$"}

WORKER = "Tagging"
HEAD = "gcs_server"
_MOST_PAUSE_S = 0.4


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


def _kill_driver(scene: Scene) -> Callable[[], None]:
    def strike() -> None:
        scene.driver.kill()
        scene.struck()  # the harness counts its end as an interruption

    return strike


def driver_killed(name: str, phase: dict[str, str], moment: Moment | None, nth: Callable[[Scene], int]) -> Fault:
    """kill -9 of the driver; without `moment` a seed draws it."""

    def arm(scene: Scene) -> None:
        when: Moment = moment or scene.random.choice(MOMENTS)
        scene.notes.append(lambda: when)
        scene.proxy.add(at(phase, nth(scene), when, _kill_driver(scene)))

    return Fault(name=f"driver killed: {name}", arm=arm)


def _first(scene: Scene) -> int:
    return 1


def _decode(scene: Scene) -> None:
    strike, pause_s = _kill_driver(scene), scene.random.uniform(0, _MOST_PAUSE_S)
    scene.proxy.add(at(READ, some_read(scene), "after", lambda: threading.Timer(pause_s, strike).start()))


def process_killed(name: str, *titles: str, phase: dict[str, str] = READ, parts: int = 1) -> Fault:
    """kill -9 of one process of the run's Ray."""

    def arm(scene: Scene) -> None:
        def strike() -> None:
            pids = scene.driver.others(*titles)
            if pids:
                kill(scene.random.choice(pids))
                scene.struck(parts=parts)

        nth = some_read(scene) if phase is READ else some_write(scene)
        scene.proxy.add(at(phase, nth, scene.random.choice(MOMENTS), strike))

    return Fault(name=name, arm=arm)


def rule_lasts(name: str, **rule: Any) -> Fault:
    """A rule for the whole run, and for the next start as well."""

    def arm(scene: Scene) -> None:
        made = Rule(**rule, seed=scene.random.randrange(1 << 30))
        scene.proxy.add(made)
        scene.notes.append(lambda: f"{made.n_applied} of {made.n_matches} requests")
        scene.n_struck += 1

    return Fault(name=name, arm=arm, again=arm)


def _down(scene: Scene) -> None:
    def strike() -> None:
        scene.proxy.down(10)
        scene.struck()

    scene.proxy.add(at(READ, some_read(scene), "before", strike))


def commit_lost(drop: Literal["request", "answer"]) -> Fault:
    """The first request of the commit fails: before or after it happened."""

    def arm(scene: Scene) -> None:
        scene.proxy.add(Rule(**COMMIT, n=1, drop=drop, before=lambda request: scene.struck()))

    return Fault(name=f"{drop} of the commit lost", arm=arm)


FAULTS: tuple[Fault, ...] = (
    driver_killed("lease", LEASE, None, _first),
    driver_killed("plan", PLAN, None, lambda scene: scene.random.randint(1, 2)),
    driver_killed("read", READ, "before", some_read),
    Fault(name="driver killed: decode", arm=_decode),
    driver_killed("write", WRITE, None, some_write),
    driver_killed("before commit", COMMIT, "before", _first),
    driver_killed("during commit", COMMIT, "answered", _first),
    driver_killed("after commit", COMMIT, "after", _first),
    process_killed("worker killed: read", WORKER),
    process_killed("worker killed: write", WORKER, phase=WRITE),
    process_killed("head killed", HEAD, parts=WORKERS),
    Fault(name="S3 down for 10 s", arm=_down),
    rule_lasts("5 % of answers 503", share=0.05, busy=True),
    rule_lasts("slow answers", share=0.2, delay_s=0.7),
    rule_lasts("cut answers", method="GET", share=0.1, keep=0.5),
    commit_lost("request"),
    commit_lost("answer"),
)
