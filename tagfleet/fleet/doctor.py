"""What works and what does not, seen from where it runs: on a laptop, or as a job on the cluster."""

from __future__ import annotations

import importlib.metadata
import platform
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress

from tagfleet import __version__
from tagfleet.config import Section
from tagfleet.errors import NotFoundError, StorageError, TagfleetError
from tagfleet.fleet.cluster import cluster_nodes, ray_cluster
from tagfleet.fleet.resources import RayConfig, Resources
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage, ensure_exclusive_create
from tagfleet.store.tables import NO_TABLE, Table

MAX_NODES = 8
"""So many machines are asked whether they see the root."""


class Check(Section):
    """One thing that was looked at."""

    name: str
    ok: bool
    told: str
    hint: str | None = None


class Inside(Section):
    """What a job on the cluster finds."""

    python: str
    ray: str
    tagfleet: str
    nodes: list[dict[str, float]]
    """cpus, gpus and memory_mb of each machine."""
    checks: list[Check]

    @property
    def machines(self) -> list[Resources]:
        """The machines."""
        return [Resources(**node) for node in self.nodes]


def look_inside(root: Storage, ray_config: RayConfig) -> Inside:
    """The cluster from one of its jobs: versions, machines, and whether each machine can use the root."""
    with ray_cluster(ray_config):
        nodes = cluster_nodes()
        checks = [*check_root(root), *_each_machine(root)]
    return Inside(
        python=platform.python_version(),
        ray=importlib.metadata.version("ray"),
        tagfleet=__version__,
        nodes=[vars(node) for node in nodes],
        checks=checks,
    )


def check_root(root: Storage) -> Iterator[Check]:
    """Whether the root can be written and read, commits are exclusive, and what is in it."""
    written = _tried("storage root", lambda: _write_and_read(root), f"{root.root} can be written and read")
    yield written
    if not written.ok:
        return
    yield _tried("exclusive commits", lambda: ensure_exclusive_create(root), "two runs cannot both commit")
    yield _tried("catalogue", lambda: _version_of(root, "catalog"), hint="tagfleet catalog scan or import")
    yield _tried("labels", lambda: _version_of(root, "labels"), hint="tagfleet labels build all; needed to train")
    yield _tried("model", lambda: _model_of(root), hint="tagfleet train, then tagfleet models promote")


def _tried(name: str, look: Callable[[], str | None], told: str = "", hint: str | None = None) -> Check:
    try:
        return Check(name=name, ok=True, told=look() or told)
    except TagfleetError as error:
        return Check(name=name, ok=False, told=error.message, hint=hint or error.hint)


def _write_and_read(root: Storage) -> None:
    key, said = f"runs/.doctor-{secrets.token_hex(8)}", secrets.token_bytes(8)
    try:
        root.write(key, said)
        if root.read(key) != said:
            raise StorageError(f"{root.root} gives back something else than was written", hint="check the server")
    finally:
        with suppress(StorageError):
            root.delete(key)


def _version_of(root: Storage, name: str) -> str:
    table = Table(root, name)
    version = table.latest()
    if version == NO_TABLE:
        raise NotFoundError(f"there is no {name} in {root.root} yet")
    return f"version {version}"


def _model_of(root: Storage) -> str:
    ref = ModelStore(root).resolve("production")
    return f"{ref} is in production"


def _each_machine(root: Storage) -> Iterator[Check]:
    """A folder on one machine is no root for two: what one writes, each must read."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]][:MAX_NODES]  # type: ignore[no-untyped-call]
    if len(alive) < 2:
        return
    key, said = f"runs/.doctor-{secrets.token_hex(8)}", secrets.token_bytes(8)
    try:
        root.write(key, said)
        look = ray.remote(num_cpus=0)(_reads)
        asked = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(root, key, said)
            for node in alive
        ]
        blind = sum(not seen for seen in ray.get(asked, timeout=120))
    except StorageError:
        return  # told by `check_root`
    except ray.exceptions.RayError as error:
        yield Check(name="all machines", ok=False, told=f"a machine did not answer: {type(error).__name__}")
        return
    finally:
        with suppress(StorageError):
            root.delete(key)
    yield Check(
        name="all machines",
        ok=not blind,
        told=f"{blind} of {len(alive)} machines do not see {root.root}" if blind else f"{len(alive)} see the root",
        hint="use s3://…, or a folder that all machines share" if blind else None,
    )


def _reads(root: Storage, key: str, said: bytes) -> bool:
    try:
        return root.read(key) == said
    except StorageError:
        return False
