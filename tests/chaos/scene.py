"""What all tries share, where one fault strikes, and what a fault is."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.bucket import Bucket
from tests.chaos.processes import Start
from tests.chaos.proxy import Proxy
from tests.chaos.state import SETTINGS, WORKERS, State
from tests.s3server import S3Server

PARTS_PER_WORKER = 8
MOST_PER_PART = 128
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class World:
    """What all runs share."""

    server: S3Server
    bucket: Bucket
    proxy: Proxy
    state: State
    n_tracks: int

    @property
    def tracks_per_part(self) -> int:
        """Of a run on WORKERS workers: what may be heard twice per worker and interruption."""
        return min(MOST_PER_PART, -(-self.n_tracks // (WORKERS * PARTS_PER_WORKER)))


@dataclass(kw_only=True)
class Scene:
    """Where one fault strikes."""

    world: World
    root: str
    """Key."""
    folder: Path
    random: random.Random
    stack: ExitStack
    """What is undone in the end."""
    words: list[str] = field(default_factory=list)
    """Further ones of every start."""
    environment: dict[str, str] = field(default_factory=dict)
    """Beyond `environ`, for every start."""
    starts: list[Start] = field(default_factory=list)
    n_struck: int = 0
    at_risk: int = 0
    """Parts that may have been under way when something struck."""
    notes: list[Callable[[], str]] = field(default_factory=list)
    """Asked in the end."""

    @property
    def proxy(self) -> Proxy:
        return self.world.proxy

    @property
    def driver(self) -> Start:
        """The latest start."""
        return self.starts[-1]

    def kill_driver(self) -> None:
        """kill -9 of the latest start, if it still runs."""
        if self.driver.running:
            self.driver.kill()

    def struck(self, *, parts: int = 0) -> None:
        """The fault has happened."""
        self.n_struck += 1
        self.at_risk += parts

    @property
    def environ(self) -> dict[str, str]:
        """In which all processes find the proxy as their S3 server."""
        environ = {**os.environ, **self.world.server.environment, "AWS_ENDPOINT_URL": self.proxy.endpoint_url}
        return environ | {"PYTHONPATH": str(REPOSITORY), "RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}

    def start(self, run_id: str | None = "chaos") -> Start:
        """`tagfleet retag`, through the proxy."""
        words = ["--root", self.world.bucket.uri(self.root), "retag", *(["--run-id", run_id] if run_id else [])]
        words += [*SETTINGS, *self.words]
        start = Start(words, {**self.environ, **self.environment}, self.folder / "log")
        self.stack.callback(start.clean)
        self.starts.append(start)
        return start


def one_start(scene: Scene) -> int:
    """What happens in the first night, unless a fault says otherwise."""
    return scene.start().wait()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong."""

    name: str
    arm: Callable[[Scene], None]
    """Says what shall happen, before the first start."""
    first: Callable[[Scene], int] = one_start
    """The first night; the exit code."""
    again: Callable[[Scene], None] | None = None
    """Before the second start; without, the proxy is harmless from then on."""
    new_run: bool = False
    """Whether people start a new run afterwards, and not the same once more."""
    next_night: bool = False
    """Whether something is left to the next run: another catalogue, tracks that failed for a reason that passes."""
    missing: Callable[[], str] = lambda: ""
    """Why it cannot be tried here."""
