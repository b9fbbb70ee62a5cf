"""What networks and servers do."""

from __future__ import annotations

from typing import Any, Literal

from tests.chaos.phases import COMMIT, READ, at, some_read
from tests.chaos.rules import Rule
from tests.chaos.scene import Fault, Scene

_DOWN_S = 10


def _down(scene: Scene) -> None:
    def strike() -> None:
        scene.proxy.down(_DOWN_S)
        scene.struck()

    scene.proxy.add(at(READ, some_read(scene), "before", strike))


def _lasting(name: str, **rule: Any) -> Fault:
    """The whole run long, and when it is started again as well."""

    def arm(scene: Scene) -> None:
        made = Rule(**rule, seed=scene.random.randrange(1 << 30))
        scene.proxy.add(made)
        scene.notes.append(lambda: f"{made.n_applied} of {made.n_matches} requests")
        scene.struck()

    return Fault(name=name, arm=arm, again=arm)


def _commit_lost(what: Literal["request", "answer"]) -> Fault:
    """The first request of the commit fails: before the server heard of it, or after it did what was asked."""

    def arm(scene: Scene) -> None:
        scene.proxy.add(Rule(**COMMIT, n=1, drop=what, before=lambda request: scene.struck()))

    return Fault(name=f"{what} of the commit lost", arm=arm)


NETWORK = (
    Fault(name=f"S3 down for {_DOWN_S} s", arm=_down),
    _lasting("5 % of answers 503", share=0.05, busy=True),
    _lasting("slow answers", share=0.2, delay_s=0.7),
    _lasting("cut answers", method="GET", share=0.1, keep=0.5),
    _commit_lost("request"),
    _commit_lost("answer"),
)
