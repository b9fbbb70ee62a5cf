"""One fault, one seed: a root of its own, starts of `tagfleet retag` until one ends well, and what is there then."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tagfleet.fleet.cluster import ray_cluster
from tagfleet.fleet.resources import RayConfig
from tests.chaos.bucket import Bucket
from tests.chaos.catalogue import make_songs
from tests.chaos.check import Findings, check, heard_again, orphans
from tests.chaos.processes import Start
from tests.chaos.proxy import Proxy, proxied
from tests.chaos.reader import Reader
from tests.chaos.state import AUDIO, SETTINGS, WORKERS, State, prepare
from tests.s3server import S3Server

MOST_STARTS = 4
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


@contextmanager
def world(server: S3Server, n_tracks: int) -> Iterator[World]:
    """Made once; the environment leads to `server`. Uses the Ray that is connected, or one of its own for a while."""
    bucket = Bucket(f"chaos-{time.time_ns()}", server.endpoint_url)
    bucket.client.create_bucket(Bucket=bucket.name)
    with ray_cluster(RayConfig(n_cpus=WORKERS, object_store_mb=80)):
        state = prepare(bucket, make_songs(n_tracks))
    with proxied(server.endpoint_url) as proxy:
        yield World(server=server, bucket=bucket, proxy=proxy, state=state, n_tracks=n_tracks)


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

    def struck(self, *, parts: int = 0) -> None:
        """The fault has happened."""
        self.n_struck += 1
        self.at_risk += parts

    def start(self, run_id: str | None = "chaos", environment: Mapping[str, str] | None = None) -> Start:
        """`tagfleet retag`, through the proxy."""
        environ = {**os.environ, **self.world.server.environment, "AWS_ENDPOINT_URL": self.proxy.endpoint_url}
        environ |= {"PYTHONPATH": str(REPOSITORY), "RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}
        words = ["--root", self.world.bucket.uri(self.root), "retag", *(["--run-id", run_id] if run_id else [])]
        words += [*SETTINGS, *self.words]
        start = Start(words, environ | self.environment | dict(environment or {}), self.folder / "log")
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
    catalog_moves: bool = False
    """Whether the catalogue has another version in the end, which the next run tags."""
    missing: Callable[[], str] = lambda: ""
    """Why it cannot be tried here."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A row of the table."""

    fault: str
    seed: int
    struck: bool
    codes: tuple[int, ...]
    findings: Findings
    repeated: int
    """Tracks heard again."""
    bound: int
    """How many may be."""
    n_orphans: int
    seconds: float
    note: str

    @property
    def survived(self) -> bool:
        return self.codes[-1] == 0 and self.findings.fine and self.repeated <= self.bound


def try_fault(world: World, fault: Fault, seed: int, keep_logs: Path | None = None) -> Result:
    """Let it happen once."""
    begun = time.monotonic()
    root = f"{fault.name} {seed} 曲 #1?50%&a+b".replace(" ", "_")
    world.state.copy(root)
    world.proxy.clear()
    folder = Path(tempfile.mkdtemp(prefix="c-"))  # short: Ray puts sockets below
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        scene = Scene(world=world, root=root, folder=folder, random=random.Random(seed), stack=stack)
        with Reader(world.bucket, root, world.state.id_sets) as reader:
            fault.arm(scene)
            codes = [fault.first(scene)]
            while codes[-1] and len(codes) < MOST_STARTS:
                scene.struck(parts=WORKERS)
                world.proxy.rules = []
                if fault.again:
                    fault.again(scene)
                codes.append(scene.start(None if fault.new_run else "chaos").wait())
            if fault.catalog_moves:
                codes.append(scene.start(None).wait())
            reader.look()
        repeated = heard_again(world.proxy.log, f"/{world.bucket.name}/{AUDIO}/")
        findings = check(world.bucket, root, world.state.expected, world.state.lineage)
        wrong = (*findings.wrong, *(f"reader: {problem}" for problem in reader.problems))
        result = Result(
            fault=fault.name,
            seed=seed,
            struck=scene.n_struck > 0,
            codes=tuple(codes),
            findings=Findings(lost=findings.lost, doubled=findings.doubled, wrong=wrong),
            repeated=repeated,
            bound=scene.at_risk * world.tracks_per_part,
            n_orphans=len(orphans(world.bucket, f"{root}/predictions")),
            seconds=time.monotonic() - begun,
            note="; ".join(note() for note in scene.notes),
        )
        if keep_logs and not (result.survived and result.struck):
            shutil.copy(folder / "log", keep_logs / f"{fault.name}-{seed}.log")
    return result
