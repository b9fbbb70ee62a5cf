"""kill -9 of what a run consists of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from tests.chaos.phases import COMMIT, LEASE, MOMENTS, PLAN, READ, WRITE, Moment, at, some_read, some_write
from tests.chaos.processes import kill
from tests.chaos.scene import Fault, Scene
from tests.chaos.state import WORKERS

WORKER, DECODER, HEAD = "Tagging", "decoder_child", "gcs_server"
_MOST_PAUSE_S = 0.4


def kill_driver(scene: Scene) -> Callable[[], None]:
    """What kills the latest start."""

    def strike() -> None:
        scene.driver.kill()
        scene.struck()  # what was under way is counted where its end is seen

    return strike


def _driver(name: str, phase: Mapping[str, str], moment: Moment | None, nth: Callable[[Scene], int]) -> Fault:
    """Without `moment` the seed draws it."""

    def arm(scene: Scene) -> None:
        when = moment or scene.random.choice(MOMENTS)
        scene.notes.append(lambda: when)
        scene.proxy.add(at(phase, nth(scene), when, kill_driver(scene)))

    return Fault(name=f"driver killed: {name}", arm=arm)


def _first(scene: Scene) -> int:
    return 1


def _while_decoding(scene: Scene) -> None:
    strike, pause_s = kill_driver(scene), scene.random.uniform(0, _MOST_PAUSE_S)
    scene.proxy.add(at(READ, some_read(scene), "after", lambda: threading.Timer(pause_s, strike).start()))


def _machine_lost(scene: Scene) -> None:
    """Driver, Ray and workers at once: nothing lives on to finish what it began."""

    def strike() -> None:
        pids = scene.driver.others()
        scene.driver.kill()
        for pid in pids:
            kill(pid)
        scene.struck()

    phase, nth = scene.random.choice([(READ, some_read(scene)), (WRITE, some_write(scene))])
    scene.proxy.add(at(phase, nth, scene.random.choice(MOMENTS), strike))


def _process(name: str, title: str, phase: Mapping[str, str], *, parts: int, next_night: bool = False) -> Fault:
    """One process of the run's Ray, by what stands in its command line."""

    def arm(scene: Scene) -> None:
        def strike() -> None:
            if pids := scene.driver.others(title):
                kill(scene.random.choice(pids))
                scene.struck(parts=parts)

        nth = some_read(scene) if phase is READ else some_write(scene)
        scene.proxy.add(at(phase, nth, scene.random.choice(MOMENTS), strike))

    return Fault(name=name, arm=arm, next_night=next_night, missing=_no_decoder if title == DECODER else lambda: "")


def _no_decoder() -> str:
    return "" if find_spec("tagfleet.fleet.decoder_child") else "there is no decoder process yet"


KILLS = (
    _driver("lease", LEASE, None, _first),
    _driver("plan", PLAN, None, lambda scene: scene.random.randint(1, 2)),
    _driver("read", READ, "before", some_read),
    Fault(name="driver killed: decode", arm=_while_decoding),
    _driver("write", WRITE, None, some_write),
    _driver("before commit", COMMIT, "before", _first),
    _driver("during commit", COMMIT, "answered", _first),
    _driver("after commit", COMMIT, "after", _first),
    Fault(name="all killed at once", arm=_machine_lost),
    _process("worker killed: read", WORKER, READ, parts=1),
    _process("worker killed: write", WORKER, WRITE, parts=1),
    # Its track ends as failed, for a reason that passes: the next night hears it.
    _process("decoder killed", DECODER, READ, parts=1, next_night=True),
    _process("head killed", HEAD, READ, parts=WORKERS),
)
