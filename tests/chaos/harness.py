"""One fault, one seed: a root of its own, starts of `tagfleet retag` until one ends well, and what is there then."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tagfleet.fleet.cluster import ray_cluster
from tagfleet.fleet.resources import RayConfig
from tests.chaos.bucket import Bucket
from tests.chaos.catalogue import make_songs
from tests.chaos.check import Findings, check, heard_again, left_behind, orphans
from tests.chaos.proxy import proxied
from tests.chaos.reader import Reader
from tests.chaos.scene import Fault, Scene, World
from tests.chaos.state import AUDIO, WORKERS, prepare, vacuum
from tests.s3server import S3Server

MOST_STARTS = 4


@contextmanager
def world(server: S3Server, n_tracks: int) -> Iterator[World]:
    """Made once; the environment leads to `server`. Uses the Ray that is connected, or one of its own for a while."""
    bucket = Bucket(f"chaos-{time.time_ns()}", server.endpoint_url)
    bucket.client.create_bucket(Bucket=bucket.name)
    with ray_cluster(RayConfig(n_cpus=WORKERS, object_store_mb=80)):
        state = prepare(bucket, make_songs(n_tracks))
    with proxied(server.endpoint_url) as proxy:
        yield World(server=server, bucket=bucket, proxy=proxy, state=state, n_tracks=n_tracks)


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
    """Files that no version has, before they were vacuumed."""
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
            if fault.next_night:
                codes.append(scene.start(None).wait())
            reader.look()
        for start in scene.starts:
            start.clean()
        repeated = heard_again(world.proxy.log, f"/{world.bucket.name}/{AUDIO}/")
        n_orphans = len(orphans(world.bucket, f"{root}/predictions"))
        # A run that never ended well has changed nothing: what the reader saw tells whether that is so.
        findings, wrong = Findings(), [f"reader: {problem}" for problem in reader.problems]
        if codes[-1] == 0:
            vacuum(world.bucket.uri(root))
            findings = check(world.bucket, root, world.state.expected, world.state.lineage)
            wrong += [f"left behind: {key}" for key in left_behind(world.bucket, root)]
        result = Result(
            fault=fault.name,
            seed=seed,
            struck=scene.n_struck > 0,
            codes=tuple(codes),
            findings=Findings(lost=findings.lost, doubled=findings.doubled, wrong=(*findings.wrong, *wrong)),
            repeated=repeated,
            bound=scene.at_risk * world.tracks_per_part,
            n_orphans=n_orphans,
            seconds=time.monotonic() - begun,
            note="; ".join(note() for note in scene.notes),
        )
        if keep_logs:
            shutil.copy(folder / "log", keep_logs / f"{fault.name}-{seed}.log")
    return result
